"""Parts of ``atlaseg benchmark``."""
