"""All exceptions and warnings of atlaseg.

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
    """An operation needs more memory than is available."""


class MissingFileError(AtlasegError, FileNotFoundError):
    """A file or folder does not exist."""


class BusyFolderError(AtlasegError, OSError):
    """Another job is writing to the same output folder."""


class DatasetError(AtlasegError, ValueError):
    """A data set is invalid (layout, names, voxel values)."""


class NothingToLearnError(DatasetError):
    """The training cases are valid but contain no example of what is to be learnt."""


class DivergenceError(AtlasegError, FloatingPointError):
    """Training produced values that are not finite."""


class FullDiskError(AtlasegError, OSError):
    """No space is left on the disk that results are written to."""


class GeometryError(AtlasegError, ValueError):
    """Grids, affines or dimensions do not fit together."""


class LabelError(AtlasegError, ValueError):
    """A label map contains invalid values."""


class OptionError(AtlasegError, ValueError):
    """An option does not exist or has an invalid value."""


class PackageError(AtlasegError, ImportError):
    """An installed package that extends atlaseg is broken or missing, or registers a name that already exists."""


class PlanError(AtlasegError, ValueError):
    """A plan violates its schema or cannot be carried out (for example, too little memory)."""


class UnsafeModelError(AtlasegError, ValueError):
    """A model folder contains something that would run as code; it is not opened."""


class NotFittedError(AtlasegError, RuntimeError):
    """A segmenter was used before it was fitted or loaded."""


class AtlasegWarning(UserWarning):
    """A warning for the user; the command line prints it in one line and continues."""


class NotConvergedWarning(AtlasegWarning):
    """An iteration reached its limit before it converged; the result is that of its last step."""


class HeaderWarning(AtlasegWarning):
    """Something missing from a file's header had to be assumed; processing continues."""
