"""The depth experiment, with little data and time."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from atlaseg.workflows.studies.network_depth import DepthExperiment


@pytest.mark.slow
def test_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert DepthExperiment(tmp_path, cases=4, minutes=0.02).run() == 0
    table = pd.read_csv(tmp_path / "depth.csv")
    assert table["depth"].tolist() == ["context", "standard", "precision"]
    assert table["levels down"].tolist() == [4, 3, 2]
    for row in table.to_dict("records"):
        history = json.loads((tmp_path / row["depth"] / "history.json").read_text())
        assert row["steps"] == history[-1]["iteration"] > 0
        labels = sorted((tmp_path / f"labels-{row['depth']}").glob("*.nii.gz"))
        assert len(labels) == 1  # of four cases one is held out
        predicted, truth = (
            np.asarray(nib.load(path).dataobj)
            for path in (labels[0], tmp_path / "data/labelsTr" / labels[0].name)
        )
        shares = []
        for name, value in (("ellipsoid", 1), ("box", 2)):
            a, b = predicted == value, truth == value
            shares.append((a & b).sum() / (a | b).sum())
            assert row[f"IoU {name}"] == pytest.approx(shares[-1])
        assert row["IoU mean"] == pytest.approx(np.mean(shares))
    assert "IoU after 0.02 minutes each" in capsys.readouterr().out
    assert DepthExperiment(tmp_path, cases=4, minutes=0.02).run() == 0  # nothing is trained again
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "depth.csv"), table)
