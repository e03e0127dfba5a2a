"""The engine as a whole: devices, threads, masks, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from atlaseg.atlases.registration.engine import Problem, RegistrationError
from atlaseg.atlases.registration.engines.torch.torch_engine import TorchEngine
from atlaseg.atlases.registration.stage import Stage
from atlaseg.atlases.registration.transforms.frames import affine_of, to_itk
from atlaseg.atlases.registration.transforms.jacobian import jacobian_statistics
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.errors import OptionError

SHAPE = (24, 26, 22)
#: LAS, turned, 1.2 x 1 x 1.5 mm.
AFFINE = np.array([[-1.2, 0.1, 0, 14], [0.12, 1.0, 0, -13], [0, 0, 1.5, -16], [0, 0, 0, 1]])
RIGID = Stage("rigid", "ncc", None, (2, 1), (1.0, 0.0), (40, 20), None, 0)
DENSE = Stage("deformable", "lncc", 2, (2, 1), (1.0, 0.0), (40, 30), None, 0)
POINTS = np.random.default_rng(0).uniform((-6, -6, -8), (6, 6, 8), (50, 3))
SHIFT = np.array([1.5, -1.0, 0.8])


def anatomy(points: np.ndarray) -> np.ndarray:
    """Blobs at ``(..., 3)`` RAS+ mm."""
    rng = np.random.default_rng(2)
    value = np.zeros(points.shape[:-1])
    for centre, sigma in zip(rng.uniform(-9, 9, (40, 3)), rng.uniform(2, 3.5, 40), strict=True):
        value += np.exp(-((points - centre) ** 2).sum(axis=-1) / (2 * sigma**2))
    return (value / 4).astype(np.float32)


@pytest.fixture(scope="module")
def problem() -> Problem:
    """Fixed points go to moving points by ``SHIFT``."""
    points = np.moveaxis(np.indices(SHAPE), 0, -1) @ AFFINE[:3, :3].T + AFFINE[:3, 3]
    fixed, moving = (to_itk(anatomy(p), AFFINE) for p in (points + SHIFT, points))
    return Problem(fixed, moving, Transform.identity())


def error(found: Transform) -> float:
    return float(np.linalg.norm(found.points(POINTS) - POINTS - SHIFT, axis=1).mean())


@pytest.mark.parametrize("metric", ["ssd", "ncc", "lncc"])
@pytest.mark.parametrize("stage", [RIGID, DENSE], ids=["rigid", "deformable"])
def test_every_metric_finds_a_shift(problem: Problem, stage: Stage, metric: str) -> None:
    asked = replace(stage, metric=metric, metric_radius=2 if metric == "lncc" else None)  # type: ignore[arg-type]
    # a warp by local correlation draws contrast out of what is flat around the blobs
    allowed = 0.1 if stage is RIGID else 0.5
    assert error(TorchEngine(device="cpu").register(problem, [asked])) < allowed


def test_stages_are_gone_through_one_after_another(problem: Problem) -> None:
    found = TorchEngine(device="cpu").register(problem, [RIGID, replace(DENSE, metric="ncc")])
    assert not found.is_linear
    assert error(found) < 0.2
    assert jacobian_statistics(found, problem.fixed).folding_fraction == 0


def test_a_deformable_beginning_is_gone_on_from(problem: Problem) -> None:
    first = TorchEngine(device="cpu").register(problem, [replace(DENSE, iterations=(15, 5))])
    for stage in (RIGID, DENSE):
        again = TorchEngine(device="cpu").register(replace(problem, initial=first), [stage])
        assert error(again) < 0.5


def test_a_mask_keeps_what_lies_outside_from_counting(problem: Problem) -> None:
    """A bright slab in one of the images spoils the shift unless it is masked."""
    import SimpleITK as sitk

    voxels = sitk.GetArrayFromImage(problem.fixed).T.copy()
    voxels[:7] = np.random.default_rng(0).uniform(0, 3, (7, *SHAPE[1:]))
    mask = np.ones(SHAPE, np.uint8)
    mask[:8] = 0
    spoilt = replace(problem, fixed=to_itk(voxels, affine_of(problem.fixed)))
    asked = replace(RIGID, metric="ssd")
    masked = replace(spoilt, fixed_mask=to_itk(mask, AFFINE))
    assert error(TorchEngine(device="cpu").register(masked, [asked])) < 0.2
    assert error(TorchEngine(device="cpu").register(spoilt, [asked])) > 0.5


def test_threads_are_put_back(problem: Problem) -> None:
    before = torch.get_num_threads()
    seen: list[int] = []
    quick = replace(RIGID, iterations=(2, 1))
    try:
        torch.set_num_threads(3)
        TorchEngine(device="cpu").register(problem, [quick])
        seen.append(torch.get_num_threads())
        with pytest.raises(OptionError):
            TorchEngine(device="nowhere").register(problem, [quick])
        seen.append(torch.get_num_threads())
    finally:
        torch.set_num_threads(before)
    assert seen == [3, 3]


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_those_of_the_problem(
    problem: Problem, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import atlaseg.atlases.registration.engines.torch.torch_linear as torch_linear

    real, seen = torch_linear.linear_mapping, []

    def looking(*given: object) -> object:
        seen.append(torch.get_num_threads())
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(torch_linear, "linear_mapping", looking)
    engine = TorchEngine(device="cpu")
    engine.register(replace(problem, threads=threads), [replace(RIGID, iterations=(2, 1))])
    assert seen == [threads]


@pytest.mark.parametrize("name", ["nowhere", "gpu", "meta", "mps", "", "cuda:"])
def test_an_unknown_device_is_one_line(problem: Problem, name: str) -> None:
    with pytest.raises(OptionError) as caught:
        TorchEngine(device=name).register(problem, [RIGID])
    assert str(caught.value) == f"no device {name!r}; choose auto, cpu or cuda"


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_one_line(
    problem: Problem, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(OptionError) as caught:
        TorchEngine(device=name).register(problem, [RIGID])
    assert (
        str(caught.value) == f"the device {name!r} was asked for, and torch sees no GPU; choose auto or cpu"
    )
    # auto takes what is there
    assert error(TorchEngine().register(problem, [RIGID])) < 0.3


def test_a_gpu_too_many_is_one_line(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(OptionError, match="'cuda:2' was asked for, and torch sees 2, counted from 0"):
        TorchEngine(device="cuda:2").register(problem, [RIGID])


def test_sampling_is_refused(problem: Problem) -> None:
    with pytest.raises(OptionError, match="rigid: the engine torch has no sampling, found samples 500"):
        TorchEngine().register(problem, [replace(RIGID, samples=500)])


def test_a_metric_that_it_lacks_is_refused(problem: Problem) -> None:
    with pytest.raises(OptionError, match="torch has no metric 'mi'"):
        TorchEngine(device="cpu").register(problem, [replace(RIGID, metric="mi")])


def test_images_are_compared_where_their_masks_meet(problem: Problem) -> None:
    """Masks that never meet leave nothing to go by, and the beginning as it is."""
    left, right = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    left[:6], right[-6:] = 1, 1
    apart = replace(problem, fixed_mask=to_itk(left, AFFINE), moving_mask=to_itk(right, AFFINE))
    for stage in (RIGID, DENSE):
        found = TorchEngine(device="cpu").register(apart, [stage])
        np.testing.assert_allclose(found.points(POINTS), POINTS, atol=1e-4)


@pytest.mark.parametrize("kind", ["not finite", "constant"])
def test_images_without_contrast_are_one_line(problem: Problem, kind: str) -> None:
    bad = problem.moving * (np.nan if kind == "not finite" else 0.0)
    with pytest.raises(RegistrationError, match="torch: the moving image has no contrast"):
        TorchEngine().register(replace(problem, moving=bad), [RIGID])


def test_noise_is_registered_without_folding(problem: Problem) -> None:
    rng = np.random.default_rng(1)
    images = (ndimage.gaussian_filter(rng.normal(size=SHAPE), 0.6).astype(np.float32) for _ in range(2))
    noisy = Problem(*(to_itk(image, AFFINE) for image in images), Transform.identity())
    found = TorchEngine(device="cpu").register(noisy, [DENSE])
    assert jacobian_statistics(found, noisy.fixed).folding_fraction == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("stages", [(RIGID,), (replace(RIGID, kind="affine", metric="lncc"), DENSE)])
def test_gpu_and_cpu_agree(problem: Problem, stages: tuple[Stage, ...]) -> None:
    filled = [replace(s, metric_radius=2 if s.metric == "lncc" else None) for s in stages]
    found = [TorchEngine(device=d).register(problem, filled).points(POINTS) for d in ("cpu", "cuda", "cuda")]
    assert np.linalg.norm(found[0] - found[1], axis=1).max() < 0.1
    np.testing.assert_array_equal(found[1], found[2])
