"""Operating system: processes, locks, disks, memory and devices."""
