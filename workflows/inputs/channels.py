"""Channels of a data set: named by the user, by the data set, or assumed from intensities; always printed."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atlaseg.pipeline.case import Dataset
    from atlaseg.pipeline.datasets.inspection import Inspection
    from atlaseg.pipeline.datasets.modality import Assumption

__all__ = ["print_channels", "resolve_channels", "with_user_channels"]

OPTION = "--channels"


def with_user_channels(dataset: Dataset, asked: Sequence[str], named_by: str = OPTION) -> Dataset:
    """The data set with channel names from the user, where given; they override names in files.

    Args:
        dataset: as read.
        asked: one name for each channel, or nothing.
        named_by: who asks.

    Raises:
        OptionError: another number of names than of channels, or an empty name.
    """
    from atlaseg.pipeline.errors import OptionError

    names = tuple(name.strip() for name in asked)
    if not names:
        return dataset
    if len(names) != len(dataset.channels) or not all(names):
        raise OptionError(
            f"{named_by} {' '.join(names)}: the scans of {dataset.name} have {len(dataset.channels)} channel(s) "
            f"({', '.join(dataset.channels)}); give one name for each, such as CT or T1"
        )
    if dataset.channels_named_by is not None and names != dataset.channels:
        named_by += f", where {dataset.channels_named_by} says {', '.join(dataset.channels)}"
    return replace(dataset, channels=names, channels_named_by=named_by)


def resolve_channels(
    dataset: Dataset, found: Inspection, asked: Sequence[str] = (), named_by: str = OPTION
) -> Dataset:
    """The data set with channel names from the user, from its files, or assumed from intensities.

    Says which, and what speaks against it.

    Args:
        dataset: as read.
        found: everything that was found in its files.
        asked: one name for each channel, or nothing.
        named_by: who asks.

    Raises:
        OptionError: as :func:`with_user_channels`.
    """
    from atlaseg.pipeline.datasets.inspection import looks_of
    from atlaseg.pipeline.datasets.modality import assume_channels

    dataset = with_user_channels(dataset, asked, named_by)
    assumed = assume_channels(dataset.channels, dataset.channels_named_by, looks_of(found.cases))
    print_channels(assumed)
    return replace(dataset, channels=assumed.channels)


def print_channels(assumed: Assumption) -> None:
    """One line on standard error, and one for each doubt."""
    print(f"Channels: {assumed}", file=sys.stderr)
    for doubt in assumed.doubts:
        print(f"warning: {doubt}", file=sys.stderr)
