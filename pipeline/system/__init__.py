"""What the operating system has to do with it: processes, locks, disks, memory."""
