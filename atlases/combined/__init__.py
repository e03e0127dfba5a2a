"""Combine a network or a classical method with atlases."""
