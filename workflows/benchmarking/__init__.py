"""The parts of ``atlaseg benchmark``."""
