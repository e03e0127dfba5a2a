from __future__ import annotations

import pickle

import numpy as np
import pytest
import SimpleITK as sitk

from atlaseg.atlases.registration.transforms.displacement import displacement_transform, empty_grid
from atlaseg.atlases.registration.transforms.frames import affine_of, flip_points
from atlaseg.atlases.registration.transforms.transform import FEW_POINTS, Transform, parts_of
from atlaseg.pipeline.errors import GeometryError, OptionError

AFFINE = np.array([[0.8, -0.5, 0, 3], [0.5, 1.1, 0, -4], [0, 0, 2, 5], [0, 0, 0, 1.0]])
SHAPE = (20, 18, 15)


def grid() -> sitk.Image:
    turned = np.array([[0.6, -0.8, 0, -9], [0.8, 0.6, 0, 4], [0, 0, 2, 5], [0, 0, 0, 1.0]])
    return empty_grid(SHAPE, turned)


def transforms() -> dict[str, Transform]:
    rng = np.random.default_rng(0)
    spline = sitk.BSplineTransformInitializer(grid(), [4, 4, 4], 3)
    spline.SetParameters(rng.normal(size=len(spline.GetParameters())).tolist())
    euler = sitk.Euler3DTransform((1, 2, 3), 0.1, 0.2, 0.3, (1, 2, 3))
    euler.SetComputeZYX(True)
    versor = sitk.VersorRigid3DTransform((0.1, 0.2, 0.3, 0.9), (4, 5, 6), (7, 8, 9))
    similarity = sitk.Similarity3DTransform(1.3, (0.1, 0.2, 0.3, 0.9), (4, 5, 6), (7, 8, 9))
    known = {
        "identity": Transform(sitk.Transform(3, sitk.sitkIdentity)),
        "translation": Transform(sitk.TranslationTransform(3, (1, 2, 3))),
        "scale": Transform(sitk.ScaleTransform(3, (1.1, 0.9, 1.2))),
        "euler": Transform(euler),
        "versor": Transform(versor),
        "similarity": Transform(similarity),
        "affine": Transform.from_matrix(AFFINE),
        "bspline": Transform(spline),
        "field": displacement_transform(rng.normal(size=(3, *SHAPE)), affine_of(grid())),
    }
    return known | {
        "composite": Transform.compose([known[k] for k in ("euler", "bspline", "affine", "field")])
    }


NAMES = list(transforms())


def points(count: int) -> np.ndarray:
    indices = np.random.default_rng(1).uniform(-3, np.array(SHAPE) + 2, (count, 3))
    affine = affine_of(grid())
    return indices @ affine[:3, :3].T + affine[:3, 3]


@pytest.mark.parametrize("count", [1, 7, FEW_POINTS, 3001])
@pytest.mark.parametrize("name", NAMES)
def test_points_are_where_itk_puts_them(name: str, count: int):
    transform = transforms()[name]
    expected = [transform.itk.TransformPoint(p) for p in flip_points(points(count)).tolist()]
    assert np.abs(transform.points(points(count)) - flip_points(np.array(expected))).max() < 1e-9


def test_many_points_far_from_the_origin():
    transform = Transform.compose([transforms()["bspline"], Transform.from_matrix(AFFINE)])
    far = points(2000) + 1e5
    assert np.abs(transform.points(far) - (far @ AFFINE[:3, :3].T + AFFINE[:3, 3])).max() < 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_transforms_travel_between_processes_to_the_last_digit(name: str):
    transform = Transform(transforms()[name].itk, transforms()["euler"].itk)
    copy = pickle.loads(pickle.dumps(transform))
    for count in (50, 1000):
        assert np.array_equal(copy.points(points(count)), transform.points(points(count)))
    assert copy.known_inverse.TransformPoint((1, 2, 3)) == transform.known_inverse.TransformPoint((1, 2, 3))
    assert len(parts_of(copy.itk)) == len(parts_of(transform.itk))
    assert pickle.loads(pickle.dumps(transforms()[name])).known_inverse is None


def test_composition_applies_the_first_first():
    both = Transform.compose([transforms()["bspline"], Transform.from_matrix(AFFINE)])
    expected = Transform.from_matrix(AFFINE).points(transforms()["bspline"].points(points(10)))
    assert np.allclose(both.points(points(10)), expected)
    nested = Transform.compose([both, Transform.compose([both, both])])
    assert np.allclose(nested.points(points(10)), both.points(both.points(both.points(points(10)))))
    assert len(parts_of(nested.itk)) == 6
    with pytest.raises(OptionError, match="nothing to compose"):
        Transform.compose([])


def test_composition_knows_the_way_back():
    known = Transform(transforms()["euler"].itk, transforms()["euler"].itk.GetInverse())
    both = Transform.compose([known, Transform.from_matrix(AFFINE)])
    assert np.allclose(Transform(both.known_inverse).points(both.points(points(10))), points(10))
    assert Transform.compose([known, transforms()["bspline"]]).known_inverse is None


@pytest.mark.parametrize("places", [(0, 1, 2), (1, 2, 0), (2, 0, 1), (1, 0, 2)])
def test_linear_parts_are_inverted_on_the_way_back(places: tuple[int, ...]):
    """Wherever they stand beside a warp whose inverse is known, and whatever kind they are of."""
    there = np.zeros((3, *SHAPE))
    there[0] = 1.5
    shift = displacement_transform(there, affine_of(grid()))
    warp = Transform(shift.itk, displacement_transform(-there, affine_of(grid())).itk)
    # the middle of the grid, and small motions: a field moves nothing outside its domain
    middle = affine_of(grid())[:3] @ [*(np.array(SHAPE) - 1) / 2, 1]
    euler = sitk.Euler3DTransform(flip_points(middle).ravel().tolist(), 0.03, -0.02, 0.04, (0.5, 0.2, -0.3))
    affine = Transform.from_matrix(
        np.array([[1.01, 0, 0.01, 0.2], [0, 0.99, 0, 0.3], [0, 0, 1, -0.1], [0, 0, 0, 1]])
    )
    parts = [(warp, Transform(euler), affine)[place] for place in places]
    both = Transform.compose(parts)
    near = middle + np.random.default_rng(2).uniform(-3, 3, (20, 3))
    assert np.abs(both.points(near) - near).max() > 1
    assert np.allclose(Transform(both.known_inverse).points(both.points(near)), near, atol=1e-6)
    # the way back of the way back, as it comes of a nested composition
    twice = Transform.compose([both, affine])
    assert np.allclose(Transform(twice.known_inverse).points(twice.points(near)), near, atol=1e-6)


def test_nothing_but_matrices_needs_no_known_inverse():
    both = Transform.compose([Transform.from_matrix(AFFINE), transforms()["euler"]])
    assert both.known_inverse is None
    assert both.is_linear


def test_matrices():
    assert np.allclose(Transform.from_matrix(AFFINE).matrix, AFFINE, atol=1e-12)
    product = Transform.compose([transforms()["euler"], Transform.from_matrix(AFFINE)])
    assert np.allclose(product.matrix, AFFINE @ transforms()["euler"].matrix, atol=1e-12)
    assert np.array_equal(Transform.identity().points(points(3)), points(3))
    with pytest.raises(OptionError, match="is deformable"):
        _ = transforms()["bspline"].matrix


def test_the_closest_affine_map():
    moved = points(30) @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    assert np.allclose(Transform.closest_affine(points(30), moved).matrix, AFFINE, atol=1e-9)
    with pytest.raises(GeometryError, match="into a plane"):
        Transform.closest_affine(points(30), moved * (1, 0, 1))


@pytest.mark.parametrize("matrix", [np.zeros((4, 4)), np.eye(3), np.diag([1, np.nan, 1, 1])])
def test_matrices_that_are_no_transform(matrix: np.ndarray):
    with pytest.raises(OptionError, match="invertible 4 x 4 matrix"):
        Transform.from_matrix(matrix)


def test_planes_are_no_volumes():
    with pytest.raises(OptionError, match="found a 2-D one"):
        Transform(sitk.TranslationTransform(2))
