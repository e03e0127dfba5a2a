"""Registration engines, one a file or folder."""
