"""A curve after Hilbert and Peano through every voxel of a box of any size, from face neighbour to face neighbour."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.errors import GeometryError

__all__ = ["hilbert_path"]

Voxel = tuple[int, int, int]
Table = npt.NDArray[np.int32]

#: The six steps to a face neighbour, and none at the end of the curve.
STEPS: tuple[Voxel, ...] = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, 0, 0))
#: Paths are kept for a few boxes; one of 256^3 voxels takes 64 MiB.
KEPT_PATHS = 2


def hilbert_path(shape: Sequence[int]) -> npt.NDArray[Any]:
    """Flat indices of all voxels of a box in the order of a space-filling curve.

    Starts in the corner at index 0. Each voxel shares a face with the one before for all sizes: there is no
    diagonal step, which is more than curves that fix both ends can promise (Cerveny's generalised Hilbert curve, for
    one, needs them where sizes are odd; https://github.com/jakubcerveny/gilbert). The price is that the curve ends
    where it may. A box whose sizes are equal powers of two gets a Hilbert curve: octants of octants, each visited as a
    whole.

    The box is cut into blocks of 2 or 3 voxels along each axis; the curve through the blocks is of the same kind, and
    each block has a path from where the curve comes in to a voxel beside the next block. That there always is one is
    a matter of colours: as on a chequerboard, every step changes colour, so a path through an even number of voxels
    joins opposite colours, and through an odd number the more frequent one with itself. Faces of blocks have both
    colours, and only one block of a box is odd, 3 x 3 x 3 at the end of all three axes, which the curve reaches in
    its frequent colour. Where blocks would be one voxel thick, faces are too narrow for that, so flat boxes (and what
    remains of thin ones) are cut into squares of 4 to 7 voxels, and those narrower than 4 are filled to and fro.

    Args:
        shape: ``(x, y, z)``, each at least 1.

    Returns:
        ``(x * y * z,)`` int32, or int64 for boxes too large for it; read-only, as it is kept.

    Raises:
        GeometryError: not three positive sizes.

    >>> hilbert_path((2, 2, 2)).tolist()
    [0, 4, 6, 2, 3, 7, 5, 1]
    """
    if len(shape) != 3 or min(shape) < 1:
        raise GeometryError(f"a box has three positive sizes, found {tuple(shape)}")
    x, y, z = (int(n) for n in shape)
    return _kept_path(x, y, z)


@lru_cache(maxsize=KEPT_PATHS)
def _kept_path(x: int, y: int, z: int) -> npt.NDArray[Any]:
    voxels = _curve((x, y, z))
    kind = np.int32 if x * y * z < 2**31 else np.int64
    path = np.ravel_multi_index(tuple(voxels.T), (x, y, z)).astype(kind)
    path.flags.writeable = False
    return path


def _curve(shape: Voxel) -> Table:
    """The curve through a box as voxels ``(n, 3)``."""
    smallest = 4 if min(shape) == 1 else 2
    wide = [n for n in shape if n > 1]
    if len(wide) < 2 or min(wide) < smallest:
        return _to_and_fro(shape)
    counts = tuple(max(n // smallest, 1) for n in shape)
    coarse = _curve((counts[0], counts[1], counts[2]))
    return _refined(coarse, shape, (counts[0], counts[1], counts[2]), smallest)


def _to_and_fro(shape: Voxel) -> Table:
    """Up and down along the shortest axis first, so that what is near stays as near as may be."""
    order = sorted(range(3), key=lambda axis: -shape[axis])
    sizes = [shape[axis] for axis in order]
    first, second, third = np.indices(sizes).reshape(3, -1)
    third = np.where((first * sizes[1] + second) % 2, sizes[2] - 1 - third, third)
    second = np.where(first % 2, sizes[1] - 1 - second, second)
    found = np.empty((len(first), 3), dtype=np.int32)
    for axis, index in zip(order, (first, second, third), strict=True):
        found[:, axis] = index
    return found


def _refined(coarse: Table, shape: Voxel, counts: Voxel, smallest: int) -> Table:
    """The curve through the voxels of blocks, given that through the blocks.

    Args:
        coarse: ``(m, 3)`` blocks in order.
        shape: of the box in voxels.
        counts: blocks along each axis.
        smallest: size of all blocks but the last along an axis, which takes what is left over.
    """
    size = [1 if n == 1 else smallest for n in shape]
    rest = [n - (count - 1) * step for n, count, step in zip(shape, counts, size, strict=True)]
    sizes = [
        (rest[0] if i else size[0], rest[1] if j else size[1], rest[2] if k else size[2])
        for i, j, k in product((False, True), repeat=3)
    ]
    kinds = (coarse == np.array(counts) - 1) @ np.array([4, 2, 1])
    steps = np.full(len(coarse), len(STEPS) - 1)
    change = np.diff(coarse, axis=0)
    steps[:-1] = np.argmax(np.abs(change), axis=1) + 3 * (change.sum(axis=1) < 0)
    chosen, paths = _paths_through(kinds, steps, sizes, smallest)
    begins = np.concatenate([[0], np.cumsum(np.array([len(path) for path in paths])[chosen])])
    voxels = np.empty((int(begins[-1]), 3), dtype=np.int32)
    corners = coarse * np.array(size, dtype=np.int32)
    for number, path in enumerate(paths):
        at = np.flatnonzero(chosen == number)
        # all blocks with the same path at once
        voxels[begins[at, None] + np.arange(len(path))] = corners[at, None] + path
    return voxels


def _paths_through(
    kinds: npt.NDArray[Any], steps: npt.NDArray[Any], sizes: Sequence[Voxel], smallest: int
) -> tuple[npt.NDArray[np.int32], list[Table]]:
    """Follow the curve from block to block and choose each one's path.

    Args:
        kinds: ``(m,)`` index into ``sizes`` of each block.
        steps: ``(m,)`` index into :data:`STEPS` of the step to the next block.
        sizes: of the kinds of blocks.
        smallest: size along its way of a block that is entered backwards.

    Returns:
        ``(m,)`` index into the list of paths that comes with it, each ``(n, 3)``.
    """
    paths: list[Table] = []
    # what follows from entering a kind of block at some voxel and leaving by some step, as it is met
    known: dict[tuple[int, Voxel], tuple[int, Voxel]] = {}
    entry: Voxel = (0, 0, 0)
    chosen = []
    for key in (kinds * len(STEPS) + steps).tolist():
        met = known.get((key, entry))
        if met is None:
            kind, step = divmod(key, len(STEPS))
            path = _block_path(sizes[kind], entry, STEPS[step])
            met = known[key, entry] = len(paths), _next_entry(path[-1], STEPS[step], smallest)
            paths.append(np.array(path, dtype=np.int32))
        chosen.append(met[0])
        entry = met[1]
    return np.array(chosen, dtype=np.int32), paths


def _next_entry(leaving: Voxel, step: Voxel, smallest: int) -> Voxel:
    """Where the next block is entered, in its own indices."""
    entry = list(leaving)
    for axis in range(3):
        if step[axis]:
            # blocks of another size are last along their axis, and no block beyond leads back into them
            entry[axis] = 0 if step[axis] > 0 else smallest - 1
    return entry[0], entry[1], entry[2]


@cache
def _block_path(size: Voxel, entry: Voxel, step: Voxel) -> tuple[Voxel, ...]:
    """A path through all voxels of a block that ends on the face towards the next block."""
    even = size[0] * size[1] * size[2] % 2 == 0
    for leaving in product(*(range(n) for n in size)):
        outside = [axis for axis in range(3) if not 0 <= leaving[axis] + step[axis] < size[axis]]
        other_colour = (sum(leaving) - sum(entry)) % 2 == 1
        if (any(step) and not outside) or other_colour != even or (leaving == entry and size != (1, 1, 1)):
            continue
        voxels = frozenset((i, j, k) for i, j, k in product(*(range(n) for n in size)))
        if path := _hamiltonian_path(voxels, entry, (leaving[0], leaving[1], leaving[2])):
            return path
    raise GeometryError(f"no path through a block of {size} voxels from {entry} towards {step}")


def _hamiltonian_path(voxels: frozenset[Voxel], entry: Voxel, leaving: Voxel) -> tuple[Voxel, ...]:
    """A path from one voxel to another through all the others, or nothing if there is none; depth first."""
    if len(voxels) == 1:
        return (entry,) if entry == leaving else ()
    rest = voxels - {entry}
    if entry == leaving or not _may_be_left(rest, entry, leaving):
        return ()
    # voxels with few ways out first (Warnsdorff)
    for beside in sorted((v for v in _neighbours(entry) if v in rest), key=lambda v: _free(v, rest)):
        if path := _hamiltonian_path(rest, beside, leaving):
            return (entry, *path)
    return ()


def _may_be_left(rest: frozenset[Voxel], entry: Voxel, leaving: Voxel) -> bool:
    """False if the voxels that remain are in pieces, or one of them is a dead end."""
    beside = set(_neighbours(entry))
    for voxel in rest:
        if _free(voxel, rest) + (voxel in beside) < (1 if voxel == leaving else 2):
            return False
    seen, waiting = {leaving}, [leaving]
    while waiting:
        new = [v for v in _neighbours(waiting.pop()) if v in rest and v not in seen]
        seen.update(new)
        waiting += new
    return len(seen) == len(rest)


def _free(voxel: Voxel, rest: frozenset[Voxel]) -> int:
    return sum(v in rest for v in _neighbours(voxel))


@cache
def _neighbours(voxel: Voxel) -> tuple[Voxel, ...]:
    return tuple((voxel[0] + i, voxel[1] + j, voxel[2] + k) for i, j, k in STEPS[:-1])
