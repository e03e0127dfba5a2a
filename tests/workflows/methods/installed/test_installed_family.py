"""A method that an installed package brings as a class: trained, applied and compared like any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from atlaseg.pipeline.errors import OptionError, PackageError
from atlaseg.workflows.cli import main
from atlaseg.workflows.methods.families import all_methods, family_of_run, find_method
from atlaseg.workflows.methods.installed.installed_family import INSTALLED
from atlaseg.workflows.segment import Segment
from atlaseg.workflows.train import Train

THRESHOLD = """
import json
from pathlib import Path
import numpy as np
from atlaseg.pipeline.segmenter import Segmentation
from atlaseg.pipeline.whole_methods import WholeMethod

ROW = WholeMethod("threshold", "what is brighter than a share of the voxels", "thresholds:Threshold", source="a book")
POOR = WholeMethod("poor", "a class without methods", "thresholds:Poor")

class Poor:
    pass

class Threshold:
    def __init__(self, share: float = 0.9, seed: int = 0):
        self.share, self.seed = share, seed

    def fit(self, dataset):
        self.value, self.cases = dataset.labels.values[-1], len(dataset.labelled)
        return self

    def segment(self, image, *, probabilities=False, mask=None, progress=None):
        voxels = np.asarray(image)[0]
        labels = (voxels > np.quantile(voxels, self.share)) * self.value
        if mask is not None:
            labels = labels * (np.asarray(mask) != 0)
        return Segmentation(labels.astype(np.uint8), np.asarray(image.affine, dtype=float))

    def save(self, directory):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "threshold.json").write_text(json.dumps([self.share, self.value, self.cases, self.seed]))

    @classmethod
    def load(cls, directory):
        made = cls()
        made.share, made.value, made.cases, made.seed = json.loads((Path(directory) / "threshold.json").read_text())
        return made
"""


@pytest.fixture
def threshold(installed: Any) -> None:
    installed.add(
        "thresholds",
        {"atlaseg.methods": {"threshold": "thresholds:ROW", "poor": "thresholds:POOR"}},
        thresholds=THRESHOLD,
    )


@pytest.mark.usefixtures("threshold")
def test_train_and_segment(shapes_folder: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    job = Train.of(shapes_folder, run, method="threshold", option=("share=0.8",), seed=7)
    assert job.run() == 0
    assert job.run() == 0  # finished; nothing to do
    assert family_of_run(run) is INSTALLED
    share, value, cases, seed = json.loads((run / "method" / "threshold.json").read_text())
    assert (share, cases, seed) == (0.8, 4, 7)
    assert Segment((run,), out, validation=True).run() == 0
    (labels,) = out.iterdir()
    image = np.asanyarray(nib.load(shapes_folder / "imagesTr" / labels.name).dataobj)
    found = np.asanyarray(nib.load(labels).dataobj)
    np.testing.assert_array_equal(found, (image > np.quantile(image, 0.8)) * value)


@pytest.mark.usefixtures("threshold")
def test_it_is_listed_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--kind", "installed"]) == 0
    assert (
        "threshold  what is brighter than a share of the voxels (thresholds 1.0)" in capsys.readouterr().out
    )
    assert main(["methods", "threshold"]) == 0
    said = capsys.readouterr().out
    assert "source: a book" in said
    assert "options: share=0.9, seed=0" in said
    assert all_methods()["threshold"].family is INSTALLED


@pytest.mark.usefixtures("threshold")
def test_refusals(shapes_folder: Path, tmp_path: Path) -> None:
    for option, message in (("colour=red", "no option 'colour'"), ("share=much", "share")):
        with pytest.raises(OptionError, match=message):
            Train.of(shapes_folder, tmp_path / "run", method="threshold", option=(option,)).run()
    with pytest.raises(OptionError, match="--epochs: for networks"):
        Train.of(shapes_folder, tmp_path / "run", method="threshold", epochs=3).run()
    with pytest.raises(PackageError, match=r"package thresholds 1\.0: .*lacks fit, segment, save or load"):
        Train.of(shapes_folder, tmp_path / "run", method="poor").run()
    assert not (tmp_path / "run").exists()


def test_a_run_whose_package_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "run" / "configs").mkdir(parents=True)
    about = {"method": "threshold", "package": "thresholds 1.0", "channels": ["MRI"]}
    (tmp_path / "run" / "configs" / "method.json").write_text(json.dumps(about))
    with pytest.raises(OptionError, match=r"learnt by the method threshold, .*install thresholds 1\.0"):
        INSTALLED.labeller(Segment((tmp_path / "run",), tmp_path / "out"), (tmp_path / "run",))
    with pytest.raises(OptionError, match="'threshold' is not known"):
        find_method("threshold")


@pytest.mark.slow
@pytest.mark.usefixtures("threshold")
def test_benchmark_and_report(
    installed: Any, shapes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(installed.folder))  # for the processes of the benchmark
    out = tmp_path / "out"
    words = [str(shapes_folder), "--methods", "threshold:share=0.8", "--first", "3", "--last", "2"]
    assert main(["benchmark", *words, "--out", str(out)]) == 0
    assert "threshold:share=0.8" in (out / "ranking.csv").read_text()
    assert main(["report", str(out), "--dataset", str(shapes_folder)]) == 0
    assert "threshold" in (out / "report.html").read_text()
