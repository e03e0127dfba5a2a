"""Screen, signals and processes of the command line."""
