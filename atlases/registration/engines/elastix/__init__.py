"""The engine elastix."""
