"""Every exception that a user of atlaseg can meet.

Each derives from :class:`AtlasegError` and from the built-in it specialises. A message is one line and names
the file, what was expected, what was found and what to do. The command line prints it and exits with code 2.
"""

from __future__ import annotations

__all__ = [
    "AtlasegError",
    "AtlasegWarning",
    "BusyFolderError",
    "DatasetError",
    "DivergenceError",
    "FullDiskError",
    "GeometryError",
    "HeaderWarning",
    "LabelError",
    "MemoryShortageError",
    "MissingFileError",
    "NotConvergedWarning",
    "NotFittedError",
    "NothingToLearnError",
    "OptionError",
    "PackageError",
    "PlanError",
    "UnreadableFileError",
    "UnsafeModelError",
]


class AtlasegError(Exception):
    """Base of every error that atlaseg raises on purpose."""


class UnreadableFileError(AtlasegError, OSError):
    """A file exists but cannot be read as what it should be (truncated, wrong format)."""


class MemoryShortageError(AtlasegError, MemoryError):
    """There is too little memory for what was asked."""


class MissingFileError(AtlasegError, FileNotFoundError):
    """A file or folder that was named is not there."""


class BusyFolderError(AtlasegError, OSError):
    """Another job is writing where this one was to write."""


class DatasetError(AtlasegError, ValueError):
    """The files of a data set do not make a data set (layout, names, voxel values)."""


class NothingToLearnError(DatasetError):
    """The training cases are in order, but show nothing of what was to be learnt from them."""


class DivergenceError(AtlasegError, FloatingPointError):
    """Training arrived at numbers that are not finite."""


class FullDiskError(AtlasegError, OSError):
    """There is no space left where a result was to be written."""


class GeometryError(AtlasegError, ValueError):
    """Grids, affines or dimensions do not fit together."""


class LabelError(AtlasegError, ValueError):
    """A label map holds values that it must not hold."""


class OptionError(AtlasegError, ValueError):
    """An option or its value is not one that is offered."""


class PackageError(AtlasegError, ImportError):
    """An installed package that adds something to atlaseg is broken, missing, or takes a name that is taken."""


class PlanError(AtlasegError, ValueError):
    """A plan does not follow its schema or cannot be met (for example, too little memory)."""


class UnsafeModelError(AtlasegError, ValueError):
    """A model folder holds something that would run as code; it is not opened."""


class NotFittedError(AtlasegError, RuntimeError):
    """A segmenter was asked to segment before it was fitted or loaded."""


class AtlasegWarning(UserWarning):
    """What a user should know though the work goes on; the command line prints it in one line."""


class NotConvergedWarning(AtlasegWarning):
    """An iteration was stopped before it stood still; its result is what it had come to."""


class HeaderWarning(AtlasegWarning):
    """What had to be assumed about a file whose header does not say it. No error: the work goes on."""
