"""Scans in, networks trained, labels out: the ground floor of atlaseg."""

from pipeline.case import Case, Dataset, LabelTable
from pipeline.errors import AtlasegError
from pipeline.segmenter import Prior, Segmentation, Segmenter

__all__ = [
    "AtlasegError",
    "Case",
    "Dataset",
    "LabelTable",
    "Prior",
    "Segmentation",
    "Segmenter",
]
