"""What a run keeps of its data set."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.datasets import list_dataset
from atlaseg.pipeline.datasets.dataset_identity import (
    difference,
    identity,
    plan_difference,
)
from atlaseg.pipeline.datasets.listing import raise_at_once
from atlaseg.pipeline.planning.plan_file import load_plan


def known(folder: Path) -> Any:
    """As it comes back from a file."""
    return json.loads(json.dumps(identity(list_dataset(folder, raise_at_once))))


def test_a_copy_is_the_same_data_set_and_says_what_has_changed(build: Any, tmp_path: Path) -> None:
    first, second = build.decathlon(3), tmp_path / "copy"
    shutil.copytree(first, second)
    before = known(first)
    assert difference(before, known(second)) is None
    assert str(first) not in json.dumps(before)
    shutil.copy(second / "labelsTr" / "a.nii.gz", second / "x.nii.gz")
    (second / "labelsTr" / "a.nii.gz").write_bytes(gzip.compress(b"other"))
    assert difference(before, known(second)) == "cases with other files: a"
    content = json.loads((second / "dataset.json").read_text())
    content["training"].pop()
    (second / "dataset.json").write_text(json.dumps(content))
    assert difference(before, known(second)) == "missing cases: c; cases with other files: a"
    content["labels"]["4"] = "tumour"
    (second / "dataset.json").write_text(json.dumps(content))
    told = "labels 0 background, 1 liver, 4 tumour instead of 0 background, 1 liver, 4 lesion"
    assert difference(before, known(second)) == told
    content["modality"] = {"0": "CT"}
    (second / "dataset.json").write_text(json.dumps(content))
    assert difference(before, known(second)) == "channels CT instead of T1"
    for damaged in (None, {}, {"cases": 3}, "/some/where"):
        assert difference(damaged, before) == "the run does not say which"


@pytest.mark.thorough
def test_a_plan_of_another_data_set(tiny_run: Path) -> None:
    plan = load_plan(tiny_run / "configs" / "plan.yaml")
    assert plan_difference(plan, plan.labels, plan.channels) is None
    other = LabelTable((0, 1, 3), plan.labels.names)
    assert plan_difference(plan, other, plan.channels) == (
        "labels 0 background, 1 ellipsoid, 2 box in the plan, 0 background, 1 ellipsoid, 3 box in the data set"
    )
    assert "in the plan, CT in the data set" in str(plan_difference(plan, plan.labels, ("CT",)))
