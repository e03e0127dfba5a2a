"""What every registration engine must do, for every kind of transform that it has."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest

from atlaseg.atlases.registration.engine import Problem, RegistrationEngine, RegistrationError
from atlaseg.atlases.registration.engines.abilities import check_stages
from atlaseg.atlases.registration.engines.registry import ENGINES, is_installed, make_engine
from atlaseg.atlases.registration.stage import Stage
from atlaseg.atlases.registration.transforms.frames import affine_of, from_itk, to_itk
from atlaseg.atlases.registration.transforms.transform import Transform

if TYPE_CHECKING:
    import SimpleITK as sitk

#: Kinds of each engine, written out: a kind that disappears is a failure, not a test less.
KINDS = {
    "elastix": ("rigid", "similarity", "affine", "bspline"),
    "ants": ("rigid", "similarity", "affine", "syn"),
    "simpleitk": ("rigid", "similarity", "affine", "bspline", "deformable"),
    "torch": ("rigid", "similarity", "affine", "deformable"),
    "greedy": ("rigid", "similarity", "affine", "deformable"),
}
LINEAR = ("rigid", "similarity", "affine")
#: Mean error that is allowed, in voxels (cube root of their volume): linear transforms are known from all voxels
#: together, warps only locally. Twice as much between slices of 3 mm, which is 1/5 and 2/5 of their distance.
ALLOWED = {"linear": 0.25, "bent": 0.5}
#: Enough to arrive, where it is not 40 and 20; their costs differ by a factor of ten.
ITERATIONS = {
    ("elastix", "rigid"): (150, 100),
    ("elastix", "similarity"): (150, 100),
    ("elastix", "affine"): (150, 100),
    ("elastix", "bspline"): (250, 250),
    ("ants", "syn"): (30, 8),
    ("greedy", "rigid"): (100, 50),
    ("greedy", "similarity"): (100, 50),
    ("greedy", "deformable"): (100, 100),
    ("torch", "deformable"): (100, 50),
    ("simpleitk", "deformable"): (100, 40),
    ("simpleitk", "bspline"): (20, 10),
}
GRIDS = ("ras", "las", "lps", "oblique", "anisotropic")


@pytest.fixture(params=ENGINES.names())
def engine(request: pytest.FixtureRequest) -> RegistrationEngine:
    return engine_or_skip(request.param)


def engine_or_skip(name: str) -> RegistrationEngine:
    if not is_installed(name):
        pytest.skip(f"engine {name} needs {ENGINES.find(name).module}, which is not installed")
    return make_engine(name)


def rotation(degrees: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        turn = np.eye(3)
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def anatomy(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Intensity at points ``(..., 3)``, RAS+ mm: a soft ellipsoid full of blobs around the origin, known everywhere."""
    rng = np.random.default_rng(7)
    value = np.zeros(points.shape[:-1])
    for centre, sigma, height in zip(
        rng.uniform(-12, 12, (40, 3)), rng.uniform(3.0, 5.0, 40), rng.uniform(-1, 1, 40), strict=True
    ):
        value += height * np.exp(-((points - centre) ** 2).sum(axis=-1) / (2 * sigma**2))
    radius = np.sqrt(((points / (16.0, 14.0, 15.0)) ** 2).sum(axis=-1))
    inside = 1 / (1 + np.exp((radius - 1) * 12))
    return inside * np.clip(0.5 + 0.4 * value, 0, 1)


def grid(name: str) -> tuple[tuple[int, int, int], npt.NDArray[np.float64]]:
    """Size and affine (RAS+) of a volume of 45 mm or so around the origin."""
    spacing = np.array((0.7, 0.7, 3.0) if name == "anisotropic" else (1.2, 1.3, 1.4))
    axes = {
        "las": np.diag((-1.0, 1, 1)),
        "lps": np.diag((-1.0, -1, 1)),
        "oblique": rotation((20, -15, 30))[:, (2, 0, 1)],
    }.get(name, np.eye(3))
    size = np.round(44 / spacing).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    affine[:3, 3] = -affine[:3, :3] @ ((size - 1) / 2) + (1.0, -0.5, 0.7)
    return (int(size[0]), int(size[1]), int(size[2])), affine


@dataclass(frozen=True)
class Truth:
    """A known mapping from fixed to moving points, RAS+ mm."""

    matrix: npt.NDArray[np.float64]
    bend_mm: float = 0.0

    def __call__(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        x, y, z = np.moveaxis(points, -1, 0)
        bend = np.stack([np.sin(y / 7), np.cos(z / 8 + 0.5), np.sin((x + y) / 9)], axis=-1)
        bent = points + self.bend_mm * bend
        mapped: npt.NDArray[np.float64] = bent @ self.matrix[:3, :3].T + self.matrix[:3, 3]
        return mapped


def truth_of(kind: str) -> Truth:
    matrix = np.eye(4)
    if kind not in LINEAR:
        return Truth(matrix, bend_mm=2.5)
    matrix[:3, :3] = rotation((8, -4, 5))
    matrix[:3, 3] = (3.0, -2.0, 2.0)
    if kind == "similarity":
        matrix[:3, :3] *= 1.05
    if kind == "affine":
        matrix[:3, :3] = matrix[:3, :3] @ np.array([[1.05, 0.03, 0], [0, 0.96, 0.04], [0, 0, 1.03]])
    return Truth(matrix)


def centres(size: tuple[int, int, int], affine: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    voxels = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij"), axis=-1)
    return voxels @ affine[:3, :3].T + affine[:3, 3]


def problem_of(kind: str, fixed_grid: str, moving_grid: str = "ras") -> tuple[Problem, Truth]:
    truth = truth_of(kind)
    size, affine = grid(fixed_grid)
    fixed = to_itk(anatomy(truth(centres(size, affine))).astype(np.float32), affine)
    size, affine = grid(moving_grid)
    moving = to_itk(anatomy(centres(size, affine)).astype(np.float32), affine)
    return Problem(fixed, moving, Transform.identity(), seed=1), truth


def stage_of(kind: str, engine: RegistrationEngine) -> Stage:
    # the window of greedy's lncc sees less and less of an object that grows into a flat background
    metric = "mi" if engine.name == "greedy" else "ncc"
    if kind in ("syn", "deformable"):
        metric = "ssd" if engine.name == "simpleitk" else "lncc"
    return Stage(
        kind,  # type: ignore[arg-type]
        metric,  # type: ignore[arg-type]
        metric_radius=2 if metric == "lncc" else None,
        shrink=(2, 1),
        smoothing_mm=(1.4, 0.0),
        iterations=ITERATIONS.get((engine.name, kind), (40, 20)),
        grid_spacing_mm=7.0 if kind == "bspline" else None,
        samples=2000 if engine.name == "elastix" else 4000 if kind == "bspline" else 0,
    )


def errors(transform: Transform, truth: Truth, fixed: sitk.Image) -> tuple[float, float]:
    """Mean distance to the truth inside the object, before and after, voxels."""
    points = np.random.default_rng(3).uniform(-13, 13, (600, 3))
    wanted = truth(points)
    centre = truth(np.zeros((1, 3)))
    keep = (np.linalg.norm((wanted - centre) / (16.0, 14.0, 15.0), axis=1) < 0.7).nonzero()[0][:200]
    voxel = float(np.prod(fixed.GetSpacing())) ** (1 / 3)
    found = transform.points(points[keep])
    before, after = (np.linalg.norm(p - wanted[keep], axis=1).mean() / voxel for p in (points[keep], found))
    return float(before), float(after)


def recovery_cases() -> list[object]:
    cases: list[object] = []
    for name, kinds in KINDS.items():
        for kind in kinds:
            for where in GRIDS:
                # quick: every kind on the hardest grid, every grid with one kind
                quick = where == "oblique" or (kind == "rigid" and where in ("lps", "anisotropic"))
                marks = [] if quick else [pytest.mark.slow]
                cases.append(pytest.param(name, kind, where, marks=marks, id=f"{name}-{kind}-{where}"))
    return cases


def test_kinds_are_those_expected() -> None:
    for name, kinds in KINDS.items():
        assert set(engine_or_skip(name).kinds) >= set(kinds), name


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "kind", "where"), recovery_cases())
def test_known_warp_is_recovered(name: str, kind: str, where: str) -> None:
    engine = engine_or_skip(name)
    problem, truth = problem_of(kind, where, "las" if where == "ras" else "ras")
    result = engine.register(problem, [stage_of(kind, engine)])
    before, after = errors(result, truth, problem.fixed)
    allowed = ALLOWED["linear" if kind in LINEAR else "bent"] * (2 if where == "anisotropic" else 1)
    assert before > 2.2 * allowed
    assert after < allowed, f"{after:.3f} voxels of error remain of {before:.2f}"


@pytest.mark.thorough
def test_stages_start_from_the_previous_one(engine: RegistrationEngine) -> None:
    kind = next(k for k in ("syn", "bspline", "deformable") if k in engine.kinds)
    truth = Truth(truth_of("affine").matrix, bend_mm=1.5)
    size, affine = grid("oblique")
    problem, _ = problem_of("affine", "oblique")
    fixed = to_itk(anatomy(truth(centres(size, affine))).astype(np.float32), affine)
    result = engine.register(
        replace(problem, fixed=fixed), [stage_of("affine", engine), stage_of(kind, engine)]
    )
    assert not result.is_linear
    before, after = errors(result, truth, fixed)
    assert after < ALLOWED["bent"] < before / 3


@pytest.mark.thorough
def test_initial_transform_is_honoured(engine: RegistrationEngine) -> None:
    problem, truth = problem_of("rigid", "oblique")
    # the moving anatomy is far away: only with the initial transform can it be found
    away = np.eye(4)
    away[:3, 3] = (200.0, -100.0, 50.0)
    voxels, affine = from_itk(problem.moving)
    far = Problem(problem.fixed, to_itk(voxels, away @ affine), Transform.from_matrix(away), seed=1)
    result = engine.register(far, [stage_of("rigid", engine)])
    assert errors(result, Truth(away @ truth.matrix), problem.fixed)[1] < ALLOWED["linear"]


@pytest.mark.thorough
def test_masks_keep_what_does_not_belong_from_counting(engine: RegistrationEngine) -> None:
    problem, truth = problem_of("rigid", "oblique")
    size, affine = grid("oblique")
    points = centres(size, affine)
    inside = np.linalg.norm(truth(points) / (16.0, 14.0, 15.0), axis=-1) < 1.25
    # bright stripes outside the object, in the fixed image only
    voxels = from_itk(problem.fixed)[0]
    voxels[~inside] = (0.5 + 0.5 * np.sin(points[..., 0]))[~inside]
    moving_points = centres(*grid("ras"))
    moving_inside = np.linalg.norm(moving_points / (16.0, 14.0, 15.0), axis=-1) < 1.5
    masked = replace(
        problem,
        fixed=to_itk(voxels.astype(np.float32), affine),
        fixed_mask=to_itk(inside.astype(np.uint8), affine),
        moving_mask=to_itk(moving_inside.astype(np.uint8), grid("ras")[1]),
    )
    result = engine.register(masked, [stage_of("rigid", engine)])
    assert errors(result, truth, problem.fixed)[1] < 0.5


@pytest.mark.thorough
def test_same_seed_same_result(engine: RegistrationEngine) -> None:
    kind = next(k for k in ("syn", "bspline", "deformable") if k in engine.kinds)
    problem, _ = problem_of("affine", "oblique")
    few = [replace(stage_of(k, engine), iterations=(8, 4)) for k in ("affine", kind)]
    points = np.random.default_rng(0).uniform(-12, 12, (50, 3))
    first, second = (engine.register(problem, few).points(points) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.thorough
def test_leaves_the_surroundings_alone(
    engine: RegistrationEngine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    import SimpleITK as sitk

    monkeypatch.chdir(tmp_path)
    kind = next(k for k in ("syn", "bspline", "deformable") if k in engine.kinds)
    problem, _ = problem_of("affine", "oblique")
    images = {name: from_itk(getattr(problem, name))[0].copy() for name in ("fixed", "moving")}
    grids = {name: affine_of(getattr(problem, name)) for name in ("fixed", "moving")}
    environment, threads = dict(os.environ), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    engine.register(problem, [replace(stage_of(k, engine), iterations=(4, 2)) for k in ("rigid", kind)])
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert dict(os.environ) == environment
    assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == threads
    for name, voxels in images.items():
        np.testing.assert_array_equal(from_itk(getattr(problem, name))[0], voxels)
        np.testing.assert_array_equal(affine_of(getattr(problem, name)), grids[name])


def test_no_overlap_is_one_clear_line(engine: RegistrationEngine, capfd: pytest.CaptureFixture[str]) -> None:
    problem, _ = problem_of("rigid", "ras")
    away = np.eye(4)
    away[:3, 3] = 900.0
    with pytest.raises(RegistrationError) as caught:
        engine.register(replace(problem, initial=Transform.from_matrix(away)), [stage_of("rigid", engine)])
    assert "\n" not in str(caught.value)
    assert engine.name in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_constant_image_is_one_clear_line(
    engine: RegistrationEngine, capfd: pytest.CaptureFixture[str]
) -> None:
    problem, _ = problem_of("rigid", "ras")
    with pytest.raises(RegistrationError) as caught:
        engine.register(replace(problem, fixed=problem.fixed * 0), [stage_of("rigid", engine)])
    assert "\n" not in str(caught.value)
    assert engine.name in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_stages_of_the_suite_pass_the_check(engine: RegistrationEngine) -> None:
    check_stages(engine, [stage_of(kind, engine) for kind in KINDS[engine.name]])
