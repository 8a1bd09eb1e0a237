"""What the certificates stand on: exact rational forms, Sturm counts, claims."""
