"""Losses by name: the table, and one file for each that MONAI lacks."""
