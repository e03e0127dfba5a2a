"""Scans in, networks trained, labels out: the ground floor of atlaseg."""

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
