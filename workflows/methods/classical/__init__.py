"""The family of classical methods, and what grows from seeds without a run."""
