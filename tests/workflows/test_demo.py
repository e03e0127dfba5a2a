"""The demo, with little data and time."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from atlaseg.workflows.demo import Demo


@pytest.mark.slow
def test_whole_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = Demo(tmp_path, subjects=4, minutes=0.05)
    assert job.run() == 0
    said = capsys.readouterr().out
    steps = [line.split()[2] for line in said.splitlines() if line.startswith("$ atlaseg ")]
    assert steps == ["phantom", "check", "train", "segment", "evaluate"]
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert scores["case"].nunique() == 1  # a quarter of four
    assert scores["dice"].between(0, 1).all()
    for name in ("run/overlay.png", "run/curves.png", "scores.png"):
        assert (tmp_path / name).is_file()
        assert str(tmp_path / name) in said
    # the same command again finds everything done but labels and scores
    shutil.rmtree(tmp_path / "labels")
    weights = (tmp_path / "run" / "models" / "model.pt").stat().st_mtime_ns
    assert job.run() == 0
    assert (tmp_path / "run" / "models" / "model.pt").stat().st_mtime_ns == weights
    assert any((tmp_path / "labels").iterdir())


@pytest.mark.thorough
def test_commands_that_are_shown_can_be_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each step runs the job that its printed command describes."""
    import shlex

    from atlaseg.workflows import check, cli, evaluate, phantom, segment, train

    ran = []
    for module, name in (
        (phantom, "Phantom"),
        (check, "Check"),
        (train, "Train"),
        (segment, "Segment"),
        (evaluate, "Evaluate"),
    ):
        monkeypatch.setattr(getattr(module, name), "run", lambda self: ran.append(self) or 0)
    assert Demo(tmp_path, subjects=7, seed=3).run() == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("$ atlaseg ")]
    typed = [shlex.split(line)[2:] for line in lines]
    jobs = [cli.job_of(words) for words in typed]
    assert [type(job) for job in jobs] == [type(job) for job in ran]
    assert jobs == ran
