"""What the programs read: tables of the studies, and the titles of the names in them."""
