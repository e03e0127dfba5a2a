"""HD95, ASSD and surface Dice against MONAI's metrics, SciPy's and SimpleITK's distance maps, and known shifts."""

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

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.errors import GeometryError, OptionError
from atlaseg.pipeline.evaluation.scores import score_case

SPACINGS = [(1.0, 1.0, 1.0), (0.7, 0.7, 5.0), (3.0, 0.5, 1.25)]


def numbers(prediction, reference, spacing, tolerance_mm=1.0, surface="voxels"):
    """All metrics of two masks."""
    maps = (np.asarray(mask).astype(np.uint8) for mask in (prediction, reference))
    (score,) = score_case(*maps, LabelTable.from_values([1]), spacing, tolerance_mm, surface=surface)
    return score.numbers


def diagonal(shape, spacing):
    return np.linalg.norm(np.multiply(shape, spacing))


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
    result = numbers(prediction, reference, spacing, tolerance_mm=1.0)
    assert result["hd95_mm"] == pytest.approx(
        compute_hausdorff_distance(p, r, percentile=95, **options).item(), rel=1e-5
    )
    assert result["assd_mm"] == pytest.approx(
        compute_average_surface_distance(p, r, symmetric=True, **options).item(), rel=1e-5
    )
    assert result["surface_dice"] == pytest.approx(
        compute_surface_dice(p, r, [1.0], **options).item(), rel=1e-5
    )


@pytest.mark.parametrize("spacing", SPACINGS)
def test_agrees_with_scipy_distance_maps(spacing):
    prediction, reference = blobs(3)
    edges = [mask & ~binary_erosion(mask) for mask in (prediction, reference)]
    maps = [distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    there, back = maps[1][edges[0]], maps[0][edges[1]]
    result = numbers(prediction, reference, spacing, tolerance_mm=1.3)
    assert result["hd95_mm"] == pytest.approx(
        max(np.percentile(there, 95), np.percentile(back, 95)), rel=1e-5
    )
    assert result["assd_mm"] == pytest.approx((there.sum() + back.sum()) / (there.size + back.size), rel=1e-5)
    within = (there <= 1.3).sum() + (back <= 1.3).sum()
    assert result["surface_dice"] == pytest.approx(within / (there.size + back.size))


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
    result = numbers(prediction, reference, spacing)
    assert result["assd_mm"] == pytest.approx(np.concatenate(distances).mean(), rel=1e-4)
    assert result["hd95_mm"] == pytest.approx(max(np.percentile(d, 95) for d in distances), rel=1e-4)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_plate_moved_along_an_axis_by_known_mm(axis):
    """Every voxel of a thin plate is surface, and moves by the same distance."""
    spacing = (0.7, 1.1, 5.0)
    plate = np.zeros((20, 20, 20), bool)
    box = [slice(4, 16)] * 3
    box[axis] = slice(8, 9)
    plate[tuple(box)] = True
    moved = np.roll(plate, 3, axis)
    result = numbers(moved, plate, spacing)
    assert result["hd95_mm"] == pytest.approx(3 * spacing[axis], rel=1e-6)
    assert result["assd_mm"] == pytest.approx(3 * spacing[axis], rel=1e-6)
    assert result["surface_dice"] == 0
    # a distance that equals the tolerance is within it, whatever float32 makes of it
    assert numbers(moved, plate, spacing, tolerance_mm=3 * spacing[axis])["surface_dice"] == 1


def test_concentric_spheres_on_an_anisotropic_grid():
    spacing = np.array([0.5, 0.5, 1.0])
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in (81, 81, 41)], indexing="ij"), -1)
    radius = np.linalg.norm((grid - [40, 40, 20]) * spacing, axis=-1)
    result = numbers(radius <= 16, radius <= 11, tuple(spacing))
    assert result["assd_mm"] == pytest.approx(5, abs=0.3)
    assert result["hd95_mm"] == pytest.approx(5, abs=0.7)


def test_is_symmetric_and_zero_for_itself():
    prediction, reference = blobs(5)
    there, back = numbers(prediction, reference, (1, 2, 3)), numbers(reference, prediction, (1, 2, 3))
    for name in ("hd95_mm", "assd_mm", "surface_dice"):
        assert there[name] == pytest.approx(back[name])
    same = numbers(reference, reference, (1, 2, 3), tolerance_mm=0)
    assert (same["hd95_mm"], same["assd_mm"], same["surface_dice"]) == (0, 0, 1)


def test_a_mask_at_the_border_has_a_surface_there():
    full = np.ones((6, 6, 6), bool)
    thinner = full.copy()
    thinner[0] = False
    assert numbers(thinner, full, (2.0, 1.0, 1.0))["hd95_mm"] == pytest.approx(2.0)


def test_empty_masks_follow_the_rule_and_are_finite():
    empty, some = np.zeros((4, 5, 6), bool), np.zeros((4, 5, 6), bool)
    some[1, 2, 3] = True
    spacing = (1.0, 2.0, 3.0)
    both = numbers(empty, empty, spacing)
    assert (both["hd95_mm"], both["assd_mm"], both["surface_dice"]) == (0, 0, 1)
    for pair in ((empty, some), (some, empty)):
        one = numbers(*pair, spacing)
        assert one["hd95_mm"] == one["assd_mm"] == pytest.approx(np.sqrt(4**2 + 10**2 + 18**2))
        assert one["surface_dice"] == 0


def test_worst_value_is_never_beaten():
    corners = np.zeros((2, 9, 8, 7), bool)
    corners[0, 0, 0, 0] = corners[1, -1, -1, -1] = True
    spacing = (1.0, 0.5, 4.0)
    assert numbers(*corners, spacing)["hd95_mm"] < diagonal((9, 8, 7), spacing)


def test_refuses_what_does_not_fit():
    mask = np.zeros((3, 3, 3), bool)
    with pytest.raises(GeometryError, match="resample"):
        numbers(mask, mask[:2], (1, 1, 1))
    with pytest.raises(GeometryError, match="3 positive"):
        numbers(mask, mask, (1, 1))
    with pytest.raises(GeometryError, match="3 positive"):
        numbers(mask, mask, (1, 1, 0))
    with pytest.raises(OptionError, match="tolerance"):
        numbers(mask, mask, (1, 1, 1), tolerance_mm=-1)


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")  # inside the package
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_elements_agree_with_the_package_of_their_authors(seed, spacing):
    import surface_distance

    prediction, reference = blobs(seed)
    prediction[:, 5:9, :6] = True  # reaches the border, and has corners
    found = surface_distance.compute_surface_distances(reference, prediction, spacing)
    result = numbers(prediction, reference, spacing, tolerance_mm=1.0, surface="elements")
    there, back = surface_distance.compute_average_surface_distance(found)
    areas = found["surfel_areas_gt"].sum(), found["surfel_areas_pred"].sum()
    assert result["assd_mm"] == pytest.approx((there * areas[0] + back * areas[1]) / sum(areas), rel=1e-5)
    assert result["hd95_mm"] == pytest.approx(surface_distance.compute_robust_hausdorff(found, 95), rel=1e-5)
    expected = surface_distance.compute_surface_dice_at_tolerance(found, 1.0)
    assert result["surface_dice"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")
def test_contours_in_a_plane_agree_with_the_package():
    import surface_distance

    prediction, reference = (mask[:, :, 8] for mask in blobs(2))
    found = surface_distance.compute_surface_distances(reference, prediction, (0.7, 1.9))
    result = numbers(prediction, reference, (0.7, 1.9), tolerance_mm=1.0, surface="elements")
    assert result["surface_dice"] == pytest.approx(
        surface_distance.compute_surface_dice_at_tolerance(found, 1.0), rel=1e-5
    )
    assert result["hd95_mm"] == pytest.approx(surface_distance.compute_robust_hausdorff(found, 95), rel=1e-5)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 1.0, 3.0), (2.0, 0.8, 1.0)])
def test_elements_of_spheres_of_known_radius(spacing):
    """Distance of two spheres, which elements make up to half a voxel too small, and shares of their areas."""
    shape = [int(np.ceil(60 / s)) for s in spacing]
    places = np.indices(shape).astype(float) * np.reshape(spacing, (3, 1, 1, 1)) - 29.3
    radius = np.linalg.norm(places, axis=0)
    outer, inner = radius <= 24, radius <= 20
    result = numbers(outer, inner, spacing, tolerance_mm=4.0 + max(spacing), surface="elements")
    assert 4 - 0.55 * np.cbrt(np.prod(spacing)) < result["assd_mm"] < 4
    assert result["hd95_mm"] == pytest.approx(4, abs=0.6 * max(spacing))
    assert result["surface_dice"] == 1
    # a part of one surface that lies on the other has the share of its area: the halves of two spheres
    half = np.where(places[0] > 0, radius <= 24, radius <= 16)
    shares = 2 * np.pi * np.array([24**2, 24**2 + 16**2, 16**2, 24**2 - 16**2])
    on_it = 2 * shares[0] / (2 * shares[0] + shares[1] + shares[3] / 2)
    found = numbers(half, outer, spacing, tolerance_mm=0.0, surface="elements")
    assert found["surface_dice"] == pytest.approx(on_it, abs=0.03)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 1.2, 3.0)])
def test_elements_of_a_box_count_by_area(spacing):
    """Of a box moved along one axis the two faces across it move, and the four others slide along themselves."""
    box = np.zeros((64, 64, 30), bool)
    box[6:56, 6:56, 6:20] = True
    moved = np.roll(box, 1, axis=2)
    a, b, c = (n * s for n, s in zip((50, 50, 14), spacing, strict=True))
    across, along = 2 * a * b, 2 * (a * c + b * c)
    found = numbers(moved, box, spacing, tolerance_mm=0.5, surface="elements")
    assert found["assd_mm"] == pytest.approx(spacing[2] * across / (across + along), rel=0.06)
    assert found["surface_dice"] == pytest.approx(along / (across + along), rel=0.06)
    assert found["hd95_mm"] == pytest.approx(spacing[2])


def test_elements_lie_closer_than_voxels_where_a_mask_is_one_voxel_larger():
    """Surface voxels of both masks are one voxel apart; so are the elements, but corners weigh less."""
    small = np.zeros((20, 20, 20), bool)
    small[6:14, 6:14, 6:14] = True
    large = np.zeros_like(small)
    large[6:15, 6:14, 6:14] = True
    voxels, elements = (numbers(large, small, (1, 1, 1), 0.5, surface=s) for s in ("voxels", "elements"))
    assert elements["assd_mm"] < voxels["assd_mm"]
    # one of six faces moves, four grow by an eighth, the other stays
    assert elements["surface_dice"] == pytest.approx((2 * 64 * 6 + 32 - 128) / (2 * 64 * 6 + 32), abs=0.03)


@pytest.mark.parametrize("shape", [(12,), (12, 10), (12, 10, 8)])
def test_elements_of_equal_and_of_absent_masks(shape):
    mask = np.zeros(shape, bool)
    mask[(slice(2, 6),) * len(shape)] = True
    spacing = (2.0,) * len(shape)
    same = numbers(mask, mask, spacing, 0.0, surface="elements")
    assert (same["hd95_mm"], same["assd_mm"], same["surface_dice"]) == (0, 0, 1)
    none = numbers(mask, np.zeros_like(mask), spacing, surface="elements")
    assert (none["hd95_mm"], none["surface_dice"]) == (diagonal(shape, spacing), 0)
    moved = numbers(np.roll(mask, 1, 0), mask, spacing, 2.0, surface="elements")
    assert moved["surface_dice"] == 1
    assert moved["hd95_mm"] == 2


def test_elements_of_four_axes_are_refused():
    mask = np.ones((3, 3, 3, 3), bool)
    with pytest.raises(GeometryError, match="2 or 3 axes, found 4"):
        numbers(mask, mask, (1.0,) * 4, surface="elements")
