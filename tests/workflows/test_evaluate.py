"""The job ``evaluate``: pairing, names, what goes wrong with a case, and the files it writes."""

from __future__ import annotations

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.evaluation.scores import score_case
from atlaseg.pipeline.planning.plan import Plan
from atlaseg.pipeline.planning.plan_file import save_plan
from atlaseg.workflows.evaluate import Evaluate

AFFINE = np.diag([0.8, 0.8, 2.5, 1.0])


def save(path, label_map, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(label_map.astype(np.uint8), affine), path)


def make_map(seed=0):
    rng = np.random.default_rng(seed)
    label_map = np.zeros((14, 12, 8), int)
    label_map[3:8, 3:9, 2:6] = 4
    label_map[8:12, 3:9, 2:6] = 25
    label_map[tuple(rng.integers(3, 6, 3))] = 0
    return label_map


@pytest.fixture
def job(tmp_path):
    """Three cases with small differences, on an anisotropic grid, label values with gaps."""
    for i, name in enumerate("abc"):
        save(tmp_path / "truth" / f"{name}.nii.gz", make_map(i))
        save(tmp_path / "found" / f"{name}.nii.gz", np.roll(make_map(i), i, axis=0))
    return Evaluate(tmp_path / "found", tmp_path / "truth", out=tmp_path / "out" / "scores.csv")


def test_writes_table_summary_and_picture(job, capsys):
    assert job.run() == 0
    table = pd.read_csv(job.out)
    assert table["case"].tolist() == ["a", "a", "b", "b", "c", "c"]
    assert table["value"].tolist() == [4, 25] * 3
    assert table["structure"].tolist() == ["label 4", "label 25"] * 3
    assert table["dice"][0] == 1
    voxel_ml = 0.8 * 0.8 * 2.5 / 1000
    assert table["volume_reference_ml"][1] == pytest.approx((make_map(0) == 25).sum() * voxel_ml)
    assert table["hd95_mm"][3] == pytest.approx(0.8)
    content = json.loads(job.out.with_suffix(".json").read_text())
    assert content["cases"] == ["a", "b", "c"]
    assert np.sum(content["confusion_matrix"]["counts"]) == 3 * 14 * 12 * 8
    summary = content["summary"][0]["metrics"]["dice"]
    assert summary["mean"] == pytest.approx(table["dice"][table["value"] == 4].mean())
    assert job.out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in job.out.parent.iterdir()) == ["scores.csv", "scores.json", "scores.png"]
    assert "all structures" in capsys.readouterr().out


def test_without_out_nothing_is_written(job, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    assert replace(job, out=None).run() == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_missing_prediction_counts_as_worst(job, capsys):
    (job.predictions / "b.nii.gz").unlink()
    assert job.run() == 1
    table = pd.read_csv(job.out)
    lost = table[table["case"] == "b"]
    assert lost["dice"].tolist() == [0, 0]
    assert lost["hd95_mm"].tolist() == pytest.approx([np.linalg.norm([14 * 0.8, 12 * 0.8, 8 * 2.5])] * 2)
    assert set(lost["note"]) == {"prediction missing"}
    content = json.loads(job.out.with_suffix(".json").read_text())
    assert content["missing_predictions"] == ["b"]
    assert content["summary"][-1]["metrics"]["dice"]["n"] == 3
    assert "1 without a prediction, counted as worst: b" in capsys.readouterr().err


def test_only_predicted_leaves_the_others_out(job, capsys):
    (job.predictions / "b.nii.gz").unlink()
    assert replace(job, only_predicted=True).run() == 0
    assert set(pd.read_csv(job.out)["case"]) == {"a", "c"}
    content = json.loads(job.out.with_suffix(".json").read_text())
    assert content["missing_predictions"] == []
    assert content["summary"][-1]["metrics"]["dice"]["n"] == 2


def test_other_grid_is_listed_and_the_batch_continues(job, capsys):
    shifted = AFFINE.copy()
    shifted[0, 3] = 3
    save(job.predictions / "a.nii.gz", make_map(), shifted)
    save(job.predictions / "b.nii.gz", make_map()[:-1])
    assert job.run() == 1
    message = capsys.readouterr().err
    assert "2 not compared" in message
    assert "3 mm apart" in message
    assert "13x12x8 instead of 14x12x8" in message
    assert set(pd.read_csv(job.out)["case"]) == {"c"}
    assert json.loads(job.out.with_suffix(".json").read_text())["not_compared"] == ["a", "b"]


def test_what_atlaseg_itself_writes_is_not_said(job, capsys):
    """Files that segment and fuse write beside label maps, names of structures, and the job's own results."""
    (job.references / "labels.json").write_text(json.dumps({"background": 0, "left": 4, "right": 25}))
    for name in ("a_atlases.json", "b.json", "c_probabilities.nii.gz"):
        (job.predictions / name).write_bytes(b"not read")
    again = replace(job, out=job.predictions / "scores.csv")
    assert again.run() == 0
    capsys.readouterr()
    assert again.run() == 0
    assert "left out" not in capsys.readouterr().err
    (job.predictions / "z_atlases.json").write_text("{}")  # of a label map that is not there
    assert again.run() == 0
    assert capsys.readouterr().err.count("z_atlases.json") == 1


def test_broken_file_is_listed_and_the_batch_continues(job, capsys):
    (job.predictions / "c.nii.gz").write_bytes(b"no NIfTI")
    assert job.run() == 1
    assert "c.nii.gz" in capsys.readouterr().err
    assert set(pd.read_csv(job.out)["case"]) == {"a", "b"}


def test_every_case_bad_writes_nothing(job):
    for path in job.predictions.iterdir():
        path.write_bytes(b"no NIfTI")
    assert job.run() == 1
    assert not job.out.exists()


def test_surfaces_of_elements_are_said_everywhere(job, capsys):
    assert replace(job, surface="elements").run() == 0
    table = pd.read_csv(job.out)
    assert set(table["surface"]) == {"elements"}
    assert json.loads(job.out.with_suffix(".json").read_text())["surface"] == "elements"
    assert "all by surface elements" in " ".join(capsys.readouterr().out.split())
    maps, labels = (np.roll(make_map(2), 2, axis=0), make_map(2)), LabelTable.from_values([4, 25])
    expected = score_case(*maps, labels, (0.8, 0.8, 2.5), surface="elements")[1]
    assert table["assd_mm"][5] == pytest.approx(expected["assd_mm"])
    assert job.run() == 0
    assert set(pd.read_csv(job.out)["surface"]) == {"voxels"}


def test_value_that_only_a_prediction_has_gets_its_row(job):
    extra = make_map(0)
    extra[0, 0, 0] = 9
    save(job.predictions / "a.nii.gz", extra)
    assert job.run() == 0
    table = pd.read_csv(job.out)
    stray = table[table["value"] == 9]
    assert stray["note"].tolist() == ["reference empty", "both empty", "both empty"]
    assert stray["dice"].tolist() == [0, 1, 1]
    assert np.isfinite(table["hd95_mm"]).all()


def test_names_from_a_plan_beside_the_references(job, capsys):
    plan = Plan("d", ("T1",), LabelTable.from_names({"left": 4, "right": 25}))
    save_plan(plan, job.references.parent / "plan.yaml")
    assert job.run() == 0
    assert set(pd.read_csv(job.out)["structure"]) == {"left", "right"}
    assert "structure names from" in capsys.readouterr().err


def test_unusable_names_beside_the_references_are_reported(job, capsys):
    (job.references / "dataset.json").write_text("{")
    assert job.run() == 0
    assert "not taken from there" in capsys.readouterr().err
    assert set(pd.read_csv(job.out)["structure"]) == {"label 4", "label 25"}


def test_names_that_lack_a_value_are_an_error_of_the_case(job, capsys):
    names = job.out.parent.parent / "names.yaml"
    save_plan(Plan("d", ("T1",), LabelTable.from_names({"left": 4})), names)
    assert replace(job, labels=names).run() == 1
    assert "unknown label values [25]" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong", [{"tolerance_mm": -1.0}, {"tolerance_mm": float("nan")}, {"workers": 0}], ids=str
)
def test_options_are_checked(job, wrong):
    with pytest.raises(OptionError):
        replace(job, **wrong).run()


def test_out_must_be_a_csv_file(job, tmp_path):
    with pytest.raises(OptionError, match=r"\.csv"):
        replace(job, out=tmp_path / "scores.xlsx").run()


def test_names_with_brackets_are_shown_as_they_are(job, capsys):
    plan = Plan("d", ("T1",), LabelTable.from_names({"[bold]left": 4, "right [red]": 25}))
    save_plan(plan, job.references.parent / "plan.yaml")
    assert job.run() == 0
    shown = capsys.readouterr().out
    assert "[bold]left" in shown
    assert "right [red]" in shown


def test_single_case_says_that_there_is_no_interval(job, capsys):
    one = replace(job, predictions=job.predictions / "b.nii.gz", references=job.references / "b.nii.gz")
    assert one.run() == 0
    assert "n too small" in capsys.readouterr().out


@pytest.mark.slow
def test_workers_give_the_same_files(job, tmp_path):
    assert job.run() == 0
    parallel = replace(job, out=tmp_path / "parallel" / "scores.csv", workers=2)
    assert parallel.run() == 0
    assert parallel.out.read_text() == job.out.read_text()
    assert parallel.out.with_suffix(".json").read_text() == job.out.with_suffix(".json").read_text()


@pytest.mark.real
def test_mouse_brains_against_each_other(real_data, tmp_path, capsys):
    """Two mice on one grid, values with gaps: overlap by chance only, and every number finite."""
    labels = real_data / "mouse_brain_fvb" / "labels"
    first, second = sorted(labels.glob("*.nii.gz"))[:2]
    job = Evaluate(first, second, out=tmp_path / "mice.csv")
    assert job.run() == 0
    table = pd.read_csv(job.out)
    assert len(table) == 37
    assert not {22, 30, 37} & set(table["value"])
    assert np.isfinite(table.drop(columns=["case", "structure", "surface", "note"]).to_numpy(float)).all()
    assert replace(job, predictions=second, out=None).run() == 0
    line = next(line for line in reversed(capsys.readouterr().out.splitlines()) if "all structures" in line)
    expected = ["1.000", "[n", "too", "small]", "1.000", "1.000", "0.00", "0.00", "1.000"]
    assert line.split() == ["all", "structures", *expected]
