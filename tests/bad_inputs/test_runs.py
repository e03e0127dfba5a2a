"""Runs broken in each file: `segment` and `train` open none of it, and run none of it."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

if TYPE_CHECKING:
    from tests.bad_inputs.conftest import Good, Judge

pytestmark = pytest.mark.slow


class Touch:
    """Makes a file where it is unpickled carelessly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


TEXTS = {
    "empty": "",
    "binary": "\x00\x01\x02\xff",
    "deep": "[" * 1500,
    "list": "[1, 2]\n",
    "text": "'text'\n",
    "number": "3\n",
    "null": "null\n",
    "object": "{}\n",
    "nested": '{"labels": {"a": {"b": {}}}, "training": {"a": 3}, "validation": "x", "dataset": 3}\n',
    "half": '{"a": [1, {"b"',
}

NETWORK = ("configs/plan.yaml", "models/model.pt")
ATLAS = ("configs/atlases.json", "atlases/atlases.json")
CLASSICAL = ("configs/classical.json", "models/classical.npz")


def _files(run: Path, names: tuple[str, ...]) -> list[Path]:
    found = [run / name for name in names]
    assert all(path.is_file() for path in found), sorted(str(p.relative_to(run)) for p in run.rglob("*"))
    return found


@pytest.mark.parametrize("text", [*TEXTS, "missing", "folder"])
@pytest.mark.parametrize(
    ("kind", "place"), [(kind, n) for kind in ("network", "atlas", "classical") for n in (0, 1)]
)
def test_segment(kind: str, place: int, text: str, good: Good, judge: Judge) -> None:
    run = good.copy(kind, judge.folder)
    file = _files(run, {"network": NETWORK, "atlas": ATLAS, "classical": CLASSICAL}[kind])[place]
    file.unlink()
    if text == "folder":
        file.mkdir()
    elif text != "missing":
        file.write_bytes(TEXTS[text].encode("latin-1"))
    judge.refused("segment", run, good.scan, "--out", judge.out, code=2)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
@pytest.mark.parametrize(("kind", "name"), [("network", NETWORK[1]), ("classical", CLASSICAL[1])])
def test_truncated_weights(kind: str, name: str, share: float, good: Good, judge: Judge) -> None:
    run = good.copy(kind, judge.folder)
    data = (run / name).read_bytes()
    (run / name).write_bytes(data[: int(share * len(data))])
    judge.refused("segment", run, good.scan, "--out", judge.out, code=2)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_weights_that_would_run_code(protocol: int, good: Good, judge: Judge) -> None:
    run = good.copy("network", judge.folder)
    torch.save({"a": Touch(judge.folder / "ran")}, run / "models" / "model.pt", pickle_protocol=protocol)
    judge.refused("segment", run, good.scan, "--out", judge.out, code=2)
    (run / "models" / "model.pt").write_bytes(pickle.dumps(Touch(judge.folder / "ran"), protocol))
    judge.refused("segment", run, good.scan, "--out", judge.out, code=2)
    assert not (judge.folder / "ran").exists()


def test_arrays_that_would_run_code(good: Good, judge: Judge) -> None:
    run = good.copy("classical", judge.folder)
    np.savez(run / CLASSICAL[1], a=np.array([Touch(judge.folder / "ran")], dtype=object))
    judge.refused("segment", run, good.scan, "--out", judge.out, code=2, says="could run code")
    assert not (judge.folder / "ran").exists()


WEIGHTS: dict[str, Any] = {
    "list": [1, 2],
    "number": 3,
    "none": {},
    "numbers": {"a": 3},
    "other-names": {"a": torch.zeros(3)},
    "keys": {3: torch.zeros(3)},
    "tensor": torch.zeros(3),
}


@pytest.mark.parametrize("weights", WEIGHTS)
def test_other_weights(weights: str, good: Good, judge: Judge) -> None:
    run = good.copy("network", judge.folder)
    torch.save(WEIGHTS[weights], run / "models" / "model.pt")
    judge.refused("segment", run, good.scan, "--out", judge.out, code=2, says="model.pt")


def test_weights_that_are_not_finite(good: Good, judge: Judge) -> None:
    run = good.copy("network", judge.folder)
    weights = torch.load(run / "models" / "model.pt", weights_only=True)
    torch.save(
        {k: v * float("nan") if v.is_floating_point() else v for k, v in weights.items()},
        run / "models/model.pt",
    )
    judge.refused("segment", run, good.scan, "--out", judge.out)


PLANS = (
    *(
        "dataset: $import os",
        "orientation: RRR",
        "spacing: [0, 0, 0]",
        "spacing: .nan",
        "channels: []",
        "labels: {}",
    ),
    *("labels: {a: -1}", "labels: {background: 0, a: 1000000000000000000000000}", "patch_size: [1, 1, 1]"),
    *(
        "network: {name: resnet}",
        "network: {_target_: os.system}",
        "network: 3",
        "training: {seed: -1}",
        "memory_gb: x",
    ),
    *("normalisation: {kind: clip-scale, lower: 3, upper: 3}", "inference: {overlap: 1.0}", "colour: red"),
    *(
        "foreground_threshold: 2001-02-03",
        "reasons: [1]",
        "reasons: {a: '@b'}",
        "channels: [a, b]",
        "a: &x 1\nb: *x",
    ),
)


@pytest.mark.parametrize("line", PLANS)
def test_plan(line: str, good: Good, judge: Judge) -> None:
    run = good.copy("network", judge.folder)
    plan = run / "configs" / "plan.yaml"
    key = line.partition(":")[0]
    kept, skipping = [], False
    for old in plan.read_text().splitlines():
        if not old.startswith((" ", "-")):
            skipping = old.startswith(f"{key}:")
        if not skipping:
            kept.append(old)
    plan.write_text("\n".join([*kept, line]) + "\n")
    judge.refused("segment", run, good.scan, "--out", judge.out)
    shutil.copy2(plan, judge.folder / "given.yaml")
    shutil.rmtree(run)
    if line != "channels: [a, b]":
        judge.refused("train", good.data, "--out", judge.out, "--plan", "given.yaml", code=2)


RESUMED = ("configs/request.json", "configs/cases.json", "configs/plan.yaml", "models/checkpoint.pt")


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", RESUMED)
def test_going_on(name: str, text: str, good: Good, judge: Judge) -> None:
    run = good.copy("network", judge.folder)
    request = json.loads((run / "configs" / "request.json").read_text())
    if not (run / name).is_file():
        pytest.skip(f"a finished run has no {name}")
    (run / name).write_bytes(TEXTS[text].encode("latin-1"))
    words = [
        "train",
        request["dataset"],
        "--out",
        run,
        "--epochs",
        request["epochs"],
        "--depth",
        request["depth"],
    ]
    overrides = list(request["override"])
    words = [w for w in words if w is not None]
    judge.refused(*words, "--override", *overrides, "--tracking", "none", code=2)


@pytest.mark.parametrize("text", [*TEXTS, "missing"])
@pytest.mark.parametrize("name", ["configs/request.json", "configs/cases.json"])
def test_validation_cases(name: str, text: str, good: Good, judge: Judge) -> None:
    run = good.copy("network", judge.folder)
    (run / name).unlink()
    if text != "missing":
        (run / name).write_bytes(TEXTS[text].encode("latin-1"))
    judge.refused("segment", run, "--validation", "--out", judge.out)
