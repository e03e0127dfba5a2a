from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from atlaseg.atlases.registration.engine import Problem
from atlaseg.atlases.registration.engines.simpleitk import SimpleItkEngine, _refined
from atlaseg.atlases.registration.stage import Stage
from atlaseg.atlases.registration.transforms.frames import to_itk
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.errors import OptionError

AFFINE = np.diag((1.5, 1.0, 1.0, 1.0))
POINTS = np.random.default_rng(0).uniform((9, 6, 6), (27, 20, 22), (50, 3))


def blobs(shift: float = 0.0) -> np.ndarray:
    x, y, z = np.meshgrid(*[np.arange(n, dtype=float) for n in (24, 26, 28)], indexing="ij")
    value = np.zeros(x.shape)
    for a, b, c in np.random.default_rng(2).uniform(5, 20, (20, 3)):
        value += np.exp(-((x - a - shift) ** 2 + (y - b) ** 2 + (z - c) ** 2) / 18)
    return (value / value.max()).astype(np.float32)


@pytest.fixture(scope="module")
def problem() -> Problem:
    return Problem(to_itk(blobs(), AFFINE), to_itk(blobs(1.0), AFFINE), Transform.identity(), seed=4)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("kind", "metric"), [*(("rigid", m) for m in ("ssd", "mi", "ncc", "lncc")), ("deformable", "ssd")]
)
def test_every_metric_finds_a_shift(problem: Problem, kind: str, metric: str) -> None:
    radius = 2 if metric == "lncc" else None
    stage = Stage(kind, metric, radius, (2, 1), (1.0, 0.0), (40, 20), None, 0)  # type: ignore[arg-type]
    found = SimpleItkEngine().register(problem, [stage]).points(POINTS)
    wrong = np.linalg.norm(found - POINTS - (1.5, 0, 0), axis=1).mean()
    assert wrong < (0.1 if kind == "rigid" else 0.6)


@pytest.mark.parametrize(("metric", "samples"), [("mi", 0), ("ssd", 100)])
def test_demons_refuse_what_they_cannot_do(problem: Problem, metric: str, samples: int) -> None:
    stage = Stage("deformable", metric, None, (1,), (0.0,), (2,), None, samples)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="compare every voxel by ssd"):
        SimpleItkEngine().register(problem, [stage])


def test_seed_decides_what_is_drawn(problem: Problem) -> None:
    drawn = Stage("rigid", "mi", None, (2, 1), (1.0, 0.0), (20, 10), None, 1000)
    first, again = (SimpleItkEngine().register(problem, [drawn]).points(POINTS) for _ in range(2))
    other = SimpleItkEngine().register(replace(problem, seed=9), [drawn]).points(POINTS)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_demons_leave_alone_what_a_mask_leaves_out(problem: Problem) -> None:
    mask = np.zeros((24, 26, 28), np.uint8)
    mask[:12] = 1
    masked = replace(problem, fixed_mask=to_itk(mask, AFFINE))
    stage = Stage("deformable", "ssd", None, (1,), (0.0,), (20,), None, 0)
    moved = SimpleItkEngine().register(masked, [stage]).points(POINTS) - POINTS
    far_outside = POINTS[:, 0] > 18 + 4
    assert np.linalg.norm(moved[far_outside], axis=1).mean() < 0.1
    assert np.linalg.norm(moved[POINTS[:, 0] < 16], axis=1).mean() > 0.4


def test_refined_spline_is_the_same_warp() -> None:
    grid = to_itk(blobs(), AFFINE)
    coarse = sitk.BSplineTransformInitializer(grid, [3, 3, 4], 3)
    coarse.SetParameters(np.random.default_rng(0).normal(0, 2, len(coarse.GetParameters())).tolist())
    fine = _refined(coarse, sitk.BSplineTransformInitializer(grid, [6, 6, 8], 3))
    before, after = (Transform(itk).points(POINTS) for itk in (coarse, fine))
    assert np.linalg.norm(before - POINTS, axis=1).mean() > 0.5
    np.testing.assert_allclose(after, before, atol=0.05)


@pytest.mark.thorough
def test_grid_spacing_is_that_of_the_finest_level(problem: Problem) -> None:
    stage = Stage("bspline", "ncc", None, (2, 1), (1.0, 0.0), (2, 1), 6.0, 0)
    found = SimpleItkEngine().register(problem, [stage]).itk
    spline = sitk.CompositeTransform(found).GetNthTransform(1).Downcast()
    # 36, 26 and 28 mm at 12 mm, then halved
    assert spline.GetTransformDomainMeshSize() == (6, 4, 4)
