"""Plans as YAML: round trip, comments, overrides, and everything that must be refused."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.errors import MissingFileError, PlanError, UnsafeModelError
from atlaseg.pipeline.planning.plan import InferencePlan, Plan, TrainingPlan
from atlaseg.pipeline.planning.plan_file import (
    load_plan,
    override_plan,
    plan_from_dict,
    plan_to_dict,
    plan_to_yaml,
    save_plan,
)

PLAN = Plan(
    "made",
    ("T1", "FLAIR"),
    LabelTable.from_names({"liver: left lobe": 1, "training": 4, "off": 255}),
    training=TrainingPlan(epochs=None, minutes=12.5),
    reasons={
        "spacing": "all 5 scans have it",
        "training": "defaults: all of them",
        "training.minutes": "asked for, " + "and for good reasons " * 12,
        "network.strides": "2x2x2: 'comparable' voxels # and so on",
    },
)


def content(**changes: Any) -> dict[str, Any]:
    return plan_to_dict(PLAN) | changes


def test_round_trip(tmp_path: Path) -> None:
    save_plan(PLAN, tmp_path / "plan.yaml")
    assert load_plan(tmp_path / "plan.yaml") == PLAN


words = st.text(
    st.characters(exclude_characters="$@%", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60
).filter(lambda t: not t.startswith("_"))


@pytest.mark.thorough
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(words, min_size=1, max_size=4, unique=True),
    reason=words,
    key=st.sampled_from(["spacing", "network", "network.name", "training.minutes", "labels"]),
)
def test_any_names_and_reasons_survive(tmp_path: Path, names: list[str], reason: str, key: str) -> None:
    labels = LabelTable.from_names(
        {n: i for i, n in enumerate(names, start=1) if n != "background"} or {"a": 1}
    )
    plan = replace(PLAN, labels=labels, reasons={key: reason}, dataset=names[0])
    save_plan(plan, tmp_path / "plan.yaml")
    assert load_plan(tmp_path / "plan.yaml") == plan


def test_reasons_stand_above_their_values() -> None:
    lines = plan_to_yaml(PLAN).splitlines()
    assert lines[lines.index("spacing: [1.0, 1.0, 1.0]") - 1] == "# all 5 scans have it"
    assert lines[lines.index("training:") - 1] == "# defaults: all of them"
    before = lines[: lines.index("  minutes: 12.5")]
    assert before[-1].startswith("  # ")
    assert before[-2].startswith("  # ")  # a long reason is wrapped
    # a structure called like a section has no comment
    assert not lines[lines.index("  training: 4") - 1].lstrip().startswith("#")
    assert all(len(line) <= 110 for line in lines)


def test_lists_are_on_one_line() -> None:
    assert "  strides: [[2, 2, 2], [2, 2, 2], [2, 2, 2]]" in plan_to_yaml(PLAN).splitlines()


MALICIOUS = [
    content(dataset="$import os"),
    content(dataset="  $import os"),
    content(orientation="@network"),
    content(dataset="%file.yaml#key"),
    content(channels=["T1", "$print(1)"]),
    content(labels={"$__import__('os')": 1}),
    content(labels={"_target_": 1}),
    content(reasons={"_target_": "os.system"}),
    content(reasons={"spacing": "see @somewhere"}),
    content(network={"_target_": "subprocess.run", "args": ["true"]}),
    content(training={"_requires_": "$import os"}),
    content(_disabled_=True),
]


@pytest.mark.parametrize("malicious", MALICIOUS, ids=range(len(MALICIOUS)))
def test_expressions_are_refused(malicious: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(malicious))
    with pytest.raises(UnsafeModelError, match=re.escape(f"{path}: plan: ")) as raised:
        load_plan(path)
    assert "\n" not in str(raised.value)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['true']",
        "a: &a [1]\nb: *a",
        "a: &a [*a]",
        "a: [1",
        "[" * 1500,
        "\x00",
        "- 1\n- 2",
        "",
    ],
    ids=["python tag", "alias", "holds itself", "unclosed", "deep", "binary", "list", "empty"],
)
def test_yaml_that_is_no_plan_is_one_clear_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(PlanError) as raised:
        load_plan(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 1}, "colour: no such entry; known are dataset"),
        ({"network": {"layers": 3}}, "network.layers: no such entry; known are name"),
        (
            {"network": {"depth": "deep"}},
            "network.depth: expected one of context, standard, precision, found 'deep'",
        ),
        ({"network": {"dropout": "a"}}, "network.dropout: expected a number, found 'a'"),
        ({"network": {"dropout": float("inf")}}, "network.dropout: expected a finite number, found inf"),
        ({"training": {"batch_size": 2.5}}, "training.batch_size: expected a whole number, found 2.5"),
        ({"training": {"batch_size": True}}, "training.batch_size: expected a whole number, found True"),
        ({"patch_size": [1, 2]}, "patch_size: expected a list of 3 x a whole number, found [1, 2]"),
        ({"patch_size": [8, 8, "x"]}, "patch_size[2]: expected a whole number, found 'x'"),
        ({"network": 3}, "network: expected a mapping, found 3"),
        ({"labels": {"a": "1"}}, "labels: expected a mapping of structure names to whole numbers"),
        ({"labels": {"a": 1, "b": 1}}, "labels: label values [0, 1, 1] must be distinct and rising"),
        ({"inference": {"tta": 1}}, "inference.tta: expected true or false, found 1"),
    ],
)
def test_schema_errors_name_the_entry(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(content(**changes)))
    with pytest.raises(PlanError) as raised:
        load_plan(path)
    assert str(raised.value).startswith(f"{path}: {message}")
    assert "\n" not in str(raised.value)


def test_missing_entries_and_files_say_so(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="dataset: missing"):
        plan_from_dict({"channels": ["T1"], "labels": {"a": 1}})
    with pytest.raises(MissingFileError, match="no such plan; make one with"):
        load_plan(tmp_path / "none.yaml")


def test_overrides() -> None:
    plan = override_plan(
        PLAN,
        [
            "training.learning_rate=5e-4",
            "patch_size=[32, 32, 16]",
            "inference.mirror_axes=[0]",
            "memory_gb=4",
        ],
    )
    assert plan.training.learning_rate == 5e-4
    assert plan.patch_size == (32, 32, 16)
    assert plan.inference == InferencePlan(mirror_axes=(0,))
    assert plan.memory_gb == 4.0
    assert plan.reasons["training.learning_rate"] == "set by the user instead of 0.001"
    switched = override_plan(PLAN, ["training.epochs=5", "training.minutes=null"])
    assert (switched.training.epochs, switched.training.minutes) == (5, None)
    written = override_plan(
        PLAN,
        [
            "inference.tta=yes",
            "training.gradient_clip=none",
            "network.channels=8,16",
            "network.strides=[[2,2,1]]",
            "labels.training=9",
            'channels=["T1", FLAIR]',
        ],
    )
    assert written.inference.tta
    assert written.training.gradient_clip is None
    assert (written.network.channels, written.network.strides) == ((8, 16), ((2, 2, 1),))
    assert written.labels.values == (0, 1, 9, 255)
    assert written.channels == ("T1", "FLAIR")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.learning_rate", "is not an option of a plan .*write it as name=value"),
        ("training.rate=3", "override training.rate: no such entry"),
        ("network.name.first=3", "no such entry"),
        ("patch_size=[1", "override patch_size: expected a list of 3 x a whole number"),
        ("training.batch_size=two", "expected a whole number, found 'two'"),
        ("training.epochs=5", "either epochs or minutes"),
        ("reasons=3", "override reasons: no such entry"),
        ("reasons.spacing=mine", "override reasons.spacing: no such entry"),
        ("network={}", "set its entries one by one, such as network.NAME=VALUE"),
        ("labels=3", "set its entries"),
        ("labels.spleen=3", "no such entry"),
        ("training.learning_rate=nan", "expected a number, found 'nan'"),
        ("training.learning_rate=1e999", "expected a finite number"),
        ("inference.tta=maybe", "expected true or false, found 'maybe'"),
    ],
)
def test_wrong_overrides_are_refused(override: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        override_plan(PLAN, [override])
    with pytest.raises(UnsafeModelError):
        override_plan(PLAN, ["dataset=$import os"])
