"""Borders that raters draw along a slice, learnt from training labels and kept in new ones.

Where two structures meet without an edge between them, protocols often ask raters to change the label from one slice
to the next: the anterior hippocampus ends with the last coronal slice that shows the uncus (Poppenk et al., Trends in
Cognitive Sciences 17:230-240, 2013). Such a border is a plane of the
scan's grid. Methods that look at intensities, and most of all those that bend or turn scans, draw it curved and
tilted; here they are given the plane that agrees with them best.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.errors import UnreadableFileError

__all__ = ["SliceBorder", "borders_from_plain", "find_slice_borders", "keep_slice_borders", "plain_borders"]

#: Share of the faces between two structures that must lie in one plane: in the typical case, and in every one.
TYPICAL_SHARE, LEAST_SHARE = 0.9, 0.5
#: Share of the smaller structure's slice at the plane that the faces must cover, in the typical case.
TYPICAL_COVER = 0.5
#: Cases that must show a border before it counts as a rule.
FEWEST_CASES = 3


@dataclass(frozen=True)
class SliceBorder:
    """Two structures that meet in a plane of the grid.

    Args:
        first: channel index of the structure towards the left, posterior or inferior end.
        second: of the other one.
        axis: anatomical axis across the plane: 0 left to right, 1 posterior to anterior, 2 inferior to superior.
    """

    first: int
    second: int
    axis: int


def find_slice_borders(
    cases: Iterable[tuple[npt.NDArray[Any], npt.NDArray[np.float64]]], classes: int
) -> tuple[SliceBorder, ...]:
    """Borders that are a plane of the grid, across the same anatomical axis, in the cases that have both structures.

    Of all faces between voxels of the two, nine in ten must lie in one plane in the typical case (the median) and half
    in every case, since raters err by some voxels; and they must cover half of the structure that ends there, since
    two structures that touch at a corner always do so in some plane.

    Args:
        cases: channel indices ``(x, y, z)`` and affine ``(4, 4)``, voxel -> RAS+ mm, of each training case.
        classes: number of labels, background included.

    Returns:
        The borders that at least three cases show.
    """
    shown: dict[tuple[int, int], list[dict[SliceBorder, tuple[float, float]]]] = {}
    refuted: set[tuple[int, int]] = set()
    for labels, affine in cases:
        for pair in _touching(labels, classes):
            if pair in refuted:
                continue
            measured = _flatness(labels, affine, *pair)
            if max(share for share, _ in measured.values()) < LEAST_SHARE:
                refuted.add(pair)
            shown.setdefault(pair, []).append(measured)
    rules = (
        border
        for pair, measured in sorted(shown.items())
        if pair not in refuted and len(measured) >= FEWEST_CASES
        for border in measured[0]
        if _is_rule([case[border] for case in measured])
    )
    return tuple(rules)


def _is_rule(measured: Sequence[tuple[float, float]]) -> bool:
    shares, covers = zip(*measured, strict=True)
    flat = np.median(shares) >= TYPICAL_SHARE and min(shares) >= LEAST_SHARE
    return bool(flat and np.median(covers) >= TYPICAL_COVER)


def keep_slice_borders(
    borders: Sequence[SliceBorder],
    labels: npt.NDArray[Any],
    affine: npt.NDArray[np.float64],
    probabilities: npt.NDArray[Any] | None = None,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """Labels in which each border is the plane with the fewest changes; other voxels stay what they are.

    Where two structures do not both occur nothing is changed.

    Args:
        borders: as :func:`find_slice_borders` gives them.
        labels: channel indices ``(x, y, z)``.
        affine: ``(4, 4)``, voxel -> RAS+ mm.
        probabilities: ``(K, x, y, z)``; a voxel's share of the one on whose side it does not lie goes to the other.

    Returns:
        New labels, and new probabilities if any were given.
    """
    labels = labels.copy()
    chances = None if probabilities is None else probabilities.copy()
    for border in borders:
        either = (labels == border.first) | (labels == border.second)
        beyond = _beyond(labels, affine, border)
        if beyond is None:
            continue
        labels[either] = np.where(beyond, border.second, border.first)[either]
        if chances is not None:
            for here, there, side in (
                (border.first, border.second, either & ~beyond),
                (border.second, border.first, either & beyond),
            ):
                chances[here][side] += chances[there][side]
                chances[there][side] = 0
    return labels, chances


def plain_borders(borders: Sequence[SliceBorder]) -> list[dict[str, int]]:
    """Borders as plain data for JSON."""
    return [asdict(border) for border in borders]


def borders_from_plain(content: Any, classes: int, where: str) -> tuple[SliceBorder, ...]:
    """Borders from what :func:`plain_borders` gave.

    Args:
        content: plain data.
        classes: number of labels, background included.
        where: what the data is of, for messages.

    Raises:
        UnreadableFileError: it is something else.
    """
    try:
        borders = tuple(SliceBorder(int(b["first"]), int(b["second"]), int(b["axis"])) for b in content)
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableFileError(
            f"{where}: slice_borders are not as atlaseg writes them ({error})"
        ) from error
    for border in borders:
        if not (0 < border.first < classes and 0 < border.second < classes and 0 <= border.axis <= 2):
            raise UnreadableFileError(f"{where}: {border} does not go with {classes} labels")
    return borders


def _touching(labels: npt.NDArray[Any], classes: int) -> list[tuple[int, int]]:
    """Pairs of structures that have a face in common."""
    met = np.zeros(classes * classes, dtype=bool)
    for axis in range(labels.ndim):
        before, after = _neighbours(labels, axis)
        differ = before != after
        met[np.unique(before[differ].astype(np.int64) * classes + after[differ])] = True
    table = met.reshape(classes, classes)
    table = table | table.T
    return [(a, b) for a, b in combinations(range(1, classes), 2) if table[a, b]]


def _neighbours(labels: npt.NDArray[Any], axis: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    moved = np.moveaxis(labels, axis, 0)
    return moved[:-1], moved[1:]


def _flatness(
    labels: npt.NDArray[Any], affine: npt.NDArray[np.float64], a: int, b: int
) -> dict[SliceBorder, tuple[float, float]]:
    """For either order and any axis: the share of faces in the best plane, and of the slice that they cover there."""
    box = tuple(slice(places.min(), places.max() + 1) for places in np.nonzero((labels == a) | (labels == b)))
    labels = labels[box]
    faces = 0
    for axis in range(labels.ndim):
        before, after = _neighbours(labels, axis)
        faces += int(((before == a) & (after == b)).sum() + ((before == b) & (after == a)).sum())
    found = {}
    for axis in range(3):
        for border in (SliceBorder(a, b, axis), SliceBorder(b, a, axis)):
            wrong, (along, backwards) = _misfit(labels, affine, border)
            position = int(wrong.argmin())
            found[border] = (0.0, 0.0)
            if 0 < position < len(wrong) - 1:
                slices = np.moveaxis(labels, along, 0)[:: -1 if backwards else 1]
                first, second = slices[position - 1] == border.first, slices[position] == border.second
                area = min(int(first.sum()), int(second.sum()))
                inside = int((first & second).sum())
                found[border] = (inside / faces, inside / area if area else 0.0)
    return found


def _misfit(
    labels: npt.NDArray[Any], affine: npt.NDArray[np.float64], border: SliceBorder
) -> tuple[npt.NDArray[np.int64], tuple[int, bool]]:
    """Voxels on the wrong side for each position of the plane, ``(n + 1,)``, and the array's axis and direction.

    The position is the number of slices on the side of the first structure.
    """
    from nibabel.orientations import io_orientation

    # array axis that runs along the anatomical one most nearly, and whether it runs backwards
    orientation = io_orientation(affine)
    along = int(np.flatnonzero(orientation[:, 0] == border.axis)[0])
    backwards = bool(orientation[along, 1] < 0)
    others = tuple(axis for axis in range(labels.ndim) if axis != along)
    first, second = ((labels == structure).sum(axis=others) for structure in (border.first, border.second))
    if backwards:
        first, second = first[::-1], second[::-1]
    none = np.zeros(1, dtype=np.int64)
    second_before = np.concatenate([none, np.cumsum(second)])
    first_after = np.concatenate([np.cumsum(first[::-1])[::-1], none])
    return second_before + first_after, (along, backwards)


def _beyond(
    labels: npt.NDArray[Any], affine: npt.NDArray[np.float64], border: SliceBorder
) -> npt.NDArray[np.bool_] | None:
    """Where the second structure may lie, broadcast to the labels; ``None`` where one of the two does not occur."""
    if not (labels == border.first).any() or not (labels == border.second).any():
        return None
    wrong, (along, backwards) = _misfit(labels, affine, border)
    best = np.flatnonzero(wrong == wrong.min())
    position = int(best[len(best) // 2])
    length = labels.shape[along]
    places = np.arange(length)
    beyond = (length - 1 - places if backwards else places) >= position
    shape = [1] * labels.ndim
    shape[along] = length
    return np.broadcast_to(beyond.reshape(shape), labels.shape)
