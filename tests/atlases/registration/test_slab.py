"""Slabs of a few slices against the whole scan that they are part of: the truth is known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import SimpleITK as sitk

from atlaseg.atlases.registration.engines.registry import ENGINES, is_installed
from atlaseg.atlases.registration.initialisation import initial_transform
from atlaseg.atlases.registration.register import register
from atlaseg.atlases.registration.slab import continued, is_part_of
from atlaseg.atlases.registration.transforms.frames import to_itk
from atlaseg.pipeline.errors import GeometryError

SHAPE, SPACING = (26, 30, 24), 1.6
FIRST = 10


def points(first: int, slices: int) -> npt.NDArray[np.float64]:
    """``(x, y, slices, 3)`` places of some slices of the scan, RAS+ mm."""
    axes = [np.arange(SHAPE[0]), np.arange(SHAPE[1]), np.arange(first, first + slices)]
    indices = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).astype(float)
    return (indices - (np.array(SHAPE) - 1) / 2) * SPACING


def anatomy(where: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """A head without symmetry, known everywhere."""
    x, y, z = np.moveaxis(where, -1, 0)
    radius = np.sqrt((x / 17) ** 2 + (y / 21) ** 2 + (z / 15) ** 2)
    image = 100 / (1 + np.exp((radius - 1) * 20)) + 40 / (1 + np.exp((radius - 0.85) * 20))
    for centre, size, height in (((-7, 2, 1), 5.0, 60), ((7, 1, 1), 3.5, 90), ((1, 11, -2), 4.0, -50)):
        image += height / (1 + np.exp((np.linalg.norm(where - centre, axis=-1) - size) * 2))
    image += 12 * np.sin(x / 2.3) * np.cos(y / 3.1 + 0.5) * np.sin(z / 2.7 + 0.3) * (radius < 1)
    return image.astype(np.float32)


def scan(first: int = 0, slices: int = SHAPE[2]) -> sitk.Image:
    where = points(first, slices)
    affine = np.diag((SPACING, SPACING, SPACING, 1.0))
    affine[:3, 3] = where[0, 0, 0]
    return to_itk(anatomy(where), affine)


@pytest.mark.thorough
@pytest.mark.parametrize("engine", ENGINES.names())
@pytest.mark.parametrize("slices", [1, 2, 3, 5, 9])
def test_a_slab_finds_its_place_in_the_whole_scan_and_the_scan_its_slab(engine: str, slices: int) -> None:
    if not is_installed(engine):
        pytest.skip(f"engine {engine} is not installed")
    slab, whole = scan(FIRST, slices), scan()
    within = points(FIRST, slices).reshape(-1, 3)
    for fixed, moving in ((slab, whole), (whole, slab)):
        if engine == "greedy" and slices < 8:
            with pytest.raises(GeometryError, match=r"image: .* too few for the rigid stage of greedy"):
                register(fixed, moving, "rigid", engine=engine)
            continue
        found = register(fixed, moving, "rigid", engine=engine).transform
        # it begins at the truth, which is the identity, and must not leave it
        assert np.linalg.norm(found.points(within) - within, axis=1).mean() < 0.5


@pytest.mark.thorough
@pytest.mark.parametrize("slices", [1, 3])
def test_a_default_registration_of_a_slab_stays_in_place(slices: int) -> None:
    slab, whole = scan(FIRST, slices), scan()
    within = points(FIRST, slices).reshape(-1, 3)
    within = within[np.linalg.norm(within / (17, 21, 15), axis=1) < 1]
    for fixed, moving in ((slab, whole), (whole, slab)):
        found = register(fixed, moving, "deformable").transform
        assert np.linalg.norm(found.points(within) - within, axis=1).mean() < 0.6


def test_a_slab_that_lies_elsewhere_is_found() -> None:
    where = points(FIRST, 5)
    shift = np.array([2.0, -1.5, 1.2])
    affine = np.diag((SPACING, SPACING, SPACING, 1.0))
    affine[:3, 3] = where[0, 0, 0] + shift
    slab = to_itk(anatomy(where), affine)  # what is at x in the scan is at x + shift in the slab
    within = where.reshape(-1, 3)
    found = register(scan(), slab, "rigid").transform
    assert np.linalg.norm(found.points(within) - within - shift, axis=1).mean() < 0.5
    back = register(slab, scan(), "rigid").transform
    assert np.linalg.norm(back.points(within + shift) - within, axis=1).mean() < 0.5


def test_demons_refuse_slabs_before_they_run() -> None:
    with pytest.raises(
        GeometryError, match=r"moving image: 3 slice\(s\) are too few for the deformable stage"
    ):
        register(scan(), scan(FIRST, 3), "deformable", engine="simpleitk")


def test_what_continues_a_slab_is_masked_out() -> None:
    slab = scan(FIRST, 3)
    thick, mask = continued(slab, None)
    assert thick.GetSize() == (*SHAPE[:2], 8)
    assert mask is not None
    inside = sitk.GetArrayFromImage(mask)
    np.testing.assert_array_equal(inside.any(axis=(1, 2)), [0, 0, 1, 1, 1, 0, 0, 0])
    assert inside[2:5].all()
    voxels = sitk.GetArrayFromImage(thick)
    np.testing.assert_array_equal(voxels[2:5], sitk.GetArrayFromImage(slab))
    np.testing.assert_array_equal(voxels[0], voxels[2])
    # places are kept
    assert thick.TransformIndexToPhysicalPoint((0, 0, 2)) == pytest.approx(slab.GetOrigin())


def test_a_mask_of_a_slab_is_kept_and_thick_images_are_as_they_were() -> None:
    slab = scan(FIRST, 2)
    drawn = slab > 100
    _, mask = continued(slab, drawn)
    assert mask is not None
    inside = sitk.GetArrayFromImage(mask)
    np.testing.assert_array_equal(inside[3:5], sitk.GetArrayFromImage(drawn))
    assert inside.sum() == sitk.GetArrayFromImage(drawn).sum()
    whole = scan()
    assert continued(whole, None) == (whole, None)


def test_which_image_is_part_of_the_other() -> None:
    whole, slab = scan(), scan(FIRST, 9)
    assert is_part_of(slab, whole)
    assert not is_part_of(whole, slab)
    assert not is_part_of(whole, scan(4, 14))
    # whatever axis the slices lie along
    turned = sitk.PermuteAxes(slab, [2, 0, 1])
    assert is_part_of(turned, whole)


def test_a_slab_begins_where_it_is_most_alike_not_where_it_covers_most() -> None:
    slab = scan(3, 3)
    for fixed, moving in ((scan(), slab), (slab, scan())):
        start = initial_transform(fixed, moving, "auto")
        np.testing.assert_allclose(start.matrix, np.eye(4), atol=1e-9)
