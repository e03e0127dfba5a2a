"""The number of threads that SimpleITK's filters take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["itk_threads"]


@contextmanager
def itk_threads(number: int) -> Iterator[None]:
    """ITK's default number of threads, set and put back; it holds for the whole process."""
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(number)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
