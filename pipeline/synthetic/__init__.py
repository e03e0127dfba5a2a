"""Synthetic labelled scans."""
