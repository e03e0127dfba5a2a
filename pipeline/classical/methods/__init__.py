"""The classical methods, one a file."""
