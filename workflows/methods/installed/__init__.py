"""The family of methods that other installed packages bring."""
