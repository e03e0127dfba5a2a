"""Interpolate a volume at given points, with reflection at its border."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from atlaseg.pipeline.errors import GeometryError

__all__ = ["reflected_crop", "reflected_indices", "sample_linear", "sample_nearest"]


def sample_linear(volume: Tensor, coordinates: Tensor) -> Tensor:
    """Trilinear interpolation, reflected at the outermost voxels (``d c b | a b c d | c b a``).

    Only the voxels around the coordinates are read, so the volume may be large, a memory map or of any
    strides. Eight gathers with shared indices take a third of the time of
    ``torch.nn.functional.grid_sample`` on a CPU, which interpolates volumes without vector instructions
    (measured with torch 2.13).

    Args:
        volume: ``(C, *S)`` of any real type.
        coordinates: ``(3, *P)`` float32, in voxels of the volume (0 is the centre of the first voxel).

    Returns:
        ``(C, *P)`` float32.

    Raises:
        GeometryError: the volume or the coordinates have another shape.

    >>> ramp = torch.arange(4.0).reshape(1, 4, 1, 1)
    >>> sample_linear(ramp, torch.tensor([[0.0, 1.25, -1.0, 3.5], [0.0] * 4, [0.0] * 4])).tolist()
    [[0.0, 1.25, 1.0, 2.5]]
    """
    _check(volume, coordinates)
    size = volume.shape[1:]
    strides = volume.stride()[1:]
    corner, weights = [], []
    for axis in range(3):
        place = _reflect(coordinates[axis], size[axis])
        # The last voxel is reached from the one before it with weight 1, so that a right neighbour always
        # exists.
        left = place.floor().clamp_(0, max(size[axis] - 2, 0))
        weights.append(place.sub_(left))
        corner.append(left)
    index = _linear_index(corner, strides)
    # An axis of one voxel has no neighbour; its weight is 0 and its step too.
    steps = [stride if n > 1 else 0 for stride, n in zip(strides, size, strict=True)]
    result = torch.empty(volume.shape[0], *coordinates.shape[1:], device=volume.device)
    for channel, out in zip(volume, result, strict=True):
        memory = _memory(channel)
        rows = []
        for a in (0, steps[0]):
            for b in (0, steps[1]):
                near, far = (
                    memory[a + b + c :].index_select(0, index).float().view_as(out) for c in (0, steps[2])
                )
                rows.append(near.lerp_(far, weights[2]))
        torch.lerp(
            rows[0].lerp_(rows[1], weights[1]), rows[2].lerp_(rows[3], weights[1]), weights[0], out=out
        )
    return result


def sample_nearest(volume: Tensor, coordinates: Tensor) -> Tensor:
    """The nearest voxel's value, in the volume's own type; reflected like :func:`sample_linear`.

    Args:
        volume: ``(C, *S)`` of any type.
        coordinates: ``(3, *P)`` float32, in voxels of the volume.

    Returns:
        ``(C, *P)`` of the volume's type.

    Raises:
        GeometryError: the volume or the coordinates have another shape.
    """
    _check(volume, coordinates)
    places = [
        _reflect(coordinates[axis], volume.shape[axis + 1]).round_().clamp_(0, volume.shape[axis + 1] - 1)
        for axis in range(3)
    ]
    index = _linear_index(places, volume.stride()[1:])
    shape = coordinates.shape[1:]
    return torch.stack([_memory(channel).index_select(0, index).view(shape) for channel in volume])


def reflected_crop(volume: Tensor, start: Sequence[int], size: Sequence[int]) -> Tensor:
    """An exact box of a volume, reflected at the outermost voxels where it sticks out; always a copy.

    Args:
        volume: ``(C, *S)`` of any type.
        start: first voxel of the box on each axis; may be negative.
        size: voxels of the box on each axis.

    >>> reflected_crop(torch.arange(4).reshape(1, 4), [-2], [8]).tolist()
    [[2, 1, 0, 1, 2, 3, 2, 1]]
    """
    outside = []
    for axis, (first, length) in enumerate(zip(start, size, strict=True), start=1):
        if first >= 0 and first + length <= volume.shape[axis]:
            volume = volume.narrow(axis, first, length)
        else:
            outside.append((axis, reflected_indices(first, length, volume.shape[axis])))
    for axis, indices in outside:
        volume = volume.index_select(axis, indices.to(volume.device))
    return volume.clone(memory_format=torch.contiguous_format)


def reflected_indices(start: int, length: int, size: int) -> Tensor:
    """Indices ``start .. start + length - 1`` reflected into ``0 .. size - 1`` as often as it takes."""
    if size == 1:
        return torch.zeros(length, dtype=torch.int64)
    places = torch.arange(start, start + length).remainder_(2 * (size - 1))
    return (size - 1) - (places - (size - 1)).abs_()


def _reflect(coordinate: Tensor, size: int) -> Tensor:
    """A copy of the coordinates of one axis, reflected into ``[0, size - 1]``."""
    last = size - 1
    low, high = (value.item() for value in torch.aminmax(coordinate))
    if low >= 0 and high <= last:
        return coordinate.clone()
    if last == 0:
        return torch.zeros_like(coordinate)
    if low < -2 * last or high > 2 * last:  # more than one reflection; the modulus is the slow part
        coordinate = coordinate.remainder(2 * last)
    return coordinate.abs().sub_(last).abs_().neg_().add_(last)


def _linear_index(places: list[Tensor], strides: Sequence[int]) -> Tensor:
    """Offset of whole-numbered places in memory; in integers, for float32 counts exactly to 2**24 only."""
    index = places[0].to(torch.int64).mul_(strides[0])
    for place, stride in zip(places[1:], strides[1:], strict=True):
        index.add_(place.to(torch.int64), alpha=stride)
    return index.view(-1)


def _memory(channel: Tensor) -> Tensor:
    """The stretch of memory that a channel lies in, as one row, without a copy."""
    length = 1 + sum((n - 1) * stride for n, stride in zip(channel.shape, channel.stride(), strict=True))
    return channel.as_strided((length,), (1,))


def _check(volume: Tensor, coordinates: Tensor) -> None:
    if volume.ndim != 4 or coordinates.shape[0] != 3 or 0 in volume.shape:
        raise GeometryError(
            f"expected a volume (C, X, Y, Z) and coordinates (3, ...), found {tuple(volume.shape)} and "
            f"{tuple(coordinates.shape)}"
        )
