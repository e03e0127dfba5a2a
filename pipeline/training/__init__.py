"""Training: handlers, losses, schedules and data sources that MONAI lacks, one per file."""
