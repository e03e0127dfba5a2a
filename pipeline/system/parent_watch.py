"""End child processes together with their parent, however the parent ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

__all__ = ["end_with_parent"]

#: Of Linux's <sys/prctl.h>.
_PR_SET_PDEATHSIG = 1
#: Seconds between checks of the parent where the system sends no signal at its end.
_INTERVAL = 1.0


def end_with_parent(parent: int) -> None:
    """Kill this process as soon as the one that started it is dead, be it by SIGKILL.

    On Linux the kernel does so, even while a library holds the interpreter for minutes, as elastix and ANTs do. It
    counts from the thread that started this process: that one must live as long as the process is to. Elsewhere a
    thread looks at the parent.

    Args:
        parent: process id of the parent, as the parent itself knows it.
    """
    if not _kernel_watches():
        threading.Thread(target=_watch, args=(parent,), name="parent-watch", daemon=True).start()
    elif os.getppid() != parent:
        _end()  # it ended before the signal was requested


def _kernel_watches() -> bool:
    if sys.platform != "linux":
        return False
    return ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0


def _watch(parent: int) -> None:
    while _is_parent(parent):
        time.sleep(_INTERVAL)
    _end()


def _is_parent(parent: int) -> bool:
    if os.name == "posix":
        return os.getppid() == parent  # an orphan is given another parent
    import psutil

    return psutil.pid_exists(parent)


def _end() -> None:
    os.kill(os.getpid(), signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
