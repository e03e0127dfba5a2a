"""Corrective learning: what fusion gets wrong every time."""
