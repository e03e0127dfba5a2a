"""Registration engines, one a file or folder; the table of them, and how to add one, is :mod:`.registry`."""
