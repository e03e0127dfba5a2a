"""Random fields and chains: neighbours that tend to have one label."""
