"""Read scans, train networks, segment scans: the part of atlaseg that needs no registration.

Its names are loaded when they are first used.

>>> from atlaseg.pipeline import LabelTable
>>> LabelTable.from_values([2, 5]).values
(0, 2, 5)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atlaseg.pipeline.case import Case, Dataset, LabelTable
    from atlaseg.pipeline.errors import AtlasegError
    from atlaseg.pipeline.segmenter import Prior, Segmentation, Segmenter

__all__ = [
    "AtlasegError",
    "Case",
    "Dataset",
    "LabelTable",
    "Prior",
    "Segmentation",
    "Segmenter",
]

#: Where each name lives; `atlaseg --help` reads the tables of this floor without loading numpy.
_HOMES = {
    "AtlasegError": "atlaseg.pipeline.errors",
    "Case": "atlaseg.pipeline.case",
    "Dataset": "atlaseg.pipeline.case",
    "LabelTable": "atlaseg.pipeline.case",
    "Prior": "atlaseg.pipeline.segmenter",
    "Segmentation": "atlaseg.pipeline.segmenter",
    "Segmenter": "atlaseg.pipeline.segmenter",
}


def __getattr__(name: str) -> Any:
    """The object of that name, from the module it lives in."""
    if name not in _HOMES:
        raise AttributeError(f"module 'atlaseg.pipeline' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
