"""Whole jobs and the command line."""
