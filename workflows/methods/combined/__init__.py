"""The families that join atlases with a network or with a classical method."""
