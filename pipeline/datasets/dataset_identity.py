"""Identify a data set by its content: a run stores this identity and no path.

A run that was moved, or whose data set was, still recognises its cases. Files are compared by their size and
some of their bytes, the last ones among them, which in a gzip file are the checksum of all that it unpacks to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from atlaseg.pipeline.datasets.dataset_search import files_digest
from atlaseg.pipeline.io.scan_names import enumerated

if TYPE_CHECKING:
    from atlaseg.pipeline.case import LabelTable
    from atlaseg.pipeline.datasets.listing import Listing
    from atlaseg.pipeline.planning.plan import Plan

__all__ = ["difference", "identity", "plan_difference"]


def identity(listing: Listing) -> dict[str, Any]:
    """Identity of a data set as a run stores it, as plain values.

    Args:
        listing: of the data set; only labelled cases count, since no other is learnt from.

    Raises:
        MissingFileError: a file of a case is not there.
    """
    return {
        "channels": list(listing.channels),
        "labels": None if listing.labels is None else _named(listing.labels),
        "cases": {
            case.name: {"images": files_digest(case.images), "label": files_digest([case.label])}
            for case in listing.cases
            if case.label is not None
        },
    }


def difference(earlier: Any, now: Mapping[str, Any]) -> str | None:
    """How a data set differs from the one that a run was trained on, in words; ``None`` if they are the same.

    Args:
        earlier: as :func:`identity` gave it, read from a file that may be damaged.
        now: as :func:`identity` gives it.
    """
    if not isinstance(earlier, dict) or not isinstance(earlier.get("cases"), dict):
        return "the run does not say which"
    if earlier.get("channels") != now["channels"]:
        return f"channels {_said(now['channels'])} instead of {_said(earlier.get('channels'))}"
    if earlier.get("labels") != now["labels"]:
        return f"labels {_said(now['labels'])} instead of {_said(earlier.get('labels'))}"
    before, after = earlier["cases"], now["cases"]
    changed = {
        "new cases": sorted(after.keys() - before.keys()),
        "missing cases": sorted(before.keys() - after.keys()),
        "cases with other files": sorted(n for n in after.keys() & before.keys() if after[n] != before[n]),
    }
    found = [f"{what}: {enumerated(names, 3)}" for what, names in changed.items() if names]
    return "; ".join(found) or None


def plan_difference(plan: Plan, labels: LabelTable, channels: Sequence[str]) -> str | None:
    """Why a plan does not fit a data set, in words; ``None`` if it does."""
    if list(plan.channels) != list(channels):
        return f"channels {_said(list(plan.channels))} in the plan, {_said(list(channels))} in the data set"
    if (ours := _named(plan.labels)) != (theirs := _named(labels)):
        return f"labels {_said(ours)} in the plan, {_said(theirs)} in the data set"
    return None


def _named(labels: LabelTable) -> dict[str, int]:
    return dict(zip(labels.names, labels.values, strict=True))


def _said(content: Any) -> str:
    if isinstance(content, dict):
        return enumerated((f"{value} {name}" for name, value in content.items()), 5)
    return enumerated(map(str, content), 5) if isinstance(content, list) else "without names"
