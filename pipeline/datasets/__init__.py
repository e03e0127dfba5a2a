"""Data sets on disk, one file per layout; :func:`read_dataset` recognises which one a folder has."""

from atlaseg.pipeline.datasets.decathlon import list_decathlon
from atlaseg.pipeline.datasets.folders import list_folders
from atlaseg.pipeline.datasets.listing import Listing, Report, raise_at_once
from atlaseg.pipeline.datasets.nnunet_raw import list_nnunet_raw
from atlaseg.pipeline.datasets.reader import list_dataset, read_dataset

__all__ = [
    "Listing",
    "Report",
    "list_dataset",
    "list_decathlon",
    "list_folders",
    "list_nnunet_raw",
    "raise_at_once",
    "read_dataset",
]
