"""Highest resident memory of the process that asks, the same way for every measurement."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["peak_resident_bytes"]

_STATUS = Path("/proc/self/status")


def peak_resident_bytes() -> int:
    """Highest resident memory of this process so far, in bytes, all threads and libraries included.

    Linux is asked in ``/proc/self/status``: ``ru_maxrss`` of ``getrusage`` keeps the peak of the parent there, from
    before this program began (Linux manual, getrusage(2) and proc_pid_status(5)). Children do not count.
    """
    if _STATUS.is_file():
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    # Linux counts in units of 1024 bytes, macOS in bytes
    unit = 1 if sys.platform == "darwin" else 1024
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
