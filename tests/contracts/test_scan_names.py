"""Data sets, check, segment, evaluate, fuse, masks, atlases and benchmarks see the same scans under the same names."""

from __future__ import annotations

import json
import shutil
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
import pytest

from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.pipeline.datasets import read_dataset
from atlaseg.pipeline.datasets.inspection import inspect_dataset
from atlaseg.pipeline.errors import AtlasegError
from atlaseg.pipeline.io.scan_names import suffix_of
from atlaseg.workflows.benchmarking.folds import show_scans, show_training
from atlaseg.workflows.fuse import Fuse
from atlaseg.workflows.inputs.pairing import pair_files
from atlaseg.workflows.inputs.scan_files import digits_of, find_scans
from atlaseg.workflows.inputs.scan_masks import mask_of

SHAPE = (9, 8, 8)


@dataclass(frozen=True)
class Row:
    """Files of a data set, and the scans that they are.

    Args:
        name: of the row.
        scans: image files of each case.
        labels: suffix of the label maps.
        layout: of the data set.
        volumes: in each image file.
        names_only: whether the names of images alone decide, without the data set.
        linked: whether all files are links.
    """

    name: str
    scans: dict[str, list[str]]
    labels: str = ".nii.gz"
    layout: Literal["plain", "nnU-Net", "Decathlon"] = "plain"
    volumes: int = 1
    names_only: bool = True
    linked: bool = False

    @property
    def channels(self) -> int:
        return self.volumes * len(next(iter(self.scans.values())))

    @property
    def folders(self) -> tuple[str, str]:
        return ("images", "labels") if self.layout == "plain" else ("imagesTr", "labelsTr")


def one(*names: str, suffix: str = ".nii.gz") -> dict[str, list[str]]:
    return {name: [f"{name}{suffix}"] for name in names}


def channels(*names: str, number: int, suffix: str = ".nii.gz") -> dict[str, list[str]]:
    return {name: [f"{name}_{c:04d}{suffix}" for c in range(number)] for name in names}


PATIENTS = ("p_0000", "p_0001", "p_0002", "p_0003")
ROWS = [
    Row("plain names", one("a", "b", "patient.01")),
    Row("without compression", one("a", "b", suffix=".nii"), labels=".nii"),
    Row("another suffix of the labels", one("a", "b", suffix=".nii"), labels=".nii.gz"),
    Row("upper case", one("A", "b", suffix=".NII.GZ"), labels=".NII.GZ"),
    Row("upper case without compression", one("A", "b", suffix=".NII"), labels=".Nii.gz"),
    Row("numbered patients", one(*PATIENTS)),
    Row("numbered patients with two channels in a file", one(*PATIENTS), volumes=2),
    Row("patients numbered by hospital", one("x_0000", "x_0001", "y_0000")),
    Row("years", one("x_2019", "x_2020", "y_2019")),
    Row("two channel files", channels("a", "b", number=2)),
    Row("three channel files in upper case", channels("a", "b", number=3, suffix=".NII.GZ"), labels=".NII.GZ"),
    Row("channel files of numbered patients", channels("BRATS_0001", "BRATS_0002", number=2)),
    Row("one channel, in nnU-Net's names", channels("a", "b", number=1)),
    Row("one channel of numbered patients, in nnU-Net's names", channels("BRATS_0001", "BRATS_0000", number=1)),
    Row("label maps with the digits", one("a_0000", "b_0000"), names_only=False),
    Row("odd names", one("größe 1", "名前", "a@b#c", "100%$x", "it's \"1\"", "a,b", "[x]")),
    Row("one channel of nnU-Net", channels("a", "b", number=1), layout="nnU-Net"),
    Row("two channels of nnU-Net", channels("a", "b", number=2), layout="nnU-Net"),
    Row("upper case in nnU-Net", channels("a", number=2, suffix=".NII.GZ"), labels=".NII.GZ", layout="nnU-Net"),
    Row("Decathlon", one("a", "b"), layout="Decathlon"),
    Row("numbered patients of the Decathlon", one(*PATIENTS), layout="Decathlon"),
    Row("numbered patients of the Decathlon, 4-D", one(*PATIENTS), layout="Decathlon", volumes=2),
    Row("channel files in the Decathlon", channels("a", "b", number=2), layout="Decathlon"),
    Row("nnU-Net's names in the Decathlon", channels("a", "b", number=1), layout="Decathlon"),
    *(Row(f"links, {layout}", one("a", "b") if layout != "nnU-Net" else channels("a", "b", number=1), layout=layout,
          linked=True) for layout in ("plain", "nnU-Net", "Decathlon")),
]  # fmt: skip


def write(path: Path, *, volumes: int = 1, seed: int = 0, label: bool = False) -> None:
    rng = np.random.default_rng(seed)
    voxels = rng.normal(100, 10, (*SHAPE, volumes)[: 3 + (volumes > 1)]).astype(np.float32)
    if label:
        voxels = np.zeros(SHAPE, np.uint8)
        voxels[2:5, 2:6, 2:6] = 1
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = path.with_name(path.name[: -len(suffix_of(path))] + suffix_of(path).lower())
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), plain)  # nibabel has a mind of its own about upper case
    plain.rename(path)


@pytest.fixture(params=ROWS, ids=lambda row: row.name)
def row(request: pytest.FixtureRequest) -> Row:
    made: Row = request.param
    return made


@pytest.fixture
def folder(row: Row, tmp_path: Path) -> Path:
    """The data set of a row."""
    folder = tmp_path / "data"
    images, labels = (folder / name for name in row.folders)
    for number, (name, files) in enumerate(row.scans.items()):
        for channel, file in enumerate(files):
            write(images / file, volumes=row.volumes, seed=10 * number + channel)
        write(labels / f"{name}{row.labels}", label=True)
    named = {str(i): f"T{i}" for i in range(row.channels)}
    entries = [
        {
            "image": [f"./imagesTr/{file}" for file in files] if len(files) > 1 else f"./imagesTr/{files[0]}",
            "label": f"./labelsTr/{name}{row.labels}",
        }
        for name, files in row.scans.items()
    ]
    if row.layout == "nnU-Net":
        content = {"channel_names": named, "labels": {"background": 0, "a": 1}, "file_ending": row.labels}
    else:
        content = {"modality": named, "labels": {"0": "background", "1": "a"}, "training": entries}
    if row.layout != "plain":
        (folder / "dataset.json").write_text(json.dumps(content | {"numTraining": len(row.scans)}))
    if row.linked:
        store = tmp_path / "store"
        for part in row.folders:
            (folder / part).rename(store := tmp_path / f"store-{part}")
            (folder / part).mkdir()
            for file in store.iterdir():
                (folder / part / file.name).symlink_to(file)
    return folder


def test_check_and_data_set(row: Row, folder: Path) -> None:
    found = inspect_dataset(folder)
    assert not found.errors
    assert {case.name for case in found.cases} == row.scans.keys()
    assert all(case.labelled and case.channels == row.channels for case in found.cases)
    cases = read_dataset(folder).cases
    assert {case.name: [path.name for path in case.images] for case in cases} == row.scans
    assert {atlas.name for atlas in AtlasSet.read(folder).atlases} == row.scans.keys()


def test_segment(row: Row, folder: Path) -> None:
    images = folder / row.folders[0]
    for digits in (digits_of((folder,)), *([None] if row.names_only else [])):
        found = find_scans((images,), row.channels, digits)
        assert {name: [path.name for path in files] for name, files in found.files.items()} == row.scans
        assert not found.problems
        assert not found.notes
        for name, files in row.scans.items():
            for file in files:  # a file stands for its scan, and is called as in its folder
                assert find_scans((images / file,), row.channels, digits).files == {
                    name: tuple(images / part for part in files)
                }


def test_evaluate_and_fuse(row: Row, folder: Path, tmp_path: Path) -> None:
    labels = folder / row.folders[1]
    results = tmp_path / "results"
    for name in find_scans((folder / row.folders[0],), row.channels, digits_of((folder,))).files:
        own = labels / f"{name}{row.labels}"
        assert Fuse((own, own), results / f"{name}.nii.gz").run() == 0
    pairing = pair_files(results, labels)
    assert {pair.case: pair.prediction and pair.prediction.name for pair in pairing.pairs} == {
        name: f"{name}.nii.gz" for name in row.scans
    }
    assert not pairing.problems
    assert not pairing.notes


@pytest.mark.thorough
def test_masks(row: Row, folder: Path) -> None:
    images, masks = (folder / name for name in row.folders)
    for name, files in row.scans.items():
        mask = mask_of(masks, name, images / files[0])
        assert mask is not None
        assert mask.sum() == 3 * 4 * 4


def test_benchmark(row: Row, folder: Path, tmp_path: Path) -> None:
    dataset = read_dataset(folder)
    names = [case.name for case in dataset.cases]
    shown = read_dataset(show_training(tmp_path / "training", dataset, names, folder / row.folders[1]))
    assert [case.name for case in shown.cases] == names
    scans = show_scans(tmp_path / "test", dataset.cases, folder / row.folders[1])
    assert scans.files.keys() == row.scans.keys()
    assert all(file.is_file() for files in scans.files.values() for file in files)
    assert scans.masks is not None
    assert len(list(scans.masks.iterdir())) == len(names)


def test_accents_in_one_piece_or_two(tmp_path: Path) -> None:
    name = "größe"
    write(tmp_path / "images" / f"{unicodedata.normalize('NFD', name)}.nii.gz")
    write(tmp_path / "labels" / f"{unicodedata.normalize('NFC', name)}.nii.gz", label=True)
    (case,) = read_dataset(tmp_path).labelled
    assert case.name == unicodedata.normalize("NFC", name)
    assert find_scans((tmp_path / "images",), 1).files.keys() == {case.name}
    assert len(pair_files(tmp_path / "images", tmp_path / "labels").pairs) == 1


def _adding(name: str) -> Callable[[Path], None]:
    def add(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        shutil.copyfile(folder / "a.nii.gz", folder / name)

    return add


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("a.NII.GZ", "case name a is also that of"),
        ("A.nii.gz", "upper and lower case count as one"),
        ("b.mha", "expected NIfTI"),
        ("b.nrrd", "expected NIfTI"),
        ("b.mgz", "expected NIfTI"),
        ("b.nii.bz2", "expected NIfTI"),
        ("b\\c.nii.gz", "not usable as a file name"),
        ("b\nc.nii.gz", "characters that cannot be written"),
        ("b\x1b[31m.nii.gz", "characters that cannot be written"),
        (f"{'b' * 240}.nii.gz", "too long"),
    ],
)
def test_what_cannot_be_taken_is_refused_or_named(tmp_path: Path, extra: str, message: str) -> None:
    write(tmp_path / "images/a.nii.gz")
    write(tmp_path / "labels/a.nii.gz", label=True)
    for part in ("images", "labels"):
        _adding(extra)(tmp_path / part)
    with pytest.raises(AtlasegError, match=message):
        read_dataset(tmp_path)
    problems = [problem.message for problem in inspect_dataset(tmp_path).errors]
    assert any(message in problem for problem in problems)
    for look in (
        lambda: find_scans((tmp_path / "images",), 1).problems,
        lambda: pair_files(tmp_path / "images", tmp_path / "labels").problems,
    ):
        try:
            found = list(look().values())
        except AtlasegError as error:
            found = [str(error)]
        assert any(message in problem for problem in found)


def test_what_lies_beside_is_named(tmp_path: Path) -> None:
    write(tmp_path / "images/a.nii.gz")
    write(tmp_path / "labels/a.nii.gz", label=True)
    for part in ("images", "labels"):
        for extra in ("site 2/b.nii.gz", "readme.txt", ".hidden.nii.gz", "._a.nii.gz"):
            _adding(extra)(tmp_path / part)
    lines = [
        f"{tmp_path / 'images'}: left out, not NIfTI: readme.txt",
        f"{tmp_path / 'images'}: left out, scans in folders below it: site 2/; name these folders themselves",
    ]
    assert list(find_scans((tmp_path / "images",), 1).notes) == lines
    in_labels = [line.replace("images", "labels") for line in lines]
    assert list(pair_files(tmp_path / "images", tmp_path / "labels").notes) == [*lines, *in_labels]
    found = inspect_dataset(tmp_path)
    assert not found.errors
    assert {(p.file.name, p.message) for p in found.warnings if p.kind == "left-out"} == {
        (part, "scans in folders below it are not used: site 2") for part in ("images", "labels")
    }


@pytest.mark.parametrize(
    ("files", "channels", "scans", "problems"),
    [
        (["a_0000", "b_0000", "b_0001"], 2, {"b"}, {"a_0000": "a_0001.nii.gz: this channel of scan a is missing"}),
        (["a_0001"], 2, set(), {"a_0001": "a_0000.nii.gz: this channel of scan a is missing"}),
        (["a_0000", "a_0001", "a_0002"], 2, set(), {"a_0000": "these are not the 2 channels of scan a"}),
        (["a", "a_0000"], 1, {"a"}, {"a_0000": "case name a is also that of"}),
    ],
)  # fmt: skip
def test_channels_without_the_others(
    tmp_path: Path, files: list[str], channels: int, scans: set[str], problems: dict[str, str]
) -> None:
    for name in files:
        write(tmp_path / f"{name}.nii.gz")
    found = find_scans((tmp_path,), channels)
    assert found.files.keys() == scans
    assert found.problems.keys() == {f"{name}.nii.gz" for name in problems}
    for name, message in problems.items():
        assert message in found.problems[f"{name}.nii.gz"]
