"""Atlases carried to a scan."""
