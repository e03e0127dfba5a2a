"""Data sets broken in each layout: `check`, `plan`, `train` and `segment` say what is wrong in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.bad_inputs.conftest import Good, Judge

pytestmark = pytest.mark.slow

#: Texts of JSON files that say nothing of use.
JSON = {
    "empty": "",
    "half": '{"labels": {"a"',
    "binary": "\x00\x01\x02",
    "deep": "[" * 100_000,
    "deep-objects": '{"a":' * 50_000,
    "list": "[1, 2]",
    "text": '"text"',
    "number": "3",
    "null": "null",
    "long-number": "9" * 5000,
    "nan": "NaN",
}


def decathlon(good: Good, folder: Path) -> Path:
    """The good data set as the Decathlon has it."""
    for name in ("images", "labels"):
        shutil.copytree(good.data / name, folder / f"{name}Tr")
    names = sorted(path.name for path in (folder / "imagesTr").iterdir())
    content = {
        "name": "made",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "a", "2": "b"},
        "numTraining": len(names),
        "training": [{"image": f"./imagesTr/{n}", "label": f"./labelsTr/{n}"} for n in names],
        "test": [],
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def nnunet(good: Good, folder: Path) -> Path:
    """The good data set as nnU-Net has it."""
    (folder / "imagesTr").mkdir(parents=True)
    shutil.copytree(good.data / "labels", folder / "labelsTr")
    for path in (good.data / "images").iterdir():
        shutil.copy2(path, folder / "imagesTr" / path.name.replace(".nii", "_0000.nii"))
    content = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "a": 1, "b": 2},
        "numTraining": 6,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def plain(good: Good, folder: Path) -> Path:
    """The good data set in plain folders, with names of its structures."""
    shutil.copytree(good.data, folder, dirs_exist_ok=True)
    (folder / "labels.json").write_text(json.dumps({"background": 0, "a": 1, "b": 2}))
    return folder


LAYOUTS: dict[str, Callable[[Good, Path], Path]] = {"decathlon": decathlon, "nnunet": nnunet, "plain": plain}
FILES = [
    ("decathlon", "dataset.json"),
    ("nnunet", "dataset.json"),
    ("plain", "labels.json"),
    ("plain", "channels.json"),
]

#: Changes of the entries of dataset.json or labels.json.
ENTRIES: dict[str, list[dict[str, Any]]] = {
    "decathlon": [
        {"training": 3},
        {"training": {}},
        {"training": []},
        {"training": ["a", "b"]},
        {"training": [{}]},
        {"training": [{"image": 3, "label": 4}]},
        {"training": [{"image": "./imagesTr/none.nii.gz", "label": "./labelsTr/none.nii.gz"}]},
        {"training": [{"image": "../../etc/passwd", "label": "./labelsTr/c0.nii.gz"}]},
        {"training": [{"image": "/etc/passwd", "label": "/etc/passwd"}]},
        {"training": [{"image": "a\0b", "label": "c\0d"}]},
        {"training": [{"image": "a" * 5000, "label": "b"}]},
        {"training": [{"image": "./imagesTr", "label": "./labelsTr"}]},
        {"labels": []},
        {"labels": {"0": "background"}},
        {"labels": {"x": "a"}},
        {"labels": {"0": "background", "1": 3}},
        {"labels": {"0": "background", "1": "a", "2": "a"}},
        {"labels": {"0": "background", str(10**30): "a"}},
        {"labels": None},
        {"modality": 3},
        {"modality": {}},
        {"modality": {"0": None}},
        {"modality": {"0": "MRI", "1": "CT"}},
    ],
    "nnunet": [
        {"channel_names": 3},
        {"channel_names": {}},
        {"channel_names": {"0": ["x"]}},
        {"channel_names": {"x": "MRI"}},
        {"channel_names": {"0": "MRI", "1": "CT"}},
        {"file_ending": ".png"},
        {"file_ending": 3},
        {"labels": 3},
        {"labels": {"background": 0, "a": "x"}},
        {"labels": {"background": 0, "a": 1.5}},
        {"labels": {"background": 0, "a": [1, 2]}},
        {"labels": {"background": 0, "a": 1, "b": 1}},
        {"labels": {"background": 0, "a": -1, "b": 2}},
        {"labels": {"background": 0, "a": 10**30, "b": 2}},
        {"labels": {"background": 0, "ignore": None}},
        {"dataset": {"c0": 3}},
        {"dataset": {"c0": {"images": ["none.nii.gz"], "label": "none.nii.gz"}}},
    ],
    "plain": [
        {"a": "x"},
        {"a": None},
        {"a": True},
        {"a": 1.5},
        {"a": [1]},
        {"a": -1},
        {"a": 10**30},
        {"b": 1},
    ],
}


@pytest.fixture(params=["check", "train"])
def command(request: pytest.FixtureRequest, judge: Judge) -> Callable[[Path], None]:
    def run(data: Path) -> None:
        more = ("--out", judge.out, "--method", "majority") if request.param == "train" else ()
        judge.refused(request.param, data, *more, code=2)

    return run


@pytest.mark.parametrize("text", JSON)
@pytest.mark.parametrize(("layout", "file"), FILES)
def test_json(
    layout: str, file: str, text: str, good: Good, judge: Judge, command: Callable[[Path], None]
) -> None:
    data = LAYOUTS[layout](good, judge.folder / "data")
    (data / file).write_text(JSON[text])
    command(data)


@pytest.mark.parametrize(
    ("layout", "entries"), [(layout, entries) for layout, many in ENTRIES.items() for entries in many]
)
def test_entries(
    layout: str, entries: dict[str, Any], good: Good, judge: Judge, command: Callable[[Path], None]
) -> None:
    data = LAYOUTS[layout](good, judge.folder / "data")
    file = data / ("labels.json" if layout == "plain" else "dataset.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))
    command(data)


def _only(data: Path, count: int) -> None:
    for path in sorted((data / "images").iterdir())[count:]:
        path.unlink()
        (data / "labels" / path.name).unlink()


def _clear(data: Path) -> None:
    _only(data, 0)


FOLDERS: dict[str, Callable[[Path], object]] = {
    "no-images": lambda data: shutil.rmtree(data / "images"),
    "no-labels": lambda data: shutil.rmtree(data / "labels"),
    "no-cases": _clear,
    "images-is-a-file": lambda data: (shutil.rmtree(data / "images"), (data / "images").write_text("x")),
    "labels-is-a-file": lambda data: (shutil.rmtree(data / "labels"), (data / "labels").write_text("x")),
    "a-folder-for-an-image": lambda data: (
        (data / "images" / "c0.nii.gz").unlink(),
        (data / "images" / "c0.nii.gz").mkdir(),
    ),
    "a-folder-for-a-label": lambda data: (
        (data / "labels" / "c0.nii.gz").unlink(),
        (data / "labels" / "c0.nii.gz").mkdir(),
    ),
    "broken-link": lambda data: (
        (data / "images" / "c0.nii.gz").unlink(),
        (data / "images" / "c0.nii.gz").symlink_to("nowhere.nii.gz"),
    ),
    "link-to-itself": lambda data: (
        (data / "images" / "c0.nii.gz").unlink(),
        (data / "images" / "c0.nii.gz").symlink_to("c0.nii.gz"),
    ),
    "escape-in-a-name": lambda data: (data / "images" / "c0.nii.gz").rename(
        data / "images" / "c\x1b[2J.nii.gz"
    ),
    "newline-in-a-name": lambda data: (data / "images" / "c0.nii.gz").rename(
        data / "images" / "c\n\n\n0.nii.gz"
    ),
}


@pytest.mark.parametrize("broken", FOLDERS)
def test_folders(broken: str, good: Good, judge: Judge) -> None:
    data = good.copy("data", judge.folder)
    FOLDERS[broken](data)
    # a case without a label map is fit for training, and said by check
    tolerated = broken in ("newline-in-a-name", "escape-in-a-name", "a-folder-for-a-label")
    judge.refused("check", data, code=2)
    if not tolerated:
        judge.refused("train", data, "--out", judge.out, "--method", "majority", "--folds", "1", code=2)


@pytest.mark.parametrize("command", ["plan", "train", "build-atlas", "benchmark"])
def test_one_case_is_too_few(command: str, good: Good, judge: Judge) -> None:
    data = good.copy("data", judge.folder)
    _only(data, 1)
    more = {"benchmark": ("--methods", "unet")}.get(command, ())
    if command != "plan":
        judge.refused(command, data, "--out", judge.out, *more, code=2)


@pytest.mark.parametrize("command", ["check", "plan", "train", "build-atlas", "benchmark"])
@pytest.mark.parametrize("what", ["nowhere", "file", "empty", "\x1b[2J", "a\nb", "x" * 300, "", "a\0b"])
def test_what_is_no_data_set(command: str, what: str, good: Good, judge: Judge) -> None:
    if what == "empty":
        (judge.folder / what).mkdir()
    if what == "file":
        (judge.folder / what).write_text("text")
    more = {"check": (), "benchmark": ("--out", judge.out, "--methods", "unet")}
    judge.refused(command, what, *more.get(command, ("--out", judge.out)), code=2)
