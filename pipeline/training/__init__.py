"""What MONAI's engines lack for training: one loss, schedule, handler or data source per file."""
