"""Dense warps: found where they are known, never folded, and ended when nothing is gained any more."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import ndimage

import atlaseg.atlases.registration.engines.torch.torch_dense as torch_dense
from atlaseg.atlases.registration.engine import Problem
from atlaseg.atlases.registration.engines.torch.torch_pyramid import levels
from atlaseg.atlases.registration.stage import Stage
from atlaseg.atlases.registration.transforms.frames import to_itk
from atlaseg.atlases.registration.transforms.transform import Transform

CPU = torch.device("cpu")
SHAPE = (30, 28, 26)
Array = npt.NDArray[np.float64]
UNITY = np.eye(4)


def blobs(seed: int = 0) -> Array:
    volume = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 1.8, mode="nearest")
    scaled: Array = (volume - volume.min()) / (volume.max() - volume.min())
    return scaled


def known_warp() -> Array:
    """Displacements ``(3, *SHAPE)`` in voxels, up to 2.5, that come to rest at the edges."""
    index = np.indices(SHAPE).astype(float)
    x, y, z = index
    fade = np.prod([np.sin(np.pi * i / (n - 1)) for i, n in zip(index, SHAPE, strict=True)], axis=0)
    warp: Array = 2.5 * fade * np.stack([np.sin(y / 6), np.cos(z / 7), np.sin((x + z) / 8)])
    return warp


def warped(volume: Array, warp: Array) -> Array:
    found: Array = ndimage.map_coordinates(volume, np.indices(SHAPE) + warp, order=1, mode="nearest")
    return found


def determinants(warp: Array) -> Array:
    """Of the Jacobian of ``x + u(x)``, by central differences."""
    gradient = np.stack([np.stack(np.gradient(component)) for component in warp])
    found: Array = np.linalg.det(np.moveaxis(gradient, (0, 1), (-2, -1)) + np.eye(3))
    return found


def run(fixed: Array, moving: Array, stage: Stage, matrix: Array = UNITY) -> Array:
    pair = (to_itk(v.astype(np.float32), UNITY) for v in (fixed, moving))
    pyramid = levels(Problem(*pair, Transform.identity()), stage, CPU)
    found = torch_dense.dense_warp(pyramid, SHAPE, matrix, str(stage.metric), stage.metric_radius)
    assert found.shape == (3, *SHAPE)
    return found.numpy().astype(float)


def stage(metric: str = "lncc", shrink: tuple[int, ...] = (2, 1), iterations: int = 60) -> Stage:
    smoothing = tuple(0.5 * f if f > 1 else 0.0 for f in shrink)
    counts = (iterations,) * len(shrink)
    return Stage("deformable", metric, 2, shrink, smoothing, counts, None, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", ["ssd", "ncc", "lncc"])
def test_a_known_warp_is_found(metric: str) -> None:
    moving, truth = blobs(), known_warp()
    found = run(warped(moving, truth), moving, stage(metric))
    inner = (slice(None), *[slice(4, -4)] * 3)
    before, after = (np.linalg.norm(w[inner], axis=0).mean() for w in (truth, found - truth))
    assert before > 1
    assert after < 0.5
    assert determinants(found).min() > 0


def test_noise_does_not_fold_it() -> None:
    """Two volumes that have nothing in common, for as long as it takes."""
    rng = np.random.default_rng(3)
    found = run(rng.uniform(size=SHAPE), rng.uniform(size=SHAPE), stage(iterations=100))
    assert np.abs(found).max() > 2
    assert determinants(found).min() > 0


def test_a_coarse_end_is_carried_to_every_voxel() -> None:
    moving, truth = blobs(), known_warp()
    found = run(warped(moving, truth), moving, stage(shrink=(2,)))
    inner = (slice(None), *[slice(4, -4)] * 3)
    assert np.linalg.norm((found - truth)[inner], axis=0).mean() < 0.5


def test_the_warp_goes_before_the_matrix() -> None:
    """A moving image on another grid: the warp stays in voxels of the fixed one."""
    moving, truth = blobs(), known_warp()
    turned = moving[::-1, :, ::-1].copy()
    matrix = np.diag((-1.0, 1, -1, 1))
    matrix[:3, 3] = (SHAPE[0] - 1, 0, SHAPE[2] - 1)
    fixed = warped(moving, truth)
    straight, through = run(fixed, moving, stage()), run(fixed, turned, stage(), matrix)
    np.testing.assert_allclose(through, straight, atol=0.05)


def test_what_is_alike_already_is_hardly_moved() -> None:
    """Updates have one length however little there is to gain, so that the last ones are jitter, but no more."""
    for metric in ("ssd", "lncc"):
        found = run(blobs(), blobs(), stage(metric))
        assert np.linalg.norm(found, axis=0).mean() < 0.2
        assert np.abs(found).max() < 1


def test_a_level_ends_when_nothing_is_gained(monkeypatch: pytest.MonkeyPatch) -> None:
    values: list[float] = []
    real = torch_dense.likeness

    def counting(metric: str, fixed: torch.Tensor, radius: int | None) -> torch_dense.Likeness:
        alike = real(metric, fixed, radius)

        def counted(moved: torch.Tensor, weight: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
            found = alike(moved, weight)
            values.append(float(found[0]))
            return found

        return counted

    monkeypatch.setattr(torch_dense, "likeness", counting)
    moving = blobs()
    run(warped(moving, known_warp()), moving, stage(shrink=(1,), iterations=500))
    assert 20 < len(values) < 300
    assert values[-1] > 0.9 > values[0]
    values.clear()
    run(warped(moving, known_warp()), moving, stage(shrink=(1,), iterations=7))
    assert len(values) == 7


def test_without_a_level_there_is_no_warp() -> None:
    with pytest.raises(ValueError, match="at least one level"):
        torch_dense.dense_warp([], SHAPE, UNITY, "ssd", None)
