"""Features of a voxel for corrective learning: intensities and probabilities around it, position in a structure."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["CANDIDATES", "Disputed", "disputed"]

Floats = npt.NDArray[np.float32]

#: Labels of a voxel that are looked at, the most probable ones.
CANDIDATES = 4
#: Voxels with a label more probable than this are left alone.
CERTAIN = 0.97
#: Radius of the balls of voxels that are read, and standard deviations of wider means, voxels.
_RADIUS = 2
_WIDER_OF_IMAGE, _WIDER_OF_LABEL = (1.0, 2.0, 4.0), (1.5, 3.0)


@dataclass(frozen=True, eq=False)
class Disputed:
    """Voxels where the fused vote is close.

    Args:
        points: ``(n, 3)`` voxel indices.
        labels: ``(n, m)`` channel indices of the most probable labels, the most probable first.
        features: ``(n, m, F)`` float32.
    """

    points: npt.NDArray[Any]
    labels: npt.NDArray[Any]
    features: Floats


def disputed(
    probabilities: Floats,
    image: Floats,
    rng: np.random.Generator | None = None,
    most: int | None = None,
) -> Disputed:
    """Voxels where the fused vote is close, with their features.

    Args:
        probabilities: ``(K, *spatial)``.
        image: ``(C, *spatial)``; each channel is standardised around the structures.
        rng: draws voxels where there are more than ``most``.
        most: voxels; ``None`` for all.
    """
    points = np.argwhere(probabilities.max(axis=0) < CERTAIN)
    if rng is not None and most is not None and len(points) > most:
        points = points[np.sort(rng.choice(len(points), most, replace=False))]
    places = tuple(points.T)
    here = probabilities[(slice(None), *places)]
    labels = np.argsort(-here, axis=0, kind="stable")[: min(CANDIDATES, len(probabilities))].T
    seen = _of_image(_standardised(image, probabilities), points)
    offsets = len(_ball())
    width = seen.shape[1] + offsets + len(_WIDER_OF_LABEL) + 3 + len(probabilities)
    features = np.zeros((*labels.shape, width), np.float32)
    features[..., : seen.shape[1]] = seen[:, None]
    for label in np.unique(labels):
        rows, columns = np.nonzero(labels == label)
        features[rows, columns, seen.shape[1] :] = _of_label(probabilities, int(label), points[rows])
    return Disputed(points, labels, features)


def _ball() -> npt.NDArray[np.int64]:
    """``(m, 3)`` offsets."""
    cube = itertools.product(range(-_RADIUS, _RADIUS + 1), repeat=3)
    return np.array([o for o in cube if sum(v * v for v in o) <= _RADIUS**2])


def _around(volume: Floats, points: npt.NDArray[Any]) -> Floats:
    """``(n, m)`` values in the ball around each point; beyond the volume the values of its border are repeated."""
    padded = np.pad(volume, _RADIUS, mode="edge")
    x, y, z = np.moveaxis(points[:, None] + _ball() + _RADIUS, -1, 0)
    values: Floats = padded[x, y, z]
    return values


def _standardised(image: Floats, probabilities: Floats) -> Floats:
    """Mean 0 and SD 1 in and around the structures; of the whole volume where there are none."""
    from scipy.ndimage import binary_dilation

    near = binary_dilation(probabilities[0] < 0.5, iterations=2)
    if not near.any():
        near = np.ones_like(near)
    values = image[:, near]
    mean, spread = values.mean(axis=1), values.std(axis=1)
    spread[spread == 0] = 1
    standard: Floats = (image - mean[:, None, None, None]) / spread[:, None, None, None]
    return standard.astype(np.float32)


def _of_image(image: Floats, points: npt.NDArray[Any]) -> Floats:
    from scipy.ndimage import gaussian_filter

    places = tuple(points.T)
    parts = []
    for channel in image:
        parts.append(_around(channel, points))
        parts += [gaussian_filter(channel, sigma)[places][:, None] for sigma in _WIDER_OF_IMAGE]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _of_label(probabilities: Floats, label: int, points: npt.NDArray[Any]) -> Floats:
    """``(n, f)`` of one label: its probabilities, the place in its structure, and which label it is."""
    from scipy.ndimage import gaussian_filter

    chance = np.asarray(probabilities[label], dtype=np.float32)
    places = tuple(points.T)
    parts = [_around(chance, points)]
    parts += [gaussian_filter(chance, sigma)[places][:, None] for sigma in _WIDER_OF_LABEL]
    # the position of the background is that of all structures together
    body = np.argwhere(chance > 0.5 if label else probabilities[0] <= 0.5)
    centre, spread = (body.mean(axis=0), body.std(axis=0) + 1) if len(body) else (points.mean(axis=0), 1e3)
    parts.append((points - centre) / spread)
    which = np.zeros((len(points), len(probabilities)))
    which[:, label] = 1
    return np.concatenate([*parts, which], axis=1).astype(np.float32)
