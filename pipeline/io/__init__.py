"""Files of scans and label maps: read, judged and written by one set of rules."""
