"""Labelled scans that look like skull-stripped T1 MRI, made without any download, for the demo and tests.

Each subject is the MNI152 average brain (:mod:`atlaseg.pipeline.synthetic.brain_template`) under its own smooth
random warp and small pose, with its own thickness of cortex and width of sulci and ventricles, seen through its own
contrast, bias field, resolution and Rician noise. Template, tissue maps and structures are resampled together, once, so
the labels are those of the anatomy in the image. They are not manual labels: real anatomy is richer than a
warped average, and scores on phantoms say nothing about scores on patients.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.case import Dataset, LabelTable
from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.synthetic.brain_template import BrainTemplate, load_brain_template
from atlaseg.pipeline.synthetic.dataset import SyntheticCase, case_seeds, write_synthetic_dataset

__all__ = ["BRAIN_LABELS", "Subject", "Variation", "jacobian_determinant", "make_subject", "write_phantom"]

Spacing = tuple[float, float, float]
Floats = npt.NDArray[np.float64]

#: Labels of a phantom; :func:`atlaseg.pipeline.synthetic.brain_template.load_brain_template` defines the last two
#: are cut.
BRAIN_LABELS = LabelTable.from_names(
    {
        "background": 0,
        "CSF": 1,
        "grey matter": 2,
        "white matter": 3,
        "lateral ventricles": 4,
        "deep grey matter": 5,
    }
)
#: Extent of every scan in mm along R, A, S, around a brain of 144 x 180 x 154 mm that is posed and warped.
FIELD_OF_VIEW_MM = (176.0, 220.0, 192.0)
#: Default voxel size: 64 x 80 x 70 voxels, small enough to train on with a laptop.
SPACING_MM: Spacing = (2.75, 2.75, 2.75)
#: Axes of the arrays that scanners and converters commonly leave behind; subjects of a data set take turns.
ORIENTATIONS = ("RAS", "LPS", "LAS", "PSR")
#: Smallest local change of volume that a warp may have; at 0 tissue would vanish, below it would fold.
SMALLEST_JACOBIAN = 0.25
LARGEST_SPACING_MM = 10.0
#: Log-odds by which CSF, grey and white matter gain: averaging over people has blurred narrow sulci away.
SULCAL_GAIN = (0.8, 0.0, 0.0)

LICENCE = (
    "Made from the ICBM 152 2009a template, Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging "
    "Centre, Montreal Neurological Institute, McGill University; free for any purpose where this notice stays"
)


@dataclass(frozen=True)
class Variation:
    """Variation between subjects; 0 everywhere gives the template itself.

    Args:
        rotation_degrees: largest rotation of the head about each axis.
        scaling: largest relative change of head size along each axis.
        deformation_mm: standard deviation of the smooth displacement of anatomy along each axis.
        deformation_grid_mm: distance between the points of the coarse random grid behind it.
        anatomy: standard deviation of the random log-odds by which tissues grow into each other.
        tilt_degrees: largest rotation of the scan's grid (an oblique affine).
        spacing: largest relative change of the voxel size.
        contrast: 0 keeps the template's tissue intensities; 1 is the spread between scanners.
        bias: standard deviation of the log of the multiplicative bias field.
        blur: largest standard deviation of blur along one axis, in voxels (thick slices).
        noise: largest standard deviation of the noise, relative to white matter.

    Raises:
        OptionError: a value is negative, not finite or, for sizes, beyond one half.
    """

    rotation_degrees: float = 6.0
    scaling: float = 0.06
    deformation_mm: float = 3.0
    deformation_grid_mm: float = 32.0
    anatomy: float = 0.6
    tilt_degrees: float = 4.0
    spacing: float = 0.08
    contrast: float = 1.0
    bias: float = 0.12
    blur: float = 0.6
    noise: float = 0.045

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < np.inf:
                raise OptionError(f"variation {name}: expected 0 or more, found {value}")
        for name in ("scaling", "spacing"):
            if getattr(self, name) > 0.5:
                raise OptionError(f"variation {name}: expected at most 0.5, found {getattr(self, name)}")
        if self.deformation_grid_mm < 5:
            raise OptionError(
                f"variation deformation_grid_mm: expected 5 mm or more, found {self.deformation_grid_mm}"
            )


class Subject(NamedTuple):
    """One labelled scan.

    Args:
        image: ``(X, Y, Z)`` int16, arbitrary units as in MRI, 0 outside the brain.
        label: ``(X, Y, Z)`` uint8, values of :data:`BRAIN_LABELS`.
        affine: ``(4, 4)``, voxel index -> RAS+ mm.
    """

    image: npt.NDArray[np.int16]
    label: npt.NDArray[np.uint8]
    affine: Floats


def make_subject(
    seed: int,
    *,
    spacing: Spacing = SPACING_MM,
    orientation: str = "RAS",
    variation: Variation | None = None,
) -> Subject:
    """One random subject: scan, labels and affine.

    The same seed gives the same arrays; with another spacing it gives the same head, scanned again.

    Args:
        seed: of everything random.
        spacing: voxel size in mm along R, A, S, about (see ``Variation.spacing``).
        orientation: axes of the arrays, such as ``LPS``.
        variation: how far from the template.

    Raises:
        OptionError: the seed is negative, spacing not in (0, 10] mm, or the orientation is not one.

    >>> image, label, affine = make_subject(0, spacing=(8, 8, 8))
    >>> image.dtype, label.dtype, np.unique(label).tolist()
    (dtype('int16'), dtype('uint8'), [0, 1, 2, 3, 4, 5])
    """
    _check_options(seed, spacing, orientation)
    change = Variation() if variation is None else variation
    # One stream per step: a step that draws more or less leaves the others as they are.
    grid_rng, pose_rng, warp_rng, tissue_rng, scanner_rng, noise_rng = (
        np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(6)
    )
    template = load_brain_template(tuple(float(s) for s in spacing))
    shape, affine = _scan_grid(grid_rng, spacing, change)
    points = _warped_points(warp_rng, shape, affine, change)
    points = _posed(pose_rng, points, template.centre, change)
    t1, tissues, structures = _sampled(template, points)
    grown = _grown_tissues(tissue_rng, tissues, affine, change)
    label = _label_map(grown, structures)
    clean = t1 + np.tensordot(template.tissue_intensities, grown - tissues, axes=1)
    seen = _contrast(scanner_rng, clean, template.tissue_intensities, change)
    image = _scanned(scanner_rng, noise_rng, seen, affine, change)
    image[grown.sum(axis=0) < 0.45] = 0
    voxels = np.rint(np.clip(image, 0, np.iinfo(np.int16).max)).astype(np.int16)
    return _reoriented(Subject(voxels, label, affine), orientation)


def write_phantom(
    folder: Path,
    subjects: int = 12,
    seed: int = 0,
    *,
    spacing: Spacing = SPACING_MM,
    variation: Variation | None = None,
) -> Dataset:
    """Write subjects as a Medical Segmentation Decathlon data set.

    It holds ``dataset.json``, ``imagesTr`` and ``labelsTr``; subjects take turns in four axis orders.
    The folder appears whole or not at all; the same arguments give the same bytes.

    Args:
        folder: to be made; it may exist if it is empty.
        subjects: how many.
        seed: of the whole data set.
        spacing: voxel size in mm along R, A, S, about.
        variation: how much subjects differ.

    Raises:
        OptionError: the folder is not empty, there are no subjects, or the spacing is out of range.
    """
    _check_options(seed, spacing, "RAS")

    def cases() -> Iterator[SyntheticCase]:
        for index, subject_seed in enumerate(case_seeds(seed, subjects)):
            orientation = ORIENTATIONS[index % len(ORIENTATIONS)]
            subject = make_subject(
                subject_seed, spacing=spacing, orientation=orientation, variation=variation
            )
            yield SyntheticCase(f"phantom_{index:03d}", *subject)

    return write_synthetic_dataset(
        folder,
        cases(),
        name="phantom",
        labels=BRAIN_LABELS,
        channels=("MRI",),
        description=f"Synthetic T1 brain scans: the MNI152 template, randomly warped (seed {seed})",
        licence=LICENCE,
    )


def jacobian_determinant(points: Floats, affine: Floats) -> Floats:
    """Local change of volume of a warp, by central differences; positive everywhere means no folding.

    Args:
        points: ``(3, X, Y, Z)``, where each voxel's centre is sent, in mm.
        affine: ``(4, 4)`` of the voxel grid.

    Returns:
        ``(X, Y, Z)``, 1 where nothing changes.
    """
    gradient = np.stack([np.gradient(component) for component in points])  # (3 mm, 3 voxel axes, X, Y, Z)
    return np.linalg.det(np.moveaxis(gradient, (0, 1), (-2, -1))) / np.linalg.det(affine[:3, :3])


def _check_options(seed: int, spacing: Spacing, orientation: str) -> None:
    if seed < 0:
        raise OptionError(f"seed: expected 0 or more, found {seed}")
    if len(spacing) != 3 or not all(0 < s <= LARGEST_SPACING_MM for s in spacing):
        raise OptionError(
            f"spacing: expected three sizes above 0 and up to {LARGEST_SPACING_MM:g} mm, found {spacing}"
        )
    if sorted(orientation) not in [sorted(a + b + c) for a in "LR" for b in "AP" for c in "IS"]:
        raise OptionError(
            f"orientation {orientation!r}: give one letter each of L/R, A/P and I/S, such as RAS"
        )


def _rotation(rng: np.random.Generator, degrees: float) -> Floats:
    from scipy.spatial.transform import Rotation

    return Rotation.from_euler("xyz", rng.uniform(-degrees, degrees, 3), degrees=True).as_matrix()


def _scan_grid(
    rng: np.random.Generator, spacing: Spacing, change: Variation
) -> tuple[tuple[int, ...], Floats]:
    """Shape and affine of a slightly tilted grid around the scanner's centre, axes close to R, A, S."""
    size = np.array(spacing) * (1 + rng.uniform(-change.spacing, change.spacing))
    shape = np.maximum(np.rint(np.array(FIELD_OF_VIEW_MM) / size), 2).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = _rotation(rng, change.tilt_degrees) * size
    affine[:3, 3] = -affine[:3, :3] @ ((shape - 1) / 2)
    return tuple(int(n) for n in shape), affine


def _smooth_field(
    rng: np.random.Generator, count: int, shape: tuple[int, ...], affine: Floats, grid_mm: float
) -> Floats:
    """``(count, *shape)`` smooth random fields of mean 0 and variance 1: cubic B-splines on a coarse grid.

    The coarse grid is laid in mm, so that scans of one subject at several resolutions share the fields.
    """
    from scipy.interpolate import BSpline

    bases = []
    for n, size, extent in zip(shape, np.linalg.norm(affine[:3, :3], axis=0), FIELD_OF_VIEW_MM, strict=True):
        # Rounding to whole voxels makes scans at most one large voxel longer than the field of view.
        half = extent / 2 + LARGEST_SPACING_MM
        intervals = int(np.ceil(2 * half / grid_mm))
        knots = -half + grid_mm * np.arange(-3, intervals + 4)
        position = (np.arange(n) - (n - 1) / 2) * size
        basis = BSpline.design_matrix(position, knots, 3).toarray()
        bases.append(basis / np.sqrt((basis**2).sum(axis=1, keepdims=True)))
    field = rng.standard_normal((count, *(basis.shape[1] for basis in bases)))
    for basis in bases:  # each step contracts the first coarse axis and appends the fine one
        field = np.tensordot(field, basis, axes=(1, 1))
    return field


def _warped_points(
    rng: np.random.Generator, shape: tuple[int, ...], affine: Floats, change: Variation
) -> Floats:
    """``(3, *shape)``: each voxel's centre moved by a smooth displacement that does not fold, in mm."""
    voxels = np.stack(np.meshgrid(*(np.arange(n, dtype=float) for n in shape), indexing="ij"))
    centres = np.tensordot(affine[:3, :3], voxels, axes=1) + affine[:3, 3, None, None, None]
    displacement = change.deformation_mm * _smooth_field(rng, 3, shape, affine, change.deformation_grid_mm)
    while jacobian_determinant(centres + displacement, affine).min() < SMALLEST_JACOBIAN:
        displacement *= 0.85
    return centres + displacement


def _posed(rng: np.random.Generator, points: Floats, centre: Floats, change: Variation) -> Floats:
    """Points of the scanner (mm from its centre) -> points of the template, by rotation and scaling."""
    scale = 1 + rng.uniform(-change.scaling, change.scaling, 3)
    matrix = _rotation(rng, change.rotation_degrees) / scale
    return np.tensordot(matrix, points, axes=1) + centre[:, None, None, None]


def _sampled(template: BrainTemplate, points: Floats) -> tuple[Floats, Floats, Floats]:
    """T1, tissue probabilities ``(3, *)`` and structure masks ``(2, *)`` at points in template mm."""
    from scipy import ndimage

    inverse = np.linalg.inv(template.affine)
    index = np.tensordot(inverse[:3, :3], points, axes=1) + inverse[:3, 3, None, None, None]

    def at_points(volume: npt.NDArray[np.float32]) -> Floats:
        return ndimage.map_coordinates(volume, index, output=np.float64, order=1, mode="constant")

    tissues = np.stack([at_points(tissue) for tissue in template.tissues])
    return at_points(template.t1), tissues, np.stack([at_points(s) for s in template.structures])


def _grown_tissues(rng: np.random.Generator, tissues: Floats, affine: Floats, change: Variation) -> Floats:
    """Tissues grown into each other at random; their sum, the brain, stays as it is.

    Adds to the log-odds a constant for each tissue (atrophy, thick or thin cortex) and a field that varies
    over a centimetre (folds that differ between people), and sharpens what averaging 152 people has blurred.
    """
    if change.anatomy == 0:
        return tissues
    shape = tissues.shape[1:]
    overall = rng.standard_normal((3, 1, 1, 1))
    gain = np.array(SULCAL_GAIN)[:, None, None, None]
    local = _smooth_field(rng, 3, shape, affine, 10.0)
    odds = 1.4 * np.log(np.maximum(tissues, 1e-4)) + gain + change.anatomy * (0.5 * overall + local)
    grown = np.exp(odds - odds.max(axis=0))
    return grown * (tissues.sum(axis=0) / grown.sum(axis=0))


def _label_map(tissues: Floats, structures: Floats) -> npt.NDArray[np.uint8]:
    """Likeliest tissue inside the brain, and the structure where a structure's tissue lies in its region."""
    label = np.where(tissues.sum(axis=0) > 0.5, tissues.argmax(axis=0) + 1, 0)
    ventricle, deep_grey = structures > 0.5
    label[(label == 1) & ventricle] = 4
    label[(label == 2) & deep_grey] = 5
    return label.astype(np.uint8)


def _scanned(
    rng: np.random.Generator,
    noise_rng: np.random.Generator,
    image: Floats,
    affine: Floats,
    change: Variation,
) -> Floats:
    """The anatomy as a scanner shows it: bias field, blur along one axis, units, Rician noise."""
    from scipy import ndimage

    image = image * np.exp(change.bias * _smooth_field(rng, 1, image.shape, affine, 90.0)[0])
    image = ndimage.gaussian_filter1d(image, rng.uniform(0, change.blur) + 1e-6, axis=int(rng.integers(3)))
    # Decades apart, as in real collections; int16 holds ten times the brightest white matter.
    units = 10 ** rng.uniform(2.2, 3.4)
    deviation = change.noise * rng.uniform(0.3, 1)
    real, imaginary = noise_rng.normal(0, deviation, (2, *image.shape)) if deviation > 0 else (0.0, 0.0)
    return units * np.hypot(image + real, imaginary)


def _contrast(rng: np.random.Generator, image: Floats, tissue: Floats, change: Variation) -> Floats:
    """Monotone random curve through new intensities of CSF, grey and white matter; white matter near 1."""
    from scipy.interpolate import PchipInterpolator

    before = np.array([0, *tissue, 1.3])
    scanner = np.array([0, rng.uniform(0.15, 0.38), rng.uniform(0.55, 0.74), rng.uniform(0.92, 1), 1.4])
    after = before + change.contrast * (scanner - before)
    return PchipInterpolator(before, after)(np.clip(image, 0, before[-1]))


def _reoriented(subject: Subject, orientation: str) -> Subject:
    """The same scan with its axes in another order and direction; every voxel keeps its place in mm."""
    from nibabel import orientations as nio

    turn = nio.ornt_transform(nio.axcodes2ornt("RAS"), nio.axcodes2ornt(orientation))
    return Subject(
        np.ascontiguousarray(nio.apply_orientation(subject.image, turn)),
        np.ascontiguousarray(nio.apply_orientation(subject.label, turn)),
        subject.affine @ nio.inv_ornt_aff(turn, subject.image.shape),
    )
