"""Data sets on disk, one file per layout; :func:`read_dataset` recognises which one a folder has."""

from pipeline.datasets.decathlon import list_decathlon
from pipeline.datasets.folders import list_folders
from pipeline.datasets.listing import Listing, Report, raise_at_once
from pipeline.datasets.nnunet_raw import list_nnunet_raw
from pipeline.datasets.reader import list_dataset, read_dataset

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
