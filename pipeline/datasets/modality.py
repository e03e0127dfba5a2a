"""Decide whether channels are CT, from their names and from intensities that resemble Hounsfield units.

The unit puts air at -1000 and water at 0 (fat lies near -100, soft tissue between 0 and 100, bone above 300), in every
scan and on every scanner. Intensities of MRI have no unit, and are seldom negative. A name that the data set or
the user gives decides; intensities decide for unnamed channels, and cast doubt on names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

__all__ = [
    "Assumption",
    "Hounsfield",
    "Modality",
    "air_for_filling",
    "assume_channels",
    "hounsfield_units",
    "modality_of",
]

Modality = Literal["CT", "MRI", "mixed"]
Hounsfield = Literal["yes", "no", "unclear"]

#: Voxels that are looked at, evenly spread; more would not change the answer.
_ENOUGH = 2_000_000
#: Below air; what lies there is filled in around the field of view (-1024 to -3024, -32768), or an artefact.
_BELOW_AIR = -1100
_AIR = (-1100, -850)
#: Between lung and fat: empty but for voxels on borders of air.
_BETWEEN = (-500, -200)
_FAT = (-150, -30)
_SOFT = (-200, 300)
#: Twelve bits end at 3071; only metal is denser.
_METAL = 3100
#: Fewer negative voxels than this share are overshoots of interpolation; air and fat are more.
_FEW = 0.005
#: Intensities that spread less than this were scaled; tissues of CT alone spread more.
_SCALED = 50


@dataclass(frozen=True)
class Assumption:
    """Assumed modality of the channels of a data set.

    Args:
        channels: their names.
        modality: what kind they are; it decides how intensities are normalised.
        reason: where this is from, in one line.
        doubts: what speaks against it, a line each.
    """

    channels: tuple[str, ...]
    modality: Modality
    reason: str
    doubts: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{', '.join(self.channels)}, treated as {self.modality}: {self.reason}"


def assume_channels(
    channels: tuple[str, ...], named_by: str | None, looks: Sequence[Sequence[Hounsfield]]
) -> Assumption:
    """Assume a modality from the names of the channels and the intensities of the scans.

    Unnamed channels are CT where the intensities of all of them are like Hounsfield units in more than half
    of the scans, and keep their names where not. Names are never changed, but doubted where intensities say otherwise.

    Args:
        channels: as named, or as numbered where they are unnamed.
        named_by: file or option that names them, ``None`` if they are unnamed.
        looks: for each scan, the answer of :func:`hounsfield_units` for each channel.

    >>> assume_channels(("MRI",), None, [("yes",), ("yes",)]).channels
    ('CT',)
    >>> print(assume_channels(("T1",), "channels.json", [("no",)]))
    T1, treated as MRI: named by channels.json
    """
    rows = [row for row in looks if len(row) == len(channels)]
    like = [sum(row[i] == "yes" for row in rows) for i in range(len(channels))]
    unlike = [sum(row[i] == "no" for row in rows) for i in range(len(channels))]
    scans = f"{len(rows)} scan{'s' * (len(rows) != 1)}"
    if named_by is None and rows and all(2 * n > len(rows) for n in like):
        names = ("CT",) if len(channels) == 1 else tuple(f"CT {i}" for i in range(len(channels)))
        reason = (
            f"no name is given for {_them(channels)}, and intensities are like Hounsfield units in {min(like)} of "
            f"{scans} (air near -1000, fat near -100, soft tissue near 40)"
        )
        unsure = "taken for CT by intensities alone; to be sure, name the channels in channels.json or by --channels"
        return Assumption(names, "CT", reason, (unsure,))
    modality = modality_of(channels)
    reason = f"named by {named_by}" if named_by else f"no name is given for {_them(channels)}"
    if named_by is None and not any(like):
        reason += ", and no scan's intensities are like Hounsfield units"
    where = named_by if named_by and named_by.endswith(".json") else "channels.json"
    doubts = []
    for name, yes, no in zip(channels, like, unlike, strict=True):
        negative = len(rows) - no
        if yes and not _named_ct(name):
            doubts.append(
                f"channel {name}: intensities are like Hounsfield units in {yes} of {scans}; if it is CT, name it so "
                f"in {where} or by --channels"
            )
        elif named_by is None and not _named_ct(name) and 2 * negative > len(rows):
            doubts.append(
                f"channel {name}: taken for MRI, though intensities are negative in part in {negative} of {scans}; "
                f"if it is CT, name it so in {where} or by --channels"
            )
        elif _named_ct(name) and 2 * no > len(rows):
            doubts.append(
                f"channel {name}: intensities are unlike Hounsfield units in {no} of {scans} (hardly anything "
                f"negative, or scaled to a few units); if it is not CT, rename it in {where} or by --channels"
            )
    return Assumption(channels, modality, reason, tuple(doubts))


def _them(channels: Sequence[str]) -> str:
    return "the channel" if len(channels) == 1 else "the channels"


def modality_of(channels: Sequence[str]) -> Modality:
    """``CT`` where the channels are named so (``CT``, ``ct_venous``, ``CTA``), ``MRI`` otherwise.

    >>> modality_of(("CT",)), modality_of(("T1", "fraction")), modality_of(("CT", "T2"))
    ('CT', 'MRI', 'mixed')
    """
    ct = [_named_ct(name) for name in channels]
    return "CT" if all(ct) else "mixed" if any(ct) else "MRI"


def _named_ct(channel: str) -> bool:
    return any(re.fullmatch("cta?|cbct", word) for word in re.split("[^a-z]+", channel.lower()))


def hounsfield_units(voxels: npt.NDArray[Any]) -> Hounsfield:
    """Whether the intensities of one channel are like Hounsfield units.

    ``yes``: there is air (many voxels near -1000, fewer between lung and fat, and most of the denser ones are soft
    tissue), or there are whole numbers with fat and soft tissue and little else, as where a scan was cropped to the
    body or clipped to a window. ``no``: hardly anything is negative, or all values lie within a few units, as in
    MRI.

    Args:
        voxels: ``(*spatial)``, in the unit of the file.

    >>> body = np.random.default_rng(0).normal(40, 15, (20, 20, 20)).round()
    >>> hounsfield_units(np.pad(body, 5, constant_values=-1000))
    'yes'
    >>> hounsfield_units(np.pad(body, 5))
    'no'
    """
    step = max(1, round((voxels.size / _ENOUGH) ** (1 / max(1, voxels.ndim))))
    values = np.asarray(voxels[(slice(None, None, step),) * voxels.ndim], dtype=np.float32).ravel()
    values = values[np.isfinite(values)]
    values = _without_filling(values)
    if _share(values, -np.inf, -0.5) < _FEW or values.max() - values.min() < _SCALED:
        return "no"
    if _share(values, -np.inf, _BELOW_AIR) > 0.02 or _share(values, _METAL, np.inf) > 0.02:
        return "unclear"
    return "yes" if _has_air(values) or _has_fat_and_tissue(values) else "unclear"


def _without_filling(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Values without the constants that are filled in around a field of view, or around a mask (0)."""
    if not values.size:
        return values
    lowest = values.min()
    if lowest < _BELOW_AIR:
        values = values[values > lowest]
    zero = values == 0
    return values[~zero] if zero.mean(dtype=np.float64) > 0.25 and not zero.all() else values


def air_for_filling(voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Voxels with air where CT scanners fill in a number below it around their field of view (-3024, -2048, -32768).

    Recognised by what lies below air: one number in a hundredth of the voxels or more, and next to nothing else. Other
    images are returned as they are.

    Args:
        voxels: one channel, any shape; not changed.

    >>> air_for_filling(np.array([-3024, -1000, 40, 200])).tolist()
    [-1000, -1000, 40, 200]
    """
    lowest = voxels.min(initial=0)
    if not np.isfinite(lowest) or lowest >= _BELOW_AIR:
        return voxels
    below = voxels < _BELOW_AIR
    filled = np.count_nonzero(voxels == lowest)
    others = np.count_nonzero(below) - filled
    if below.all() or filled < 0.01 * voxels.size or others > 0.02 * voxels.size:
        return voxels
    return np.where(below, voxels[~below].min(), voxels)


def _has_air(values: npt.NDArray[np.float32]) -> bool:
    air, between = _share(values, *_AIR), _share(values, *_BETWEEN)
    dense = values[values > _BETWEEN[0]]
    return (
        air >= 0.005 and air >= between and dense.size > 0.01 * values.size and _share(dense, *_SOFT) >= 0.5
    )


def _has_fat_and_tissue(values: npt.NDArray[np.float32]) -> bool:
    """Whole numbers with fat, more soft tissue than water just below 0 (no peak around 0), and little else."""
    lowest = values == values.min()
    values = values[~lowest] if lowest.mean(dtype=np.float64) > 0.05 else values  # the end of a window
    whole = np.mean(np.abs(values - np.round(values)) < 0.01, dtype=np.float64) > 0.99
    fat, tissue, water = _share(values, *_FAT), _share(values, 20, 80), _share(values, -50, 0)
    return (
        bool(whole) and fat >= 0.02 and tissue >= max(0.1, 1.4 * water) and _share(values, -200, 500) >= 0.75
    )


def _share(values: npt.NDArray[np.float32], low: float, high: float) -> float:
    """Share of the values from ``low`` to ``high``, both included."""
    return float(np.count_nonzero((values >= low) & (values <= high)) / max(1, values.size))
