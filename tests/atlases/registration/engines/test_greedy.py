from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from atlaseg.atlases.registration.engine import Problem
from atlaseg.atlases.registration.engines.greedy import GreedyEngine
from atlaseg.atlases.registration.stage import Stage
from atlaseg.atlases.registration.transforms.frames import to_itk
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.errors import OptionError

pytest.importorskip("picsl_greedy", reason="greedy is an optional library: pip install picsl-greedy")


def blobs(shift: float = 0.0) -> np.ndarray:
    x, y, z = np.meshgrid(*[np.arange(n, dtype=float) for n in (24, 26, 28)], indexing="ij")
    rng = np.random.default_rng(2)
    value = np.zeros(x.shape)
    for a, b, c in rng.uniform(5, 20, (20, 3)):
        value += np.exp(-((x - a - shift) ** 2 + (y - b) ** 2 + (z - c) ** 2) / 18)
    return (value / value.max()).astype(np.float32)


@pytest.fixture(scope="module")
def problem() -> Problem:
    affine = np.diag((1.5, 1.0, 1.0, 1.0))
    return Problem(to_itk(blobs(), affine), to_itk(blobs(1.0), affine), Transform.identity())


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (Stage("rigid", "mi", None, (3, 1), (2.0, 0.0), (5, 5), None, 0), "1, 2, 4, .*found 3"),
        (Stage("rigid", "mi", None, (2, 1), (0.2, 0.0), (5, 5), None, 0), "at least 1 mm .* found 0.2 mm"),
        (Stage("rigid", "mi", None, (1,), (0.0,), (5,), None, 500), "no sampling, found samples 500"),
    ],
)
def test_what_greedy_cannot_do_is_refused(problem: Problem, stage: Stage, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        GreedyEngine().register(problem, [stage])


def test_any_schedule_of_halvings_is_run(problem: Problem) -> None:
    """Levels that greedy cannot do in one run (equal factors, no full resolution) are done in several."""
    stage = Stage("deformable", "lncc", 2, (4, 2, 2), (2.0, 2.0, 1.0), (20, 20, 20), None, 0)
    found = GreedyEngine().register(problem, [stage])
    middle = np.array([[18.0, 13.0, 14.0]])
    assert found.points(middle)[0] == pytest.approx((19.5, 13.0, 14.0), abs=0.4)


def test_warp_is_the_one_that_greedy_reslices_with(problem: Problem, tmp_path: Path) -> None:
    """Our reading of greedy's warp against greedy's own resampling of the moving image, on an oblique grid."""
    import io

    import SimpleITK as sitk
    from picsl_greedy import Greedy3D

    turn = np.eye(4)
    turn[:3, :3] = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0] * (1.5, 1.0, 1.2)
    fixed, moving = to_itk(blobs(), turn), to_itk(blobs(1.0), turn)
    greedy, said = Greedy3D(), io.StringIO()
    common = "-threads 1 -V 0"
    greedy.execute(
        f"-i fixed moving -m NCC 2x2x2 -n 10x5 -wp 0 -o warp {common}",
        out=said, err=said, fixed=fixed, moving=moving, warp=None,
    )  # fmt: skip
    greedy.execute(f"-rf fixed -rm moving resliced -r warp {common}", out=said, err=said, resliced=None)
    itk = sitk.DisplacementFieldTransform(sitk.Cast(greedy["warp"], sitk.sitkVectorFloat64))
    ours = sitk.GetArrayFromImage(sitk.Resample(moving, fixed, itk, sitk.sitkLinear))
    theirs = sitk.GetArrayFromImage(greedy["resliced"])
    inner = (slice(3, -3),) * 3
    # greedy interpolates in float32; a wrong sign or frame would be off by hundredths
    np.testing.assert_allclose(ours[inner], theirs[inner], atol=5e-3)
    assert np.abs(theirs - sitk.GetArrayFromImage(moving))[inner].max() > 0.05


def test_inverse_of_the_warp_is_known(problem: Problem) -> None:
    found = GreedyEngine().register(
        problem, [Stage("deformable", "lncc", 2, (2, 1), (1.0, 0.0), (30, 10), None, 0)]
    )
    assert found.known_inverse is not None
    points = np.random.default_rng(0).uniform((9, 6, 6), (27, 20, 22), (50, 3))
    there = found.points(points)
    back = Transform(found.known_inverse).points(there)
    assert np.linalg.norm(there - points, axis=1).mean() > 0.5
    assert np.linalg.norm(back - points, axis=1).mean() < 0.1


def test_a_deformable_beginning_is_gone_on_from(problem: Problem) -> None:
    stage = Stage("deformable", "lncc", 2, (2, 1), (1.0, 0.0), (30, 10), None, 0)
    first = GreedyEngine().register(problem, [stage])
    again = GreedyEngine().register(
        Problem(problem.fixed, problem.moving, first),
        [Stage("rigid", "mi", None, (1,), (0.0,), (10,), None, 0)],
    )
    middle = np.array([[18.0, 13.0, 14.0]])
    assert again.points(middle)[0] == pytest.approx((19.5, 13.0, 14.0), abs=0.4)
