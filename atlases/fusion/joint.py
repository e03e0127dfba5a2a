"""Joint label fusion."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.fusion.candidates import Candidates, Fused
from atlaseg.atlases.fusion.joint_weights import pairwise_errors, solve_weights
from atlaseg.atlases.fusion.patches import (
    LEAST_VARIANCE,
    Block,
    Radius,
    as_radius,
    best_offsets,
    dilated,
    offsets_within,
)
from atlaseg.atlases.fusion.voting import Canvas, winners_of
from atlaseg.pipeline.errors import OptionError

__all__ = ["JointFusion"]

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]
Box = tuple[slice, slice, slice]

#: Patch and search radius in scans with an axis of fewer voxels than this, and in others.
_CROP_VOXELS = 64
_RADII_IN_CROPS, _RADII = (1, 2), (2, 1)
#: Images, with their margins, that are held at once.
_BLOCK_BYTES = 64 * 2**20
#: Numbers in the largest array of a step: it stays in a processor's cache.
_STEP_NUMBERS = 80_000


@dataclass(frozen=True)
class JointFusion:
    """Weighted vote whose weights minimise the expected error of the whole, with pairs that err together.

    At each voxel, ``M[i, j]`` is the mean over the patch of ``|A_i - T| |A_j - T|`` to the power of ``beta``: how
    likely atlases ``i`` and ``j`` are wrong together. The weights are ``(M + alpha I)^-1 1``, scaled to sum to one. So
    two copies of one atlas share the weight of one, where rules that look at atlases one by one count it twice.
    Before, each atlas is searched for the patch most like the target's, which mends small errors of registration.
    Patches are compared after taking off their mean and dividing by their standard deviation. The whole patch of
    labels votes, so that each label is decided by all patches that it lies in.

    Where weights come out negative (an atlas that errs in the same way as a better one) they are set to zero, as
    ANTs does. The background is a label like any other. Where all atlases agree nothing is computed.

    Wang et al., "Multi-atlas segmentation with joint label fusion", IEEE Transactions on Pattern Analysis and Machine
    Intelligence 35(3):611-623 (2013), https://doi.org/10.1109/TPAMI.2012.143; Wang and Yushkevich, "Multi-atlas
    segmentation with joint label fusion and corrective learning", Frontiers in Neuroinformatics 7:27 (2013),
    https://doi.org/10.3389/fninf.2013.00027

    Args:
        patch_radius: of the patches that are compared, voxels, one number or three; ``None``: 1 in a crop around an
            organ (an axis of fewer than 64 voxels), 2 in a larger scan.
        search_radius: how far the best patch is looked for, voxels; 0 for no search; ``None``: 2 in a crop, where
            structures are a few voxels thick and registration leaves as much, 1 in a larger scan.
        vote_radius: of the patches of labels that vote; ``None`` for ``patch_radius``, 0 for the middle alone.
        alpha: greater than 0; the more, the more alike the weights.
        beta: greater than 0; the more, the greater the weight of the best atlases.
        search_metric: ``squares`` compares intensities as they are, ``correlation`` their pattern alone.
    """

    patch_radius: int | tuple[int, int, int] | None = None
    search_radius: int | tuple[int, int, int] | None = None
    vote_radius: int | tuple[int, int, int] | None = None
    alpha: float = 0.1
    beta: float = 2.0
    search_metric: Literal["squares", "correlation"] = "squares"

    def __post_init__(self) -> None:
        for name in ("patch_radius", "search_radius", "vote_radius"):
            if getattr(self, name) is not None:
                as_radius(name, getattr(self, name))
        for name in ("alpha", "beta"):
            if not 0 < getattr(self, name) < np.inf:
                raise OptionError(f"{name}: expected more than 0, found {getattr(self, name)}")
        if self.search_metric not in ("squares", "correlation"):
            raise OptionError(f"search_metric: choose squares or correlation, found {self.search_metric!r}")

    def radii(self, shape: tuple[int, ...]) -> tuple[Radius, Radius]:
        """Patch and search radius, voxels along each axis, for a scan of some shape."""
        patch, search = _RADII_IN_CROPS if min(shape) < _CROP_VOXELS else _RADII
        return (
            as_radius("patch_radius", patch if self.patch_radius is None else self.patch_radius),
            as_radius("search_radius", search if self.search_radius is None else self.search_radius),
        )

    def fuse(self, candidates: Candidates, *, probabilities: bool = True) -> Fused:
        """Labels, and shares of the vote if asked for.

        Raises:
            OptionError: the candidates came without images, or these hold NaN or infinity.
        """
        images, target = candidates.intensities("joint")
        canvas = Canvas(candidates, probabilities)
        if len(canvas.disputed):
            _Work(self, candidates, images, target, canvas).run()
        return canvas.fused()


class _Work:
    """One fusion: blocks of planes, one after the other, each with the weights of a few planes on both sides."""

    def __init__(
        self, rule: JointFusion, candidates: Candidates, images: Floats, target: Floats, canvas: Canvas
    ) -> None:
        self.rule, self.candidates, self.canvas = rule, candidates, canvas
        self.images, self.target = images, target
        patch, reach = rule.radii(candidates.spatial_shape)
        self.search = offsets_within(reach)
        self.patch = patch
        self.vote = self.patch if rule.vote_radius is None else as_radius("vote_radius", rule.vote_radius)
        self.margin = _added(self.patch, reach)
        self.vote_margin = _larger(self.vote, reach)
        if not np.isfinite(target).all():
            raise OptionError(
                "joint fusion compares intensities, but the scan holds NaN or infinity: clean it"
            )
        # everything in units of the target's own spread, so that thresholds and single precision are safe
        self.mean = target.mean(axis=(1, 2, 3), dtype=np.float64, keepdims=True).astype(np.float32)
        spread = target.std(axis=(1, 2, 3), dtype=np.float64, keepdims=True)
        self.scale = np.divide(1, spread, out=np.ones_like(spread), where=spread > 0).astype(np.float32)
        mask = dilated(canvas.mask, self.vote)
        self.box = _bounding_box(mask)
        self.centres = np.flatnonzero(mask)

    def run(self) -> None:
        """Vote on every disputed voxel."""
        plane = self.candidates.spatial_shape[1] * self.candidates.spatial_shape[2]
        kept: _Weighted | None = None
        done = self.box[0].start
        for start, stop in self._blocks():
            ahead = min(stop + self.vote[0], self.box[0].stop)
            if done < ahead:
                low, high = np.searchsorted(self.centres, (done * plane, ahead * plane))
                fresh = self._weighted(self.centres[low:high], slice(done, ahead))
                kept = fresh if kept is None else kept.followed_by(fresh)
                done = ahead
            if kept is not None:
                self._put(kept, slice(start, stop))
                kept = kept.since((stop - self.vote[0]) * plane)

    def _blocks(self) -> Iterator[tuple[int, int]]:
        """Planes from, to."""
        planes, *sides = self.box
        area = np.prod([s.stop - s.start + 2 * m for s, m in zip(sides, self.margin[1:], strict=True)])
        per_plane = 4 * area * (self.images.shape[0] + 1) * self.images.shape[1]
        thickness = max(2 * self.margin[0] + 1, int(_BLOCK_BYTES // per_plane) - 2 * self.margin[0])
        for start in range(planes.start, planes.stop, thickness):
            yield start, min(start + thickness, planes.stop)

    def _weighted(self, centres: Indices, planes: slice) -> _Weighted:
        """Best offset and weight of each atlas at each centre, flat indices into the scan."""
        block = self._block((planes, *self.box[1:]))
        inner = _ravel(
            centres, self.candidates.spatial_shape, (planes, *self.box[1:]), self.margin, block.shape
        )
        count = len(self.candidates)
        rows = np.stack(
            [
                best_offsets(
                    block,
                    atlas,
                    inner,
                    self.patch,
                    self.search,
                    correlation=self.rule.search_metric == "correlation",
                )
                for atlas in range(count)
            ]
        )
        moves = block.steps(self.search)
        weights = np.empty((count, len(centres)), dtype=np.float32)
        usable = block.usable.reshape(count, -1)
        parts = list(
            _parts(len(centres), count * len(self.target) * int(np.prod(2 * np.array(self.patch) + 1)))
        )
        differences = _Differences(block, self.patch, parts[0].stop if parts else 0)
        for part in parts:
            steps = differences.at(inner[part], moves[rows[:, part]])
            matrix = pairwise_errors(steps, self.rule.beta)
            weights[:, part] = solve_weights(matrix, self.rule.alpha, usable[:, inner[part]])
        return _Weighted(centres, rows, weights)

    def _block(self, box: Box) -> Block:
        places = np.ix_(
            *(
                np.clip(np.arange(s.start - m, s.stop + m), 0, n - 1)
                for s, m, n in zip(box, self.margin, self.candidates.spatial_shape, strict=True)
            )
        )
        seen = self._seen(box, self.margin)
        # NumPy chooses the memory layout of what several index arrays select
        x, y, z = places
        target = np.ascontiguousarray((self.target[:, x, y, z] - self.mean) * self.scale, dtype=np.float32)
        images = np.empty((len(self.images), *target.shape), dtype=np.float32)
        for atlas, image in enumerate(self.images):
            np.subtract(image[:, x, y, z], self.mean, out=images[atlas])
            images[atlas] *= self.scale
            if self.candidates.inside is not None:
                # what an atlas has not seen speaks neither for it nor against it
                np.copyto(images[atlas], target, where=~seen[atlas])
            if not np.isfinite(images[atlas]).all():
                raise OptionError(
                    f"joint fusion compares intensities, but atlas {atlas + 1} of {len(images)} holds NaN or infinity: "
                    "clean it"
                )
        return Block(images, target, seen, self.margin)

    def _seen(self, box: Box, margin: Radius) -> npt.NDArray[np.bool_]:
        """Where atlases may vote, in a box and a margin around it."""
        inside = self.candidates.inside
        if inside is None:
            everywhere = np.broadcast_to(np.True_, self.candidates.labels.shape)
            return _cut(everywhere, box, margin, outside=False)
        return _cut(inside, box, margin, outside=False)

    def _put(self, weighted: _Weighted, planes: slice) -> None:
        """Vote on the disputed voxels of some planes."""
        shape, classes = self.candidates.spatial_shape, self.candidates.classes
        plane = shape[1] * shape[2]
        low, high = np.searchsorted(self.canvas.disputed, (planes.start * plane, planes.stop * plane))
        disputed = self.canvas.disputed[low:high]
        if not len(disputed):
            return
        box = (planes, *self.box[1:])
        labels = _cut(self.candidates.labels, box, self.vote_margin, outside=0).astype(np.intp)
        labels[~self._seen(box, self.vote_margin)] = classes  # votes of no account
        grid = labels.shape[1:]
        # which row of the weights belongs to each place; the last one, of weight 0, to places that have none
        number = np.full(grid, len(weighted.centres), dtype=np.intp)
        near = weighted.centres[weighted.centres < (planes.stop + self.vote_margin[0]) * plane]
        number.reshape(-1)[_ravel(near, shape, box, self.vote_margin, grid)] = np.arange(len(near))
        weights = np.pad(weighted.weights, ((0, 0), (0, 1)))
        steps = np.array((grid[1] * grid[2], grid[2], 1), dtype=np.intp)
        moves = np.pad((self.search @ steps)[weighted.rows], ((0, 0), (0, 1)))
        votes_from = offsets_within(self.vote) @ steps
        places = _ravel(disputed, shape, box, self.vote_margin, grid)
        for part in _parts(len(disputed), len(votes_from) + classes):
            middle = places[part, None]
            rows = number.reshape(-1).take(middle + votes_from)
            first = np.arange(len(middle))[:, None] * (classes + 1)
            votes = np.zeros(len(middle) * (classes + 1))
            for atlas, seen in enumerate(labels.reshape(len(labels), -1)):
                label = seen.take(middle + moves[atlas].take(rows))
                label += first
                weight = weights[atlas].take(rows)
                votes += np.bincount(label.reshape(-1), weight.reshape(-1), minlength=len(votes))
            shares = votes.reshape(-1, classes + 1)[:, :classes].T
            shares = (shares / shares.sum(axis=0)).astype(np.float32)
            self.canvas.put(disputed[part], winners_of(shares, self.candidates.labels.dtype), shares)


@dataclass(frozen=True, eq=False)
class _Weighted:
    """What some centres, in rising order, have to say: flat indices, rows of the search and weights ``(N, n)``."""

    centres: Indices
    rows: npt.NDArray[np.int16]
    weights: Floats

    def followed_by(self, other: _Weighted) -> _Weighted:
        return _Weighted(
            np.concatenate([self.centres, other.centres]),
            np.concatenate([self.rows, other.rows], axis=1),
            np.concatenate([self.weights, other.weights], axis=1),
        )

    def since(self, centre: int) -> _Weighted:
        first = np.searchsorted(self.centres, centre)
        return _Weighted(self.centres[first:], self.rows[:, first:], self.weights[:, first:])


class _Differences:
    """Absolute differences of the atlases' normalised patches from the target's, in memory that is used again.

    Fresh arrays for each step would cost more than the arithmetic: the system clears every page of them.
    """

    def __init__(self, block: Block, patch: Radius, most: int) -> None:
        atlases, channels = block.images.shape[:2]
        self._images = block.images.reshape(atlases, channels, -1)
        self._target = block.target.reshape(channels, -1)
        self._patch = block.steps(offsets_within(patch))
        self._places = np.empty((most, len(self._patch)), dtype=np.intp)
        self._expected = np.empty((most, len(self._patch)), dtype=np.float32)
        self._found = np.empty((channels, atlases, most, len(self._patch)), dtype=np.float32)

    def at(self, centres: Indices, moves: Indices) -> Iterator[Floats]:
        """For each channel ``(n, N, P)``, valid until the next step.

        Args:
            centres: ``(n,)`` flat indices into the block.
            moves: ``(N, n)`` from there to the centre of each atlas' patch.
        """
        count = len(centres)
        for target, images, found in zip(self._target, self._images.swapaxes(0, 1), self._found, strict=True):
            expected = self._normalised(target, centres, self._expected[:count])
            for image, move, room in zip(images, moves, found[:, :count], strict=True):
                patches = self._normalised(image, centres + move, room)
                np.subtract(patches, expected, out=patches)
                np.abs(patches, out=patches)
            yield found[:, :count].swapaxes(0, 1)

    def _normalised(self, image: Floats, centres: Indices, out: Floats) -> Floats:
        """Patches of mean 0 and variance 1; flat ones become 0."""
        places = self._places[: len(centres)]
        np.add(centres[:, None], self._patch, out=places)
        # no index leaves the block, because of its margin; "clip" spares numpy a copy that it makes to raise errors
        image.take(places, out=out, mode="clip")
        size = out.shape[1]
        out -= (out @ np.full(size, 1 / size, dtype=np.float32))[:, None]
        variance = np.einsum("np,np->n", out, out) / max(1, size - 1)
        out *= (1 / np.sqrt(np.maximum(variance, LEAST_VARIANCE)))[:, None]
        return out


def _parts(count: int, numbers_each: int) -> Iterator[slice]:
    length = max(1, _STEP_NUMBERS // numbers_each)
    for start in range(0, count, length):
        yield slice(start, min(start + length, count))


def _bounding_box(mask: npt.NDArray[np.bool_]) -> Box:
    slices = []
    for axis in range(3):
        found = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        slices.append(slice(int(found[0]), int(found[-1]) + 1))
    return slices[0], slices[1], slices[2]


def _cut(volumes: npt.NDArray[Any], box: Box, margin: Radius, outside: Any) -> npt.NDArray[Any]:
    """A box of ``(N, x, y, z)`` with a margin; ``outside`` where that leaves the grid."""
    shape = [s.stop - s.start + 2 * m for s, m in zip(box, margin, strict=True)]
    cut = np.full((len(volumes), *shape), outside, dtype=volumes.dtype)
    source, place = [], []
    for s, m, n in zip(box, margin, volumes.shape[1:], strict=True):
        low, high = max(s.start - m, 0), min(s.stop + m, n)
        source.append(slice(low, high))
        place.append(slice(low - s.start + m, high - s.start + m))
    cut[(slice(None), *place)] = volumes[(slice(None), *source)]
    return cut


def _ravel(
    indices: Indices, shape: tuple[int, ...], box: Box, margin: Radius, grid: tuple[int, ...]
) -> Indices:
    """Flat indices into a scan -> flat indices into a box of it with a margin."""
    places = np.unravel_index(indices, shape)
    return np.ravel_multi_index(
        tuple(p - s.start + m for p, s, m in zip(places, box, margin, strict=True)), grid
    )


def _added(a: Radius, b: Radius) -> Radius:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _larger(a: Radius, b: Radius) -> Radius:
    return max(a[0], b[0]), max(a[1], b[1]), max(a[2], b[2])
