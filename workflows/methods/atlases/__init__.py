"""The family of atlases: registration and label fusion."""
