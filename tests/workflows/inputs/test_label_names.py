"""Names of structures from the files that may name them."""

from __future__ import annotations

import json

import pytest

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.errors import DatasetError, MissingFileError
from atlaseg.pipeline.planning.plan import Plan
from atlaseg.pipeline.planning.plan_file import save_plan
from atlaseg.workflows.inputs.label_names import find_label_names, read_label_names

LABELS = LabelTable.from_names({"left": 4, "right": 25})


def test_names_from_decathlon(tmp_path):
    content = {
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "modality": {"0": "MRI"},
        "training": [{"image": "./imagesTr/x.nii.gz", "label": "./labelsTr/x.nii.gz"}],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    expected = LabelTable.from_names({"Anterior": 1, "Posterior": 2})
    assert read_label_names(tmp_path / "dataset.json") == read_label_names(tmp_path) == expected
    with pytest.raises(MissingFileError, match=r"plan\.yaml"):
        read_label_names(tmp_path / "none.json")


def test_names_from_a_plan_and_from_labels_json(tmp_path):
    save_plan(Plan("d", ("T1",), LABELS), tmp_path / "plan.yaml")
    assert read_label_names(tmp_path / "plan.yaml") == LABELS
    for folder in ("images", "labels"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    with pytest.raises(DatasetError):
        read_label_names(tmp_path / "data")
    (tmp_path / "data" / "labels.json").write_text(json.dumps({"background": 0, "left": 4, "right": 25}))
    (tmp_path / "data" / "labels" / "x.nii.gz").touch()
    assert find_label_names(tmp_path / "data" / "labels") == tmp_path / "data" / "labels.json"
    assert find_label_names(tmp_path / "data" / "labels" / "x.nii.gz") == tmp_path / "data" / "labels.json"
    assert find_label_names(tmp_path / "nowhere" / "deep" / "er") is None
