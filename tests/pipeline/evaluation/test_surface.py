"""Surface distances against MONAI's metrics, SciPy's and SimpleITK's distance maps, and known shifts."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.metrics import (
    compute_average_surface_distance,
    compute_hausdorff_distance,
    compute_surface_dice,
)
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter

from pipeline.errors import GeometryError, OptionError
from pipeline.evaluation.surface import field_of_view_mm, surface_scores

SPACINGS = [(1.0, 1.0, 1.0), (0.7, 0.7, 5.0), (3.0, 0.5, 1.25)]


def blobs(seed, shape=(22, 20, 16)):
    """Two overlapping irregular masks that do not touch the border."""
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.normal(size=shape), 2)
    inside = np.zeros(shape, bool)
    inside[2:-2, 2:-2, 2:-2] = True
    return (field > 0.02) & inside, (np.roll(field, 1, seed % 3) > 0.03) & inside


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_agrees_with_monai(seed, spacing):
    prediction, reference = blobs(seed)
    p, r = (torch.from_numpy(mask)[None, None] for mask in (prediction, reference))
    options = {"include_background": True, "spacing": list(spacing)}
    result = surface_scores(prediction, reference, spacing, tolerance_mm=1.0)
    assert result.hd95_mm == pytest.approx(
        compute_hausdorff_distance(p, r, percentile=95, **options).item(), rel=1e-5
    )
    assert result.assd_mm == pytest.approx(
        compute_average_surface_distance(p, r, symmetric=True, **options).item(), rel=1e-5
    )
    assert result.surface_dice == pytest.approx(compute_surface_dice(p, r, [1.0], **options).item(), rel=1e-5)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_agrees_with_scipy_distance_maps(spacing):
    prediction, reference = blobs(3)
    edges = [mask & ~binary_erosion(mask) for mask in (prediction, reference)]
    maps = [distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    there, back = maps[1][edges[0]], maps[0][edges[1]]
    result = surface_scores(prediction, reference, spacing, tolerance_mm=1.3)
    assert result.hd95_mm == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), rel=1e-5)
    assert result.assd_mm == pytest.approx((there.sum() + back.sum()) / (there.size + back.size), rel=1e-5)
    within = (there <= 1.3).sum() + (back <= 1.3).sum()
    assert result.surface_dice == pytest.approx(within / (there.size + back.size))


def test_agrees_with_simpleitk_distance_maps():
    spacing = (0.7, 0.9, 4.0)
    prediction, reference = blobs(4)
    distances = []
    for source, target in ((prediction, reference), (reference, prediction)):
        images = [sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in (source, target)]
        for image in images:
            image.SetSpacing(spacing[::-1])  # SimpleITK's arrays count axes the other way round
        contours = [sitk.LabelContour(image, fullyConnected=False) for image in images]
        distance = sitk.SignedMaurerDistanceMap(contours[1], squaredDistance=False, useImageSpacing=True)
        surface = sitk.GetArrayFromImage(contours[0]) > 0
        distances.append(np.abs(sitk.GetArrayFromImage(distance))[surface])
    result = surface_scores(prediction, reference, spacing)
    assert result.assd_mm == pytest.approx(np.concatenate(distances).mean(), rel=1e-4)
    assert result.hd95_mm == pytest.approx(max(np.percentile(d, 95) for d in distances), rel=1e-4)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_plate_moved_along_an_axis_by_known_mm(axis):
    """Every voxel of a thin plate is surface, and moves by the same distance."""
    spacing = (0.7, 1.1, 5.0)
    plate = np.zeros((20, 20, 20), bool)
    box = [slice(4, 16)] * 3
    box[axis] = slice(8, 9)
    plate[tuple(box)] = True
    moved = np.roll(plate, 3, axis)
    result = surface_scores(moved, plate, spacing)
    assert result.hd95_mm == pytest.approx(3 * spacing[axis], rel=1e-6)
    assert result.assd_mm == pytest.approx(3 * spacing[axis], rel=1e-6)
    assert result.surface_dice == 0
    # a distance that equals the tolerance is within it, whatever float32 makes of it
    assert surface_scores(moved, plate, spacing, tolerance_mm=3 * spacing[axis]).surface_dice == 1


def test_concentric_spheres_on_an_anisotropic_grid():
    spacing = np.array([0.5, 0.5, 1.0])
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in (81, 81, 41)], indexing="ij"), -1)
    radius = np.linalg.norm((grid - [40, 40, 20]) * spacing, axis=-1)
    result = surface_scores(radius <= 16, radius <= 11, tuple(spacing))
    assert result.assd_mm == pytest.approx(5, abs=0.3)
    assert result.hd95_mm == pytest.approx(5, abs=0.7)


def test_is_symmetric_and_zero_for_itself():
    prediction, reference = blobs(5)
    assert surface_scores(prediction, reference, (1, 2, 3)) == surface_scores(
        reference, prediction, (1, 2, 3)
    )
    same = surface_scores(reference, reference, (1, 2, 3), tolerance_mm=0)
    assert (same.hd95_mm, same.assd_mm, same.surface_dice) == (0, 0, 1)


def test_a_mask_at_the_border_has_a_surface_there():
    full = np.ones((6, 6, 6), bool)
    thinner = full.copy()
    thinner[0] = False
    assert surface_scores(thinner, full, (2.0, 1.0, 1.0)).hd95_mm == pytest.approx(2.0)


def test_empty_masks_follow_the_rule_and_are_finite():
    empty, some = np.zeros((4, 5, 6), bool), np.zeros((4, 5, 6), bool)
    some[1, 2, 3] = True
    spacing = (1.0, 2.0, 3.0)
    both = surface_scores(empty, empty, spacing)
    assert (both.hd95_mm, both.assd_mm, both.surface_dice) == (0, 0, 1)
    diagonal = np.sqrt(4**2 + 10**2 + 18**2)
    for pair in ((empty, some), (some, empty)):
        one = surface_scores(*pair, spacing)
        assert one.hd95_mm == one.assd_mm == pytest.approx(diagonal)
        assert one.surface_dice == 0
    assert surface_scores(empty, some, spacing, worst_mm=99.0).hd95_mm == 99.0


def test_worst_value_is_never_beaten():
    corners = np.zeros((2, 9, 8, 7), bool)
    corners[0, 0, 0, 0] = corners[1, -1, -1, -1] = True
    spacing = (1.0, 0.5, 4.0)
    assert surface_scores(*corners, spacing).hd95_mm < field_of_view_mm((9, 8, 7), spacing)


def test_refuses_what_does_not_fit():
    mask = np.zeros((3, 3, 3), bool)
    with pytest.raises(GeometryError, match="shape"):
        surface_scores(mask, mask[:2], (1, 1, 1))
    with pytest.raises(GeometryError, match="3 positive"):
        surface_scores(mask, mask, (1, 1))
    with pytest.raises(GeometryError, match="3 positive"):
        surface_scores(mask, mask, (1, 1, 0))
    with pytest.raises(OptionError, match="tolerance"):
        surface_scores(mask, mask, (1, 1, 1), tolerance_mm=-1)
