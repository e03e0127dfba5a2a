"""Label fusion: one rule per file, all on the same candidates."""
