"""What commands make of the files and folders that they are given."""
