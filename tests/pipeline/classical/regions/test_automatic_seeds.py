"""Growth without a person on scans whose answer is known, and on hippocampi."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from atlaseg.pipeline.classical.methods.region_growing import RegionGrowingOptions
from atlaseg.pipeline.classical.regions.automatic_seeds import (
    automatic_seeds,
    grow_automatically,
    learn_intensities,
)
from atlaseg.pipeline.classical.scan import Scan
from atlaseg.pipeline.errors import DatasetError, OptionError

SHAPE = (36, 30, 18)
SPACING = np.diag([1.0, 1.0, 2.0, 1.0])


def labelled(seed: int, noise: float = 0.05) -> tuple[Scan, np.ndarray]:
    """Two balls of different brightness, of which the darker has a twin elsewhere that belongs to the background."""
    rng = np.random.default_rng(seed)
    x, y, z = np.ogrid[:36, :30, :18]
    move = rng.integers(-2, 3, 3)

    def ball(at: tuple[int, int, int], radius: float) -> np.ndarray:
        a, b, c = np.array(at) + move
        return (x - a) ** 2 + (y - b) ** 2 + (2 * (z - c)) ** 2 < radius**2

    truth = np.zeros(SHAPE, dtype=np.int64)
    truth[ball((10, 10, 9), 7)], truth[ball((24, 20, 9), 6)] = 1, 2
    voxels = np.array([0.0, 0.5, 1.0])[truth] + 0.5 * ball((27, 6, 9), 4) + rng.normal(0, noise, SHAPE)
    prior = np.stack([gaussian_filter((truth == k).astype(np.float32), 2) for k in range(3)])
    return Scan.of(voxels, SPACING, prior=prior / prior.sum(axis=0)), truth


def dice(found: np.ndarray, truth: np.ndarray, k: int) -> float:
    return float(2 * ((found == k) & (truth == k)).sum() / ((found == k).sum() + (truth == k).sum()))


def learnt(cases: list[tuple[Scan, np.ndarray]]) -> dict[str, np.ndarray]:
    return learn_intensities([scan for scan, _ in cases], [label for _, label in cases], 3)


def test_balls_are_found_and_their_twin_is_not() -> None:
    state = learnt([labelled(n) for n in range(3)])
    scan, truth = labelled(7)
    found = grow_automatically(scan, state)
    assert min(dice(found, truth, 1), dice(found, truth, 2)) > 0.93
    assert not found[24:31, 3:9][truth[24:31, 3:9] == 0].any()


def test_seeds_lie_inside_their_structures() -> None:
    state = learnt([labelled(n) for n in range(3)])
    scan, truth = labelled(8)
    seeds = automatic_seeds(scan, state)
    for k in (1, 2):
        assert (seeds == k).sum() > 5
        assert (truth[seeds == k] == k).mean() > 0.98


def test_what_is_learnt_is_what_the_voxels_have() -> None:
    cases = [labelled(n) for n in range(2)]
    state = learnt(cases)
    values = np.concatenate([scan.voxels[0][label == 2] for scan, label in cases])
    assert state["mean"][2, 0] == pytest.approx(values.mean(), rel=1e-5)
    assert state["deviation"][2, 0] == pytest.approx(values.std(), rel=1e-4)
    assert state["low"][2, 0] == pytest.approx(np.percentile(values, 1), rel=1e-5)
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in state.values())
    again = learnt(cases)
    assert all(np.array_equal(state[name], again[name]) for name in state)


def test_a_mask_without_background_has_no_background() -> None:
    cases = []
    for n in range(2):
        scan, truth = labelled(n)
        cases.append((Scan.of(scan.voxels, SPACING, mask=truth > 0, prior=scan.prior), truth))
    state = learnt(cases)
    assert state["present"].tolist() == [0, 1, 1]
    found = grow_automatically(cases[0][0], state)
    assert not found[~cases[0][0].mask].any()
    assert dice(found, cases[0][1], 1) > 0.95


def test_bad_input_is_refused_in_one_line() -> None:
    scan, truth = labelled(0)
    with pytest.raises(DatasetError, match=r"label 2 of 3 .* has no voxel in any training scan"):
        learn_intensities([scan], [np.where(truth == 2, 0, truth)], 3)
    with pytest.raises(DatasetError, match="no labelled scan"):
        learn_intensities([], [], 3)
    state = learnt([(scan, truth)])
    with pytest.raises(OptionError, match="without a prior"):
        RegionGrowingOptions().labels(Scan.of(scan.voxels), state)
    with pytest.raises(OptionError, match="learnt from 1 channels and 3 labels"):
        RegionGrowingOptions().labels(Scan.of(np.concatenate([scan.voxels] * 2), prior=scan.prior), state)


@pytest.mark.real
def test_hippocampi_are_found_better_than_by_position_alone(real_data: Path) -> None:
    from atlaseg.pipeline.classical.location_prior import LocationPrior
    from atlaseg.pipeline.io.volume import read_header, read_voxels

    folder = real_data / "Task04_Hippocampus"
    files = sorted((folder / "imagesTr").glob("*.nii.gz"))[:14]
    scans = [Scan.of(read_voxels(file), read_header(file).affine) for file in files]
    labels = [read_voxels(folder / "labelsTr" / file.name).astype(np.int64) for file in files]
    location = LocationPrior.learn(scans[:10], labels[:10], 3)
    state = learn_intensities(scans[:10], labels[:10], 3)
    ours, alone = [], []
    for scan, truth in zip(scans[10:], labels[10:], strict=True):
        prior = location.on(scan)
        found = grow_automatically(Scan(scan.voxels, scan.affine, scan.mask, prior), state)
        ours += [dice(found, truth, k) for k in (1, 2)]
        alone += [dice(prior.argmax(axis=0), truth, k) for k in (1, 2)]
    assert np.mean(ours) > np.mean(alone)
