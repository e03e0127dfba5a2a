"""Linear mappings: the gradient beside differences, and known mappings found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

import atlaseg.atlases.registration.engines.torch.torch_linear as torch_linear
from atlaseg.atlases.registration.engine import Problem
from atlaseg.atlases.registration.engines.torch.torch_linear import _objective, _parametrised, linear_mapping
from atlaseg.atlases.registration.engines.torch.torch_pyramid import levels
from atlaseg.atlases.registration.stage import Stage
from atlaseg.atlases.registration.transforms.frames import affine_of, to_itk
from atlaseg.atlases.registration.transforms.transform import Transform

CPU = torch.device("cpu")
SHAPE = (26, 24, 22)
AFFINE = np.array([[-1.0, 0.1, 0, 30], [0.1, 1.1, 0, -20], [0, 0, 1.3, 5], [0, 0, 0, 1]])
CENTRE = AFFINE[:3, :3] @ ((np.array(SHAPE) - 1) / 2) + AFFINE[:3, 3]


def anatomy(places: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Soft blobs at places ``(3, ...)``, RAS+ mm."""
    rng = np.random.default_rng(2)
    value = np.zeros(places.shape[1:])
    for centre, sigma in zip(CENTRE + rng.uniform(-9, 9, (30, 3)), rng.uniform(2, 4, 30), strict=True):
        value += np.exp(-((places - centre[:, None, None, None]) ** 2).sum(axis=0) / (2 * sigma**2))
    return (value / 4).astype(np.float32)


def mapped(matrix: npt.NDArray[np.float64], points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    moved: npt.NDArray[np.float64] = np.tensordot(matrix[:3, :3], points, axes=1)
    return moved + matrix[:3, 3][:, None, None, None]


def problem_of(truth: npt.NDArray[np.float64], **masks: npt.NDArray[np.uint8]) -> Problem:
    """A pair whose mapping of fixed to moving points is known."""
    points = mapped(AFFINE, np.indices(SHAPE).astype(float))
    fixed, moving = anatomy(mapped(truth, points)), anatomy(points)
    put = {name: to_itk(mask, AFFINE) for name, mask in masks.items()}
    return Problem(to_itk(fixed, AFFINE), to_itk(moving, AFFINE), Transform.identity(), **put)


def around(linear: npt.NDArray[np.float64], shift: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = CENTRE + shift - linear @ CENTRE
    return matrix


def stage(kind: str, metric: str) -> Stage:
    return Stage(kind, metric, 2, (2, 1), (1.0, 0.0), (60, 40), None, 0)  # type: ignore[arg-type]


TURN = Rotation.from_euler("xyz", (7, -5, 6), degrees=True).as_matrix()
TRUTHS = {
    "rigid": around(TURN, (1.5, -1.0, 0.7)),
    "similarity": around(1.07 * TURN, (1.5, -1.0, 0.7)),
    "affine": around(TURN @ np.array([[1.06, 0.04, 0], [0, 0.95, 0], [0.03, 0, 1.02]]), (1.5, -1.0, 0.7)),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("metric", ["ssd", "ncc", "lncc"])
@pytest.mark.parametrize("kind", TRUTHS)
def test_gradient_is_that_of_differences(
    kind: str, metric: str, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a mapping that carries a part of the fixed image beyond the edges of the moving one."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[3:20, 2:-4, 5:] = 1
    problem = problem_of(TRUTHS["affine"], **({"fixed_mask": mask} if masked else {}))
    (level,) = levels(problem, Stage("rigid", None, None, (1,), (0.0,), (1,), None, 0), CPU)
    matrix = _parametrised(kind, CENTRE, 10.0)
    # that weights change with the mapping is left out of the gradient, so they are held still
    held = torch_linear._inside(level.lattice.points(CPU) + 1.5, SHAPE)
    monkeypatch.setattr(torch_linear, "_inside", lambda places, shape: held)
    objective = _objective(level, matrix, AFFINE, np.linalg.inv(AFFINE), metric, 2)
    numbers = np.random.default_rng(5).normal(0, 1.5, {"rigid": 6, "similarity": 7}.get(kind, 12))
    _, gradient = objective(numbers)
    # images are interpolated in float32: a step that is long enough to be seen, and short of the next voxel
    steps = 0.02 * np.eye(len(numbers))
    wanted = [(objective(numbers + s)[0] - objective(numbers - s)[0]) / 0.04 for s in steps]
    assert np.linalg.norm(gradient - wanted) < 0.02 * np.linalg.norm(wanted)


@pytest.mark.parametrize("metric", ["ssd", "ncc", "lncc"])
@pytest.mark.parametrize("kind", TRUTHS)
def test_a_known_mapping_is_found(kind: str, metric: str) -> None:
    truth = TRUTHS[kind]
    pyramid = levels(problem_of(truth), stage(kind, metric), CPU)
    found = linear_mapping(pyramid, kind, np.eye(4), AFFINE, AFFINE, SHAPE, metric, 2)
    points = mapped(AFFINE, np.indices(SHAPE)[:, 5:-5, 5:-5, 5:-5].astype(float))
    errors = np.linalg.norm(mapped(found, points) - mapped(truth, points), axis=0)
    assert np.linalg.norm(mapped(truth, points) - points, axis=0).mean() > 1.5
    assert errors.mean() < 0.15


def test_what_the_moving_image_has_not_seen_does_not_count() -> None:
    """A moving image that ends in the middle of the anatomy, without a word said about it."""
    whole = problem_of(TRUTHS["rigid"])
    cut = replace(whole, moving=whole.moving[5:, :, :-5])
    affine = affine_of(cut.moving)
    for metric in ("ssd", "ncc", "lncc"):
        pyramid = levels(cut, stage("rigid", metric), CPU)
        found = linear_mapping(pyramid, "rigid", np.eye(4), AFFINE, affine, SHAPE, metric, 2)
        points = mapped(AFFINE, np.indices(SHAPE)[:, 5:-5, 5:-5, 5:-5].astype(float))
        errors = np.linalg.norm(mapped(found, points) - mapped(TRUTHS["rigid"], points), axis=0)
        assert errors.mean() < 0.2, metric


def test_inside_ends_one_voxel_beyond() -> None:
    places = torch.tensor([[0.0, 3, 3.25, -0.75, -1, 9], [2.0] * 6, [2.0] * 6])[..., None, None]
    found = torch_linear._inside(places, (4, 4, 4))
    torch.testing.assert_close(found.flatten(), torch.tensor([1.0, 1, 0.75, 0.25, 0, 0]))


@pytest.mark.parametrize("kind", TRUTHS)
def test_a_mapping_has_the_freedom_of_its_kind(kind: str) -> None:
    matrix = _parametrised(kind, CENTRE, 10.0)
    size = {"rigid": 6, "similarity": 7}.get(kind, 12)
    np.testing.assert_array_equal(matrix(torch.zeros(size, dtype=torch.float64)), np.eye(4))
    numbers = torch.from_numpy(np.random.default_rng(0).normal(0, 3, size))
    made = matrix(numbers).numpy()
    # turns and stretches leave the centre where the shift puts it
    np.testing.assert_allclose(made[:3, :3] @ CENTRE + made[:3, 3] - CENTRE, numbers[:3], atol=1e-12)
    stretch = np.linalg.svd(made[:3, :3], compute_uv=False)
    if kind == "rigid":
        np.testing.assert_allclose(stretch, 1, atol=1e-12)
    if kind == "similarity":
        np.testing.assert_allclose(stretch, np.exp(float(numbers[6]) / 10), atol=1e-12)
    assert np.linalg.det(made) > 0


def test_a_beginning_is_gone_on_from() -> None:
    """What is found comes before the beginning, and is small where that is nearly right."""
    before = around(TURN, (1.2, -1.3, 0.7))
    pyramid = levels(problem_of(TRUTHS["rigid"]), stage("rigid", "ncc"), CPU)
    found = linear_mapping(pyramid, "rigid", before, AFFINE, AFFINE, SHAPE, "ncc", None)
    np.testing.assert_allclose(before @ found, TRUTHS["rigid"], atol=0.2)
    assert np.abs(found - np.eye(4))[:3, :3].max() < 0.02


def test_a_scan_far_from_the_origin_is_registered_as_well() -> None:
    """Turning around the centre of the image, not around a scanner's origin a metre away."""
    away = np.eye(4)
    away[:3, 3] = (1500.0, -900.0, 700.0)
    near = problem_of(TRUTHS["affine"])
    far = Problem(*(_moved(image, away) for image in (near.fixed, near.moving)), Transform.identity())
    options = (SHAPE, "lncc", 2)
    found = [
        linear_mapping(
            levels(problem, stage("affine", "lncc"), CPU), "affine", np.eye(4), affine, affine, *options
        )
        for problem, affine in ((near, AFFINE), (far, away @ AFFINE))
    ]
    points = mapped(AFFINE, np.indices(SHAPE).astype(float))
    there = mapped(np.linalg.inv(away) @ found[1] @ away, points)
    assert np.linalg.norm(there - mapped(found[0], points), axis=0).max() < 0.1


def _moved(image: object, matrix: npt.NDArray[np.float64]) -> object:
    from atlaseg.atlases.registration.transforms.frames import affine_of, from_itk

    return to_itk(from_itk(image)[0], matrix @ affine_of(image))  # type: ignore[arg-type]


def test_indistinguishable_levels_leave_the_initialisation() -> None:
    """Where nothing pulls, the mapping is the identity, not nonsense."""
    voxels = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), 2).astype(np.float32)
    image = to_itk(voxels, AFFINE)
    pyramid = levels(Problem(image, image, Transform.identity()), stage("affine", "ssd"), CPU)
    found = linear_mapping(pyramid, "affine", np.eye(4), AFFINE, AFFINE, SHAPE, "ssd", None)
    np.testing.assert_allclose(found, np.eye(4), atol=1e-6)
