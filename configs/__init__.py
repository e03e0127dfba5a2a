"""Templates of the MONAI bundle that atlaseg renders into a run folder (data only)."""
