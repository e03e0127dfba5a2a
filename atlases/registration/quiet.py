"""Libraries that talk on standard output from C++, kept quiet for the time of a call."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet", "without_warnings"]


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing that is written to file descriptors 1 and 2 while this lasts reaches the user.

    Python's own streams are flushed first, so that nothing of them is lost. The descriptors belong to the whole
    process: what other threads print in the meantime is lost too, so engines that need this run in worker processes
    when several registrations go on at once.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    kept = [os.dup(1), os.dup(2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        yield
    finally:
        for number, descriptor in enumerate(kept, start=1):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.close(nowhere)


@contextmanager
def without_warnings() -> Iterator[None]:
    """SimpleITK's warnings are not printed while this lasts: they name lines of its source, and errors follow them."""
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)
