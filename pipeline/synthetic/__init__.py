"""Labelled scans that are made, not measured."""
