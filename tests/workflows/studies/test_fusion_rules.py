"""The benchmark of fusion: every method gives labels, and the table and the file hold their figures."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from atlaseg.pipeline.errors import OptionError
from atlaseg.workflows.studies.fusion_rules import METHODS, FusionBenchmark, FusionMeasurement, _measure


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Three atlases of a blob, each a voxel off."""
    rng = np.random.default_rng(0)
    field = gaussian_filter(rng.standard_normal((20, 18, 16)), 2)
    field /= field.std()
    truth = np.digitize(field, (0.3, 1.0))
    labels = np.stack([np.roll(truth, 1, axis) for axis in range(3)])
    images = np.stack([np.roll(field, 1, axis)[None] for axis in range(3)])
    path = tmp_path_factory.mktemp("fusion") / "candidates.npz"
    np.savez(
        path,
        labels=labels.astype(np.uint16),
        classes=3,
        images=images.astype(np.float32),
        target=field[None].astype(np.float32),
        truth=truth,
    )
    return path


def test_every_method_is_timed_and_scored(inputs):
    pytest.importorskip("ants")
    job = FusionBenchmark(patch_radius=1)
    found = {method: _measure(job, method, inputs) for method in METHODS}
    for method, measurement in found.items():
        assert measurement.dice > 0.6, method
        assert measurement.peak_gb > 0.01
        assert measurement.cpu_seconds > 0
    assert abs(found["joint"].dice - found["ants-disputed"].dice) < 0.02
    table = job._table(found)
    for title in METHODS.values():
        assert title in table


def test_ratios_are_to_our_own_method():
    slow, fast = FusionMeasurement(8, 8, 1, 0.8), FusionMeasurement(2, 2, 1, 0.8)
    table = FusionBenchmark()._table({"joint": fast, "ants": slow, "itk-binary": slow})
    assert "| 8.00 | 8.00 | 4.0 |" in table
    assert "| 8.00 | 8.00 |  |" in table


@pytest.mark.slow
def test_runs_on_a_phantom(tmp_path, capsys):
    out = tmp_path / "figures.json"
    job = FusionBenchmark(
        out=out, transform="affine", patch_radius=1, search_radius=0, repeats=1, methods=("joint", "staple")
    )
    assert job.run() == 0
    assert "JointFusion" in capsys.readouterr().out
    figures = json.loads(out.read_text())
    assert figures["medians"]["joint"]["dice"] > 0.4


def test_options_are_checked():
    with pytest.raises(OptionError, match="--repeats"):
        FusionBenchmark(repeats=0).run()
    with pytest.raises(OptionError, match="--methods"):
        FusionBenchmark(methods=("magic",)).run()
