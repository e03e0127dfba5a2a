"""Time and memory of classical methods against size: each measurement in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atlaseg.workflows.studies.classical_methods import ClassicalBenchmark
from atlaseg.workflows.studies.classical_timing import made_scan, time_method, time_methods


def test_made_scans_have_one_shape_at_every_size() -> None:
    small, large = made_scan(16, seed=1), made_scan(32, seed=1)
    for scan, labels in (small, large):
        np.testing.assert_allclose(np.array(scan.spacing) * scan.shape, 128)
        assert set(np.unique(labels)) == {0, 1, 2}
    shares = [np.bincount(labels.ravel()) / labels.size for _, labels in (small, large)]
    np.testing.assert_allclose(*shares, atol=0.02)


def test_a_method_is_timed() -> None:
    timing = time_method("kmeans:clusters=3", 16)
    assert (timing.method, timing.size) == ("kmeans:clusters=3", 16)
    assert timing.seconds > 0
    assert timing.peak_mb > 10


@pytest.mark.thorough
def test_what_fails_is_one_line_and_the_rest_continues() -> None:
    """And memory is that of the process alone, whatever its parent has held."""
    held = np.ones(100_000_000)
    failed: list[str] = []
    (timing,) = time_methods(["gmm:components=0", "kmeans:clusters=2"], [16], failed)
    assert timing.method == "kmeans:clusters=2"
    assert timing.peak_mb < held.nbytes / 1e6
    assert failed == ["gmm:components=0 16^3: gmm: at least 1 class is needed, found 0"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot limit processor time")
def test_what_takes_too_long_is_given_up() -> None:
    failed: list[str] = []
    assert not list(time_methods(["kmeans:clusters=2"], [64], failed, limit=1))
    (line,) = failed
    assert line.startswith("kmeans:clusters=2 64^3: ended early, by more than 1 s")


def test_what_training_chose_is_printed() -> None:
    assert time_method("kmeans:restarts=1:max_samples=1000", 16).chosen.startswith("clusters=")


@pytest.mark.thorough
def test_the_command_writes_sizes(shapes_folder: Path, tmp_path: Path, capsys: Any) -> None:
    job = ClassicalBenchmark(
        shapes_folder, tmp_path, methods=("prior", "watershed"), first=4, last=1, sizes=(16,)
    )
    assert job.run() == 0
    assert "watershed 16^3: " in capsys.readouterr().out
    rows = (tmp_path / "sizes.csv").read_text().splitlines()
    assert rows[0] == "method,size,seconds,peak_mb,chosen"
    assert [row.split(",")[0] for row in rows[1:]] == ["watershed"]  # the prior is no method
