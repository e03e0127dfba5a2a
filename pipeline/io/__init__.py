"""Read, check and write scans and label maps by one set of rules."""
