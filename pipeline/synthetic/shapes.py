"""Seeded sets of simple shapes, in 2-D and 3-D, whose right answer is known by a formula.

``ellipsoids-and-boxes``: the classes differ by shape alone, in sizes from thin plates to a third of the scan,
so a network needs fine detail for some objects and wide context for others. ``noisy-spheres``: spheres that
touch and overlap under strong noise. MONAI's ``monai.data.synthetic`` draws spheres in uniform noise; boxes,
rotations, thin shapes and contact are what it lacks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.case import Dataset, LabelTable
from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.synthetic.dataset import SyntheticCase, case_seeds, write_synthetic_dataset

__all__ = [
    "SHAPE_LABELS",
    "ShapeKind",
    "Shapes",
    "box_mask",
    "ellipsoid_mask",
    "ellipsoids_and_boxes",
    "noisy_spheres",
    "write_shapes",
]

ShapeKind = Literal["ellipsoids-and-boxes", "noisy-spheres"]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

SHAPE_LABELS: dict[ShapeKind, LabelTable] = {
    "ellipsoids-and-boxes": LabelTable.from_names({"background": 0, "ellipsoid": 1, "box": 2}),
    "noisy-spheres": LabelTable.from_names({"background": 0, "sphere": 1}),
}
#: Intensities of objects above the background, from faint to bright; either class takes any of them.
INTENSITIES = (0.4, 0.6, 0.8, 1.0)
SMALLEST_SIDE = 16
#: Grey levels per unit of intensity in files, whose voxels are int16; the offset keeps noise positive.
FILE_UNITS = 1000


class Shapes(NamedTuple):
    """An image of shapes and its labels.

    Args:
        image: ``(*shape)`` float32; background 0, objects 0.4 to 1, plus noise.
        label: ``(*shape)`` uint8, values of :data:`SHAPE_LABELS`.
    """

    image: npt.NDArray[np.float32]
    label: npt.NDArray[np.uint8]


def ellipsoid_mask(
    shape: Sequence[int],
    centre: npt.ArrayLike,
    semi_axes: npt.ArrayLike,
    rotation: npt.ArrayLike | None = None,
) -> Mask:
    """Voxels whose centre lies in an ellipsoid (an ellipse in 2-D).

    Args:
        shape: ``(X, Y)`` or ``(X, Y, Z)``.
        centre: in voxels; the first voxel's centre is 0.
        semi_axes: in voxels.
        rotation: ``(D, D)`` whose columns are the directions of the semi-axes; the array's axes by default.

    >>> int(ellipsoid_mask((21, 21), (10, 10), (5, 5)).sum())  # pi * 5 ** 2 = 78.5
    81
    """
    scaled = _own_frame(shape, centre, rotation) / _column(semi_axes, len(shape))
    return (scaled**2).sum(axis=0) <= 1


def box_mask(
    shape: Sequence[int],
    centre: npt.ArrayLike,
    half_sides: npt.ArrayLike,
    rotation: npt.ArrayLike | None = None,
) -> Mask:
    """Voxels whose centre lies in a box (a rectangle in 2-D); arguments as for :func:`ellipsoid_mask`.

    >>> int(box_mask((21, 21), (10, 10), (5, 2)).sum())  # voxel centres from -5 to 5 and -2 to 2
    55
    """
    scaled = _own_frame(shape, centre, rotation) / _column(half_sides, len(shape))
    return np.abs(scaled).max(axis=0) <= 1


def ellipsoids_and_boxes(
    shape: Sequence[int], seed: int, *, objects: int = 12, noise: float = 0.15
) -> Shapes:
    """Ellipsoids (label 1) and rotated boxes (label 2) that do not touch, on a noisy background.

    Each class holds thin, small and big objects of several intensities; only the shape distinguishes the
    classes apart. Objects that find no free place in a crowded scan are left out.

    Args:
        shape: ``(X, Y)`` or ``(X, Y, Z)``, each at least 16.
        seed: of everything random.
        objects: how many are tried, half of each class.
        noise: standard deviation of Gaussian noise; objects are 0.4 to 1 above the background.

    Raises:
        OptionError: the shape is not 2-D or 3-D or too small, or a number is negative.

    >>> image, label = ellipsoids_and_boxes((32, 32, 32), seed=1)
    >>> image.shape, np.unique(label).tolist()
    ((32, 32, 32), [0, 1, 2])
    """
    rng = _generator(shape, seed, objects, noise)
    clean = np.zeros(tuple(shape))
    label = np.zeros(tuple(shape), dtype=np.uint8)
    # Big ones first, while there is room; in each size both classes.
    for index in range(objects):
        size = ("big", "small", "thin")[3 * index // objects]
        value = 1 + index % 2
        mask = _free_object(rng, label, value, _half_extents(rng, shape, size))
        if mask is not None:
            label[mask] = value
            clean[mask] = rng.choice(INTENSITIES)
    return Shapes(_with_noise(rng, clean, noise), label)


def noisy_spheres(shape: Sequence[int], seed: int, *, objects: int = 12, noise: float = 0.4) -> Shapes:
    """Spheres (label 1) of which every second one touches or overlaps an earlier one, in Gaussian noise.

    Args:
        shape: ``(X, Y)`` or ``(X, Y, Z)``, each at least 16.
        seed: of everything random.
        objects: how many spheres.
        noise: standard deviation of Gaussian noise; spheres are 0.4 to 1 above the background.

    Raises:
        OptionError: the shape is not 2-D or 3-D or too small, or a number is negative.
    """
    rng = _generator(shape, seed, objects, noise)
    clean = np.zeros(tuple(shape))
    label = np.zeros(tuple(shape), dtype=np.uint8)
    extent = np.array(shape, dtype=float)
    placed: list[tuple[Floats, float]] = []
    for index in range(objects):
        radius = rng.uniform(0.06, 0.16) * min(shape)
        centre = rng.uniform(radius, extent - 1 - radius)
        if index % 2 and placed:
            # Between deep overlap and bare contact; a sphere beyond the border is pushed back in.
            other, other_radius = placed[int(rng.integers(len(placed)))]
            direction = rng.standard_normal(len(shape))
            distance = rng.uniform(0.6, 1.0) * (radius + other_radius)
            centre = other + distance * direction / np.linalg.norm(direction)
            centre = np.clip(centre, radius, extent - 1 - radius)
        placed.append((centre, radius))
        mask = ellipsoid_mask(shape, centre, np.full(len(shape), radius))
        label[mask] = 1
        clean[mask] = rng.choice(INTENSITIES)
    return Shapes(_with_noise(rng, clean, noise), label)


def write_shapes(
    folder: Path,
    cases: int = 20,
    shape: Sequence[int] = (64, 64, 64),
    seed: int = 0,
    kind: ShapeKind = "ellipsoids-and-boxes",
) -> Dataset:
    """Write shapes as a Medical Segmentation Decathlon data set of 1 mm voxels; 2-D ones as single slices.

    The folder appears whole or not at all; the same arguments give the same bytes.

    Args:
        folder: to be made; it may exist if it is empty.
        cases: how many.
        shape: ``(X, Y)`` or ``(X, Y, Z)``.
        seed: of the whole data set.
        kind: which set.

    Raises:
        OptionError: the folder is not empty, the kind is unknown, or the shape or the number does not do.
    """
    if kind not in SHAPE_LABELS:
        raise OptionError(f"kind: expected one of {', '.join(SHAPE_LABELS)}, found {kind!r}")
    make = ellipsoids_and_boxes if kind == "ellipsoids-and-boxes" else noisy_spheres
    _check_shape(shape)

    def synthetic_cases() -> Iterator[SyntheticCase]:
        for index, case_seed in enumerate(case_seeds(seed, cases)):
            image, label = make(shape, case_seed)
            voxels = np.rint((image + 2) * FILE_UNITS).clip(0, np.iinfo(np.int16).max).astype(np.int16)
            yield SyntheticCase(f"shapes_{index:03d}", voxels, label, np.eye(4))

    return write_synthetic_dataset(
        folder,
        synthetic_cases(),
        name=kind,
        labels=SHAPE_LABELS[kind],
        channels=("MRI",),
        description=f"Synthetic {kind.replace('-', ' ')} in noise (seed {seed})",
        licence="CC0 1.0",
    )


def _check_shape(shape: Sequence[int]) -> None:
    if len(shape) not in {2, 3} or min(shape) < SMALLEST_SIDE:
        raise OptionError(
            f"shape: expected two or three sides of at least {SMALLEST_SIDE} voxels, found {tuple(shape)}"
        )


def _generator(shape: Sequence[int], seed: int, objects: int, noise: float) -> np.random.Generator:
    _check_shape(shape)
    for name, value in (("seed", seed), ("objects", objects), ("noise", noise)):
        if value < 0:
            raise OptionError(f"{name}: expected 0 or more, found {value}")
    return np.random.default_rng(seed)


def _with_noise(rng: np.random.Generator, clean: Floats, noise: float) -> npt.NDArray[np.float32]:
    return (clean + rng.normal(0, noise, clean.shape)).astype(np.float32)


def _column(values: npt.ArrayLike, dimensions: int) -> Floats:
    """Per-axis values, shaped to go with coordinates ``(D, *shape)``."""
    return np.broadcast_to(np.asarray(values, dtype=float), (dimensions,)).reshape(-1, *(1,) * dimensions)


def _own_frame(shape: Sequence[int], centre: npt.ArrayLike, rotation: npt.ArrayLike | None) -> Floats:
    """``(D, *shape)``: coordinates of voxel centres along an object's own axes, from its centre."""
    offset: Floats = np.indices(tuple(shape)) - _column(centre, len(shape))
    if rotation is None:
        return offset
    return np.tensordot(np.asarray(rotation, dtype=float).T, offset, axes=1)


def _half_extents(rng: np.random.Generator, shape: Sequence[int], size: str) -> Floats:
    """Half the extent along each own axis, in voxels: thin plates and needles, small blobs, big bodies."""
    side, dimensions = min(shape), len(shape)
    if size == "big":
        return rng.uniform(0.12, 0.22, dimensions) * side
    if size == "small":
        return np.maximum(rng.uniform(0.05, 0.09, dimensions) * side, 1.5)
    half = rng.uniform(0.12, 0.25, dimensions) * side
    half[: int(rng.integers(1, dimensions))] = rng.uniform(1.0, 1.8)
    return half


def _free_object(
    rng: np.random.Generator, label: npt.NDArray[Any], value: int, half: Floats, attempts: int = 30
) -> Mask | None:
    """Mask of an object at a random place and angle, clear of others and of the border, if one is found."""
    from scipy import ndimage
    from scipy.stats import special_ortho_group

    shape = label.shape
    taken = ndimage.binary_dilation(label > 0, iterations=2)
    inner = np.zeros(shape, dtype=bool)
    inner[(slice(1, -1),) * len(shape)] = True
    draw = ellipsoid_mask if value == 1 else box_mask
    for _ in range(attempts):
        centre = rng.uniform(half.min() + 1, np.array(shape) - 2 - half.min())
        rotation = special_ortho_group.rvs(len(shape), random_state=rng)
        mask = draw(shape, centre, half, rotation)
        if mask.any() and not (mask & (taken | ~inner)).any():
            return mask
    return None
