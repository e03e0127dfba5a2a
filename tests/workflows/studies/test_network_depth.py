"""The depth experiment, with little data and time."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from atlaseg.workflows.studies.network_depth import DepthExperiment


@pytest.mark.slow
def test_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert DepthExperiment(tmp_path, cases=4, minutes=0.02).run() == 0
    table = pd.read_csv(tmp_path / "depth.csv")
    assert table["depth"].tolist() == ["context", "standard", "precision"]
    assert table["levels down"].tolist() == [4, 3, 2]
    assert {"IoU ellipsoid", "IoU box", "IoU mean", "steps"} <= set(table.columns)
    assert table["IoU mean"].between(0, 1).all()
    assert (table["steps"] > 0).all()
    assert "IoU after 0.02 minutes each" in capsys.readouterr().out
    assert DepthExperiment(tmp_path, cases=4, minutes=0.02).run() == 0  # nothing is trained again
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "depth.csv"), table)
