"""Fusion by a generative model: every voxel of the scan was drawn from some atlas, its label from that atlas too."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.fusion.candidates import Candidates, Fused
from atlaseg.atlases.fusion.voting import SLAB_BYTES, Canvas, winners_of
from atlaseg.pipeline.errors import OptionError

__all__ = ["GenerativeFusion", "signed_distance"]

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.intp]
Box = tuple[slice, slice, slice]

#: Distances are cut where the log-odds prior of a label has fallen to this.
SMALLEST_CHANCE = 1e-4
#: Labels within reach of a disputed voxel, for the estimate of memory.
LABELS_WITHIN_REACH = 8


@dataclass(frozen=True)
class GenerativeFusion:
    """Atlases are weighted at each voxel by intensity, vote softly near their boundaries, and neighbours agree.

    Sabuncu, Yeo, Van Leemput, Fischl and Golland, "A generative model for image segmentation based on label fusion",
    IEEE Transactions on Medical Imaging 29(10):1714-1729 (2010), https://doi.org/10.1109/TMI.2010.2050897.
    The model at voxel ``x``, where ``M(x)`` is the atlas it was drawn from:

    - intensity: Gaussian around the atlas's, with standard deviation ``sigma``;
    - label ``l``: proportional to ``exp(rho * D(x))``, where ``D`` is the signed distance to the boundary of ``l`` in
      the atlas, positive inside (the log-odds prior);
    - ``M``: a Markov random field that favours the same atlas at the six neighbours, with strength ``beta``.

    ``beta = 0`` makes voxels independent: the atlases' label probabilities are added with their weights (local
    fusion). ``beta > 0`` is semi-local: variational expectation maximisation with a mean field over ``M``.

    The defaults were chosen by leaving out each of ten hippocampi in turn, on which Dice hardly depends on them:
    0.834 to 0.838 for ``sigma`` 0.1 to 0.2, ``rho`` 0.5 to 1 and ``beta`` 0, where majority vote had 0.827. ``beta``
    0.25 was 0.002 worse there, and 0.001 better on mouse brains.

    Work is done only where the atlases differ; what they agree on is settled and has probability one, also near
    boundaries. Labels further from a voxel than where the prior falls to 1e-4 are left out there.
    Memory: about ``SLAB_BYTES``; larger scans are taken in slabs that overlap by as many voxels as the mean field can
    reach, so that slabs do not change the result.

    Args:
        sigma: standard deviation of intensities, in the units of the images (rescaled to [0, 1]).
        rho: steepness of the log-odds prior, in 1 / units of ``spacing``.
        beta: strength of the Markov random field; 0 for local fusion.
        iterations: of the mean field.
        spacing: size of a voxel along each axis of the arrays, in mm; the default measures distances in voxels.

    Raises:
        OptionError: an option is not possible.

    >>> maps = np.array([[[[0, 1, 1, 0]]], [[[0, 1, 0, 0]]]], dtype=np.uint8)
    >>> target = np.array([[[[0, 1, 1, 0]]]], dtype=np.float32)
    >>> fused = GenerativeFusion().fuse(Candidates(maps, 2, images=maps[:, None].astype(np.float32), target=target))
    >>> fused.labels.ravel().tolist()
    [0, 1, 1, 0]
    """

    sigma: float = 0.12
    rho: float = 1.0
    beta: float = 0.0
    iterations: int = 10
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        for name, value in (("sigma", self.sigma), ("rho", self.rho)):
            if not (math.isfinite(value) and value > 0):
                raise OptionError(f"generative: {name} must be more than 0, found {value:g}")
        if not (math.isfinite(self.beta) and self.beta >= 0) or self.iterations < 1:
            raise OptionError(
                "generative: beta must be at least 0 and iterations at least 1, found "
                f"{self.beta:g} and {self.iterations}"
            )
        if len(self.spacing) != 3 or not all(math.isfinite(s) and s > 0 for s in self.spacing):
            raise OptionError(f"generative: spacing must be three sizes more than 0 mm, found {self.spacing}")

    def fuse(self, candidates: Candidates, *, probabilities: bool = True) -> Fused:
        """Labels, and posterior probabilities if asked for.

        Raises:
            OptionError: the candidates came without images.
        """
        candidates.intensities("generative")
        canvas = Canvas(candidates, probabilities)
        for slab in self._slabs(canvas, candidates):
            field = _Field.of(candidates, canvas.mask, slab, self.reach, self.spacing)
            evidence = self._evidence(candidates, field.voxels)
            shares = self._local(field, evidence) if self.beta == 0 else self._semi_local(field, evidence)
            shares = np.ascontiguousarray(shares[:, field.core])
            winners = winners_of(shares, candidates.labels.dtype)
            canvas.put(field.voxels[field.core], winners, shares)
        return canvas.fused()

    @property
    def reach(self) -> float:
        """Distance beyond which a label is left out, in the units of ``spacing``."""
        return -math.log(SMALLEST_CHANCE) / self.rho

    def _slabs(self, canvas: Canvas, candidates: Candidates) -> Iterator[_Slab]:
        """Parts of the grid along its longest axis, few enough voxels in dispute in each."""
        shape = candidates.spatial_shape
        axis = int(np.argmax(shape))
        halo = 0 if self.beta == 0 else self.iterations
        counts = canvas.mask.sum(axis=tuple(a for a in range(3) if a != axis))
        floats = len(candidates) * (LABELS_WITHIN_REACH + 6) + 2 * candidates.classes
        most = SLAB_BYTES / (4 * floats)
        start = 0
        while start < shape[axis]:
            stop = start + 1
            while stop < shape[axis] and counts[max(start - halo, 0) : stop + 1 + halo].sum() <= most:
                stop += 1
            if counts[start:stop].any():
                yield _Slab(axis, start, stop, halo)
            start = stop

    def _evidence(self, candidates: Candidates, voxels: Indices) -> Floats:
        """Log-likelihood of the scan's intensities under each atlas, ``(N, V)``, but for a constant."""
        images, target = candidates.intensities("generative")
        flat = target.reshape(len(target), -1)[:, voxels]
        evidence = np.empty((len(candidates), len(voxels)), dtype=np.float32)
        for atlas, image in enumerate(images):
            difference = image.reshape(len(target), -1)[:, voxels] - flat
            evidence[atlas] = np.square(difference).sum(axis=0) / (-2 * self.sigma**2)
        if candidates.inside is not None:
            evidence[~candidates.inside.reshape(len(candidates), -1)[:, voxels]] = -np.inf
        return evidence

    def _local(self, field: _Field, evidence: Floats) -> Floats:
        """Label probabilities ``(K, V)`` where every voxel stands alone."""
        weights = _softmax(evidence) / self._partition(field)
        shares = np.zeros((field.classes, len(field.voxels)), dtype=np.float32)
        for label, at, distance in field.labels:
            shares[label, at] = (weights[:, at] * np.exp(self.rho * distance)).sum(axis=0)
        shares /= shares.sum(axis=0)
        return shares

    def _semi_local(self, field: _Field, evidence: Floats) -> Floats:
        """Label probabilities ``(K, V)`` where neighbouring voxels tend to come from the same atlas."""
        # what never changes: intensities, and the normalisation of each atlas's label probabilities
        fixed = evidence - np.log(self._partition(field))
        # the last column stands for neighbours that are not in dispute; it stays 0
        membership = np.zeros((len(evidence), len(field.voxels) + 1), dtype=np.float32)
        membership[:, :-1] = _softmax(evidence)
        for _ in range(self.iterations):
            labels = winners_of(self._scores(field, membership), np.intp)
            energy = fixed.copy()
            for label, at, distance in field.labels:
                chosen = labels[at] == label
                energy[:, at[chosen]] += self.rho * distance[:, chosen]
            for neighbour in field.neighbours:
                energy += self.beta * membership[:, neighbour]
            membership[:, :-1] = _softmax(energy)
        return _softmax(self._scores(field, membership))

    def _scores(self, field: _Field, membership: Floats) -> Floats:
        """Expected log-odds of each label, ``(K, V)``."""
        scores = np.full((field.classes, len(field.voxels)), -self.rho * self.reach, dtype=np.float32)
        for label, at, distance in field.labels:
            scores[label, at] = self.rho * (membership[:, at] * distance).sum(axis=0)
        return scores

    def _partition(self, field: _Field) -> Floats:
        """Sum of ``exp(rho * distance)`` over the labels in each atlas, ``(N, V)``."""
        total = np.zeros((field.atlases, len(field.voxels)), dtype=np.float32)
        for _, at, distance in field.labels:
            total[:, at] += np.exp(self.rho * distance)
        return total


@dataclass(frozen=True)
class _Slab:
    """Slices ``start`` to ``stop`` along an axis, and ``halo`` more on either side that only lend a hand."""

    axis: int
    start: int
    stop: int
    halo: int

    def box(self, shape: Sequence[int]) -> Box:
        low, high = max(self.start - self.halo, 0), min(self.stop + self.halo, shape[self.axis])
        first, second, third = (
            slice(low, high) if axis == self.axis else slice(0, n) for axis, n in enumerate(shape)
        )
        return first, second, third


@dataclass(frozen=True, eq=False)
class _Field:
    """Voxels of a slab where the atlases disagree, with their labels.

    Args:
        voxels: ``(V,)`` flat indices of the grid, ascending.
        core: ``(V,)`` bool, which of them are to be decided.
        neighbours: six ``(V,)`` places in ``voxels``, ``V`` where the neighbour is not among them.
        labels: label, places ``(M,)`` in ``voxels`` within its reach, signed distance ``(N, M)`` there.
        atlases: ``N``.
        classes: ``K``.
    """

    voxels: Indices
    core: npt.NDArray[np.bool_]
    neighbours: list[Indices]
    labels: list[tuple[int, Indices, Floats]]
    atlases: int
    classes: int

    @classmethod
    def of(
        cls,
        candidates: Candidates,
        disputed: npt.NDArray[np.bool_],
        slab: _Slab,
        reach: float,
        spacing: tuple[float, float, float],
    ) -> _Field:
        """The disputed voxels of a slab; labels are looked at as far beyond as they reach."""
        shape = disputed.shape
        part = slab.box(shape)
        mask = np.zeros(shape, dtype=bool)
        mask[part] = disputed[part]
        voxels = np.flatnonzero(mask)
        place = np.full(shape, len(voxels), dtype=np.intp)
        place.reshape(-1)[voxels] = np.arange(len(voxels))
        coordinates = np.stack(np.unravel_index(voxels, shape))
        along = coordinates[slab.axis]
        margin = [math.ceil(reach / size) + 1 for size in spacing]
        low = np.maximum(coordinates.min(axis=1) - margin, 0)
        high = np.minimum(coordinates.max(axis=1) + 1 + margin, shape)
        box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        return cls(
            voxels,
            (along >= slab.start) & (along < slab.stop),
            _neighbours(place, coordinates, len(voxels)),
            list(_distances(candidates, place, box, margin, reach, spacing)),
            len(candidates),
            candidates.classes,
        )


def _neighbours(place: Indices, coordinates: Indices, none: int) -> list[Indices]:
    """Places of the six neighbours of each voxel, ``none`` beyond the edge of the grid."""
    result = []
    for axis, size in enumerate(place.shape):
        for step in (-1, 1):
            moved = coordinates.copy()
            moved[axis] += step
            outside = (moved[axis] < 0) | (moved[axis] >= size)
            moved[axis] = np.clip(moved[axis], 0, size - 1)
            result.append(np.where(outside, none, place[tuple(moved)]))
    return result


def _distances(
    candidates: Candidates,
    place: Indices,
    box: tuple[slice, ...],
    margin: Sequence[int],
    reach: float,
    spacing: tuple[float, float, float],
) -> Iterator[tuple[int, Indices, Floats]]:
    """Each label that comes within reach of a disputed voxel, those voxels, and its distances; one at a time."""
    from scipy.ndimage import find_objects

    maps = [labels[box] for labels in candidates.labels]
    if candidates.inside is not None:
        # what an atlas has not seen is background, as warping leaves it: boundaries must not follow what stands there
        maps = [np.where(seen[box], one, 0) for seen, one in zip(candidates.inside, maps, strict=True)]
    places = place[box]
    nowhere = int(place.max())
    # find_objects counts from 1; int32, because a table of objects needs a signed index
    found = [find_objects(one.astype(np.int32) + 1, max_label=candidates.classes) for one in maps]
    for label in range(candidates.classes):
        own = [boxes[label] for boxes in found]
        crop = _around([one for one in own if one is not None], margin, places.shape)
        if crop is None:
            continue
        near = places[crop]
        chosen = near < nowhere
        distance = np.full((len(maps), int(chosen.sum())), -reach, dtype=np.float32)
        for atlas, one in enumerate(maps):
            if own[atlas] is not None:
                distance[atlas] = np.clip(signed_distance(one[crop] == label, spacing)[chosen], -reach, reach)
        within = distance.max(axis=0) > -reach
        if within.any():
            yield label, near[chosen][within], np.ascontiguousarray(distance[:, within])


def _around(boxes: list[tuple[slice, ...]], margin: Sequence[int], shape: Sequence[int]) -> Box | None:
    """Box around boxes, wider by a margin, within a grid; ``None`` for no boxes."""
    if not boxes:
        return None
    first, second, third = (
        slice(
            max(min(b[a].start for b in boxes) - margin[a], 0),
            min(max(b[a].stop for b in boxes) + margin[a], n),
        )
        for a, n in enumerate(shape)
    )
    return first, second, third


def signed_distance(mask: npt.NDArray[np.bool_], spacing: Sequence[float] = (1.0, 1.0, 1.0)) -> Floats:
    """Distance to the outermost voxels of a mask: 0 on them, positive further inside, negative outside.

    Maurer, Qi and Raghavan, IEEE Transactions on Pattern Analysis and Machine Intelligence 25(2):265-270 (2003),
    https://doi.org/10.1109/TPAMI.2003.1177156, as ITK has it: one pass for both signs, exact.
    The boundary itself lies half a voxel further out; the same for every label, so that it cancels where
    probabilities are normalised.

    Args:
        mask: ``(x, y, z)`` bool. Where all of it is true, distances are infinite.
        spacing: voxel size along each axis.

    >>> signed_distance(np.array([0, 1, 1, 1, 0, 0], bool).reshape(1, 1, 6)).ravel().tolist()
    [-1.0, 0.0, 1.0, 0.0, -1.0, -2.0]
    """
    import SimpleITK as sitk

    if mask.all():
        return np.full(mask.shape, np.inf, dtype=np.float32)
    image = sitk.GetImageFromArray(mask.astype(np.uint8))  # axes reversed, and so is the spacing
    image.SetSpacing([float(size) for size in reversed(spacing)])
    maurer = sitk.SignedMaurerDistanceMapImageFilter()
    maurer.SetNumberOfThreads(1)
    maurer.SetInsideIsPositive(True)
    maurer.SetSquaredDistance(False)
    maurer.SetUseImageSpacing(True)
    distance: Floats = sitk.GetArrayFromImage(maurer.Execute(image))
    return distance


def _softmax(logits: Floats) -> Floats:
    """Over the first axis; equal shares where everything is minus infinity."""
    largest = logits.max(axis=0)
    shares = np.exp(logits - np.where(np.isfinite(largest), largest, 0))
    total = shares.sum(axis=0)
    return np.where(total > 0, shares / np.where(total > 0, total, 1), np.float32(1 / len(shares)))
