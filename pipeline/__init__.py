"""Read scans, train networks, segment scans: the part of atlaseg that needs no registration."""

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
