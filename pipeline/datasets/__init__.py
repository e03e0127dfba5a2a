"""Data sets on disk, one file per layout; :func:`read_dataset` recognises which one a folder has."""

from atlaseg.pipeline.datasets.listing import CaseList, Layout, Listing, Report, raise_at_once
from atlaseg.pipeline.datasets.reader import is_dataset, list_dataset, read_dataset
from atlaseg.pipeline.datasets.registry import LAYOUTS, LayoutRow

__all__ = [
    "LAYOUTS",
    "CaseList",
    "Layout",
    "LayoutRow",
    "Listing",
    "Report",
    "is_dataset",
    "list_dataset",
    "raise_at_once",
    "read_dataset",
]
