from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from atlaseg.atlases.registration.transforms.displacement import (
    displacement_transform,
    empty_grid,
    field_image,
    grid_points,
)
from atlaseg.atlases.registration.transforms.frames import affine_of
from atlaseg.atlases.registration.transforms.inversion import domain_of, invert
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.errors import GeometryError, OptionError

SHAPE = (18, 16, 12)


def grid_named(name: str) -> sitk.Image:
    c, s = np.cos(0.4), np.sin(0.4)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    axes = {"RAS": np.eye(3), "LAS": np.diag([-1.0, 1, 1]), "oblique": turn, "sagittal": turn[[2, 0, 1]]}
    affine = np.eye(4)
    affine[:3, :3] = axes[name] @ np.diag((1.0, 1.4, 2.5))
    affine[:3, 3] = (-7, 30, 11)
    return empty_grid(SHAPE, affine)


GRIDS = ["RAS", "LAS", "oblique", "sagittal"]


def affine_transform() -> Transform:
    matrix = np.eye(4)
    matrix[:3] += 0.15 * np.random.default_rng(1).normal(size=(3, 4))
    matrix[:3, 3] += (20, -30, 40)
    return Transform.from_matrix(matrix)


def field(grid: sitk.Image, size: float = 2.0) -> Transform:
    i, j, k = np.indices(grid.GetSize(), dtype=float)
    shifts = size * np.stack([np.sin(j / 5) + 0.3, np.cos(k / 4 + i / 9), np.sin(i / 6 - 1) - 0.2])
    return displacement_transform(shifts, affine_of(grid))


def spline(grid: sitk.Image, size: float = 2.0) -> Transform:
    itk = sitk.BSplineTransformInitializer(grid, [4, 4, 3], 3)
    itk.SetParameters(np.random.default_rng(2).normal(0, size, len(itk.GetParameters())).tolist())
    return Transform(itk)


def inner(grid: sitk.Image) -> np.ndarray:
    points = np.random.default_rng(0).uniform(3, np.array(grid.GetSize()) - 4, (300, 3))
    affine = affine_of(grid)
    return points @ affine[:3, :3].T + affine[:3, 3]


def test_linear_transforms_are_inverted_exactly():
    rigid = Transform(sitk.Euler3DTransform((3, 4, 5), 0.1, -0.2, 0.3, (1, 2, 3)))
    both = Transform.compose([rigid, affine_transform()])
    inverse = invert(both)
    assert np.allclose(inverse.transform.matrix, np.linalg.inv(both.matrix), atol=1e-12)
    assert inverse.error_mm < 1e-10
    assert inverse.transform.known_inverse is both.itk


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("kind", ["field", "spline", "affine then field", "field then affine"])
def test_deformable_transforms_come_back_within_the_stated_error(kind: str, name: str):
    grid = grid_named(name)
    transforms = {
        "field": [field(grid)],
        "spline": [spline(grid)],
        "affine then field": [Transform.from_matrix(np.diag([1, 1, 1, 1.0])), field(grid)],
        "field then affine": [field(grid), affine_transform()],
    }
    transform = Transform.compose(transforms[kind])
    inverse = invert(transform, grid)
    moved = transform.points(inner(grid))
    distances = np.linalg.norm(transform.points(inverse.transform.points(moved)) - moved, axis=1)
    assert distances.max() <= inverse.error_mm + 1e-9
    assert inverse.mean_error_mm < 0.05 < 0.5
    # the other way round too: the same points, not others that happen to land there
    assert np.abs(inverse.transform.points(moved) - inner(grid)).max() < 0.3
    # inside, where no jump at a border disturbs, it is exact but for interpolation
    assert distances.mean() < 0.03


def test_the_error_shrinks_with_the_grid():
    coarse = grid_named("oblique")
    transform = spline(coarse)
    affine = affine_of(coarse)
    affine[:3, :3] /= 2
    fine = empty_grid(tuple(2 * n - 1 for n in SHAPE), affine)
    assert invert(transform, fine).mean_error_mm < 0.4 * invert(transform, coarse).mean_error_mm


def test_as_good_as_itk():
    grid = grid_named("oblique")
    transform = field(grid)
    theirs = sitk.InvertDisplacementField(
        field_image(transform, grid),
        maximumNumberOfIterations=100,
        maxErrorToleranceThreshold=1e-4,
        meanErrorToleranceThreshold=1e-5,
        enforceBoundaryCondition=False,
    )
    moved = transform.points(inner(grid))
    back = Transform(sitk.DisplacementFieldTransform(theirs)).points(moved)
    ours = invert(transform, grid).transform.points(moved)
    assert (
        np.linalg.norm(ours - inner(grid), axis=1).mean() <= np.linalg.norm(back - inner(grid), axis=1).mean()
    )
    assert np.median(np.linalg.norm(ours - back, axis=1)) < 0.05


def test_known_inverses_are_used_and_measured():
    grid = grid_named("RAS")
    transform = field(grid)
    exact = invert(transform, grid).transform
    known = Transform(transform.itk, exact.itk)
    inverse = invert(known, grid)
    assert inverse.transform.itk is exact.itk
    # the voxels of the fixed grid are not all places that the inverse knows
    assert invert(inverse.transform, grid, tolerance_mm=9).transform.itk is transform.itk


def test_wrong_known_inverses_are_computed_again():
    grid = grid_named("RAS")
    wrong = Transform(field(grid).itk, sitk.TranslationTransform(3, (9, 9, 9)))
    assert invert(wrong, grid).error_mm < 0.5


def test_folds_are_named():
    grid = empty_grid((16, 16, 16), np.diag([2.0, 2, 2, 1]))
    shifts = np.zeros((3, 16, 16, 16))
    shifts[0, 6:10, 8, 8] = (6, 2, -2, -6)
    folded = displacement_transform(shifts, affine_of(grid))
    with pytest.raises(
        GeometryError, match=r"it folds at \d+ of 4096 voxels .* around 1\d\.0, 16\.0, 16\.0 mm RAS"
    ):
        invert(folded, grid)


def test_a_tolerance_that_interpolation_cannot_meet():
    grid = grid_named("RAS")
    with pytest.raises(GeometryError, match="it does not fold on the grid, so give a finer grid"):
        invert(field(grid), grid, tolerance_mm=1e-6)
    with pytest.raises(OptionError, match="above 0 mm, found -1"):
        invert(field(grid), grid, tolerance_mm=-1)


def test_a_plane_has_no_inverse():
    grid = grid_named("RAS")
    points = grid_points(grid)
    shifts = np.moveaxis((points * (0, 1, 1) - points).reshape(*SHAPE, 3), -1, 0)
    with pytest.raises(GeometryError, match="into a plane"):
        invert(displacement_transform(shifts, affine_of(grid)), grid)


def test_reflections_are_no_folds():
    grid = grid_named("RAS")
    mirrored = Transform.compose([field(grid), Transform.from_matrix(np.diag([-1.0, 1, 1, 1]))])
    assert invert(mirrored, grid).mean_error_mm < 0.1


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("make", [field, spline])
def test_a_transform_has_a_domain_of_its_own(make, name: str):
    grid = grid_named(name)
    assert invert(make(grid)).error_mm < 0.5
    later = Transform.compose([affine_transform(), make(grid)])
    corner = later.points(grid_points(domain_of(later))[:1]) - make(grid).points(
        grid_points(domain_of(make(grid)))[:1]
    )
    assert np.abs(corner).max() < 1e-9
    with pytest.raises(OptionError, match="transform has no grid"):
        domain_of(affine_transform())


def test_a_steep_inverse_is_sought_on_a_finer_grid():
    """A squeeze to a tenth: the inverse stretches by ten, and is bent within a voxel."""
    grid = empty_grid((24, 8, 8), np.diag([2.0, 2, 2, 1]))
    x = np.arange(24.0)
    shifts = np.zeros((3, 24, 8, 8))
    shifts[0] = (2 * 0.9 * 4 * np.sin(x / 4 + 2.2))[:, None, None]
    transform = displacement_transform(shifts, affine_of(grid))
    with pytest.raises(GeometryError, match="does not fold"):
        invert(transform, grid, tolerance_mm=0.2)
    assert invert(transform, tolerance_mm=0.2).error_mm < 0.2
