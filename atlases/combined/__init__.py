"""A network or a classical method together with atlases."""
