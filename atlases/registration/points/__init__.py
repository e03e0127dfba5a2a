"""Points and landmarks, and their files."""
