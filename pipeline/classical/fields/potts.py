"""The energy of a labelling after Potts: what a label costs at a voxel, and what a border between two costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.classical.samples import voxels_inside
from atlaseg.pipeline.errors import DatasetError, GeometryError, OptionError

__all__ = ["PottsEnergy", "iterated_conditional_modes"]

Labels = npt.NDArray[np.int32]

#: Probabilities below this count as this: no label is impossible.
SMALLEST_PROBABILITY = 1e-6
#: Energies are whole numbers of thousandths, so that a minimum cut is exact.
STEPS = 1000


@dataclass(frozen=True, eq=False)
class PottsEnergy:
    """``sum_p cost_p(label_p) + sum_pq weight_pq [label_p != label_q]`` over voxels and faces between them.

    Arrays are flat over the volume with one voxel of rim on every side, so that every voxel has six neighbours; faces
    to the rim and to voxels outside the mask weigh nothing. Whole numbers, :data:`STEPS` to a unit of log-probability.

    Args:
        costs: ``(K, N)`` int32.
        weights: ``(3, N)`` int32, of the face between each voxel and the next along each axis.
        offsets: of the next voxel along each axis.
        inside: flat indices of the voxels to label.
        padded: ``(x + 2, y + 2, z + 2)``.
    """

    costs: npt.NDArray[np.int32]
    weights: npt.NDArray[np.int32]
    offsets: tuple[int, int, int]
    inside: npt.NDArray[np.intp]
    padded: tuple[int, int, int]

    @classmethod
    def of(
        cls,
        probabilities: npt.NDArray[np.floating],
        image: npt.NDArray[np.floating] | None = None,
        *,
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
        mask: npt.NDArray[np.bool_] | None = None,
        strength: float = 1.0,
        contrast: float = 0.0,
    ) -> Self:
        """The energy of which the smoothed labels are the minimum.

        Args:
            probabilities: ``(K, x, y, z)``; a label costs the negative logarithm of its probability.
            image: ``(C, x, y, z)``, needed for ``contrast``.
            spacing: voxel size in mm; a face weighs as its area, relative to that of a cube of the same volume.
            mask: ``(x, y, z)``, where to label.
            strength: mean weight of a face, in units of log-probability.
            contrast: with ``d`` the difference of the image across a face, weights are multiplied by
                ``exp(-contrast * d**2 / (2 * mean(d**2)))`` and brought back to the same mean; 0 is none. Boykov and
                Jolly, ICCV 2001, https://doi.org/10.1109/ICCV.2001.937505.

        Raises:
            OptionError: strength or contrast is negative or not finite, or contrast comes without an image.
            GeometryError: shapes do not fit.
            DatasetError: no voxel to label, or one that is not finite.
        """
        voxels_inside(probabilities, mask)
        shape = probabilities.shape[1:]
        if not (0 <= strength < np.inf and 0 <= contrast < np.inf) or (contrast > 0 and image is None):
            raise OptionError(
                "mrf: strength and contrast must be 0 or more and finite, and contrast needs the image; found "
                f"{strength:g} and {contrast:g}"
            )
        if image is not None and (image.ndim != 4 or image.shape[1:] != shape):
            raise GeometryError(f"the image has shape {image.shape}, the probabilities {probabilities.shape}")
        region = np.pad(np.ones(shape, dtype=bool) if mask is None else mask, 1)
        costs = np.zeros((len(probabilities), region.size), dtype=np.int32)
        middle = (slice(1, -1),) * 3
        for cost, chance in zip(costs.reshape(-1, *region.shape), probabilities, strict=True):
            cost[middle] = np.rint(-STEPS * np.log(np.clip(chance, SMALLEST_PROBABILITY, 1)))
        weights = _face_weights(region, image if contrast > 0 else None, spacing, contrast)
        total = sum(float(weight.sum(dtype=np.float64)) for weight in weights)
        faces = sum(int(np.count_nonzero(weight)) for weight in weights)
        scale = STEPS * strength * (faces / total if contrast > 0 and total > 0 else 1.0)
        return cls(
            costs,
            np.stack([np.rint(scale * weight).astype(np.int32) for weight in weights]).reshape(3, -1),
            (region.shape[1] * region.shape[2], region.shape[2], 1),
            np.flatnonzero(region),
            (region.shape[0], region.shape[1], region.shape[2]),
        )

    @property
    def classes(self) -> int:
        """``K``."""
        return len(self.costs)

    def cheapest(self) -> Labels:
        """For each voxel the label that costs least by itself, ``(N,)``; 0 outside."""
        labels = np.zeros(self.costs.shape[1], dtype=np.int32)
        best = self.costs[0].copy()
        for k in range(1, self.classes):
            better = self.costs[k] < best
            labels[better] = k
            np.minimum(best, self.costs[k], out=best)
        return labels

    def total(self, labels: npt.NDArray[np.integer]) -> float:
        """The energy of a labelling ``(N,)``, in units of log-probability."""
        energy = int(self.costs[labels[self.inside], self.inside].sum(dtype=np.int64))
        for weight, offset in zip(self.weights, self.offsets, strict=True):
            cut = labels[:-offset] != labels[offset:]
            energy += int(weight[:-offset][cut].sum(dtype=np.int64))
        return energy / STEPS

    def faces(self, at: npt.NDArray[np.intp]) -> list[tuple[npt.NDArray[np.intp], npt.NDArray[np.int32]]]:
        """For each of the six directions the neighbour of each voxel in ``at`` and the weight of the face between."""
        found = []
        for weight, offset in zip(self.weights, self.offsets, strict=True):
            found += [(at + offset, weight[at]), (at - offset, weight[at - offset])]
        return found

    def all_faces(self) -> npt.NDArray[np.int32]:
        """Sum of the weights of the faces of each voxel, ``(N,)``."""
        around = self.weights.sum(axis=0, dtype=np.int32)
        for weight, offset in zip(self.weights, self.offsets, strict=True):
            around[offset:] += weight[:-offset]
        return around

    def volume(self, labels: npt.NDArray[np.integer]) -> npt.NDArray[Any]:
        """Labels ``(N,)`` as a volume ``(x, y, z)``, without the rim."""
        return np.ascontiguousarray(labels.reshape(self.padded)[1:-1, 1:-1, 1:-1])


def iterated_conditional_modes(energy: PottsEnergy, labels: Labels, *, max_sweeps: int = 20) -> Labels:
    """Give each voxel in turn the label that is cheapest beside its neighbours' labels, until none changes.

    Besag, Journal of the Royal Statistical Society B 48(3):259-302 (1986),
    https://doi.org/10.1111/j.2517-6161.1986.tb01412.x. Voxels of one colour of a chequerboard have no neighbours among
    each other and are changed at once; after the first sweep only those are looked at that lie beside a change. The
    energy falls with every change; where it ends depends on the beginning.

    Args:
        energy: to lower.
        labels: ``(N,)``, where to begin; not changed.
        max_sweeps: over the volume, at most.
    """
    labels = labels.copy()
    index = np.unravel_index(energy.inside, energy.padded)
    colour = (index[0] + index[1] + index[2]) % 2 == 0
    waiting = [energy.inside[colour], energy.inside[~colour]]
    del index, colour
    region = np.zeros(labels.size, dtype=bool)
    region[energy.inside] = True
    for sweep in range(2 * max_sweeps):
        at = waiting[sweep % 2]
        changed = _improve(energy, labels, at)
        if not len(changed) and sweep:
            break
        beside = np.concatenate([changed + step for o in energy.offsets for step in (o, -o)])
        beside = np.unique(beside[region[beside]])
        # the other colour's first turn is over all of it
        if sweep:
            waiting[(sweep + 1) % 2] = beside
    return labels


def _improve(energy: PottsEnergy, labels: Labels, at: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Change voxels that are no neighbours of each other; returns those that changed."""
    old = labels[at]
    faces = [(labels[neighbour], weight) for neighbour, weight in energy.faces(at)]
    best = np.full(len(at), np.iinfo(np.int32).max, dtype=np.int32)
    new = old.copy()
    for k in range(energy.classes):
        cost = energy.costs[k, at].copy()
        for beside, weight in faces:
            cost -= np.where(beside == k, weight, 0)
        # an equally good label is no reason to change
        better = (cost < best) | ((cost == best) & (old == k))
        new[better] = k
        np.minimum(best, cost, out=best)
    labels[at] = new
    return at[new != old]


def _face_weights(
    region: npt.NDArray[np.bool_],
    image: npt.NDArray[np.floating] | None,
    spacing: Sequence[float],
    contrast: float,
) -> list[npt.NDArray[np.float32]]:
    """Weights of the faces between voxels inside ``region``, one volume for each axis."""
    edges = [region & np.roll(region, -1, axis) for axis in range(3)]
    edge = float(np.prod(spacing)) ** (1 / 3)
    weights = [
        np.where(between, np.float32(edge / step), np.float32(0))
        for between, step in zip(edges, spacing, strict=True)
    ]
    if image is None:
        return weights
    squares = []
    for axis in range(3):
        across = np.zeros(region.shape, dtype=np.float32)
        middle = [slice(1, -1)] * 3
        middle[axis] = slice(1, -2)
        across[tuple(middle)] = (np.diff(image, axis=axis + 1) ** 2).sum(axis=0)
        squares.append(across)
    number = sum(int(between.sum()) for between in edges)
    mean = sum(float(s[e].sum(dtype=np.float64)) for s, e in zip(squares, edges, strict=True)) / max(
        number, 1
    )
    if not np.isfinite(mean):
        raise DatasetError("the image holds NaN or infinite voxels: replace them, or leave it out")
    if mean == 0:
        return weights
    return [w * np.exp(-contrast * s / np.float32(2 * mean)) for w, s in zip(weights, squares, strict=True)]
