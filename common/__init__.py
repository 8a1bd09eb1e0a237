"""What every program shares: command line, files, configuration, settings, and how a result was made."""
