from __future__ import annotations

import os

import numpy as np
import pytest
import SimpleITK as sitk

from atlaseg.atlases.registration.engine import Problem
from atlaseg.atlases.registration.engines.ants import AntsEngine
from atlaseg.atlases.registration.stage import Stage
from atlaseg.atlases.registration.transforms.frames import to_itk
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.errors import OptionError

RIGID = Stage("rigid", "mi", None, (2, 1), (1.0, 0.0), (60, 30), None, 0)


def blobs(shift: float = 0.0) -> np.ndarray:
    x, y, z = np.meshgrid(*[np.arange(n, dtype=float) for n in (24, 26, 28)], indexing="ij")
    value = np.zeros(x.shape)
    for a, b, c in np.random.default_rng(2).uniform(5, 20, (20, 3)):
        value += np.exp(-((x - a - shift) ** 2 + (y - b) ** 2 + (z - c) ** 2) / 18)
    return (value / value.max()).astype(np.float32)


@pytest.fixture(scope="module")
def problem() -> Problem:
    affine = np.diag((1.5, 1.0, 1.0, 1.0))
    return Problem(to_itk(blobs(), affine), to_itk(blobs(1.0), affine), Transform.identity(), seed=4)


@pytest.mark.thorough
def test_syn_knows_its_inverse(problem: Problem) -> None:
    found = AntsEngine().register(
        problem, [RIGID, Stage("syn", "lncc", 2, (2, 1), (1.0, 0.0), (20, 5), None, 0)]
    )
    assert found.known_inverse is not None
    points = np.random.default_rng(0).uniform((9, 6, 6), (27, 20, 22), (50, 3))
    back = Transform(found.known_inverse).points(found.points(points))
    assert np.linalg.norm(back - points, axis=1).mean() < 0.1


@pytest.mark.thorough
def test_rigid_agrees_with_ants_own_resampling(problem: Problem) -> None:
    """What we hand on maps points as ``ants.apply_transforms`` maps images."""
    import ants

    found = AntsEngine().register(problem, [RIGID])
    ours = sitk.GetArrayFromImage(sitk.Resample(problem.moving, problem.fixed, found.itk, sitk.sitkLinear))
    matrix = sitk.AffineTransform(3)
    lps = np.diag((-1.0, -1, 1, 1)) @ found.matrix @ np.diag((-1.0, -1, 1, 1))
    matrix.SetMatrix(lps[:3, :3].ravel().tolist())
    matrix.SetTranslation(lps[:3, 3].tolist())
    theirs = ants.apply_ants_transform_to_image(
        ants.create_ants_transform(
            transform_type="AffineTransform", matrix=lps[:3, :3], translation=lps[:3, 3], dimension=3
        ),
        ants.from_sitk(problem.moving),
        ants.from_sitk(problem.fixed),
    )
    np.testing.assert_allclose(ours, theirs.numpy().T, atol=1e-3)


@pytest.mark.thorough
def test_samples_change_the_result_only_a_little_and_the_seed_decides(problem: Problem) -> None:
    drawn = Stage("rigid", "mi", None, (2, 1), (1.0, 0.0), (60, 30), None, 1500)
    points = np.random.default_rng(0).uniform((9, 6, 6), (27, 20, 22), (50, 3))
    truth = points + np.array((1.5, 0, 0))
    first, again = (AntsEngine().register(problem, [drawn]).points(points) for _ in range(2))
    other = AntsEngine().register(Problem(problem.fixed, problem.moving, problem.initial, seed=9), [drawn])
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other.points(points))
    assert np.linalg.norm(first - truth, axis=1).mean() < 0.5


def test_syn_refuses_sampling(problem: Problem) -> None:
    with pytest.raises(OptionError, match="every voxel"):
        AntsEngine().register(problem, [Stage("syn", "lncc", 2, (1,), (0.0,), (2,), None, 100)])


@pytest.mark.parametrize("before", [None, "3"])
def test_environment_is_put_back(
    problem: Problem, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    name = "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"
    monkeypatch.delenv(name, raising=False)
    if before is not None:
        monkeypatch.setenv(name, before)
    AntsEngine().register(problem, [Stage("rigid", "mi", None, (2,), (1.0,), (1,), None, 0)])
    assert os.environ.get(name) == before
