"""A name planted in every free header field and every folder of the input is found in no output of any command."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from atlaseg.workflows.cli import main

MARKER = "DoeJohn"
#: Fields that say where voxels lie, how they are stored and how large the file is.
STORAGE = {
    "sizeof_hdr",
    "magic",
    "eol_check",
    "dim",
    "datatype",
    "bitpix",
    "vox_offset",
    "scl_slope",
    "scl_inter",
}
GEOMETRY = {"pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"}
GEOMETRY |= {"qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"}
TINY = (
    "network.channels=[4,8]",
    "network.strides=[[2,2,2]]",
    "patch_size=[16,16,16]",
    "training.iterations_per_epoch=2",
    "training.batch_size=2",
    "training.precision=fp32",
    "training.validate_every=1",
)


def plant(path: Path) -> None:
    """Write the name into all text fields of a NIfTI file's header, and into an extension."""
    image = nib.load(path)
    header, voxels = image.header, np.asarray(image.dataobj)
    for name in header.template_dtype.names:
        if name not in STORAGE | GEOMETRY and header.template_dtype[name].kind == "S":
            size = header.template_dtype[name].itemsize
            header[name] = MARKER.encode()[:size] if size >= len(MARKER) else b"D"[:size]
    header.extensions.append(nib.nifti1.Nifti1Extension("comment", f"{MARKER} 1970-01-01".encode()))
    nib.save(nib.Nifti1Image(voxels, image.affine, header), path)
    assert MARKER.encode() in gzip.decompress(path.read_bytes())


@pytest.fixture(scope="module")
def data(shapes_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled cases whose headers and folders hold the name."""
    folder = tmp_path_factory.mktemp("input") / f"{MARKER}-home" / f"{MARKER}-data"
    for source, target in (("imagesTr", "images"), ("labelsTr", "labels")):
        (folder / target).mkdir(parents=True)
        for path in sorted((shapes_folder / source).glob("*.nii.gz")):
            shutil.copy(path, folder / target)
            plant(folder / target / path.name)
    (folder / "labels.json").write_text(json.dumps({"background": 0, "ellipsoid": 1, "box": 2}))
    return folder


def contents(path: Path) -> Iterator[bytes]:
    """All bytes of a file, and what it unpacks to."""
    raw = path.read_bytes()
    yield raw
    if raw[:2] == b"\x1f\x8b":
        yield gzip.decompress(raw)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            yield from (archive.read(name) for name in archive.namelist())


def assert_private(folder: Path, *more: str) -> None:
    """No file below a folder, nor its name, holds the name, a path of this machine, its user or its host."""
    secrets = [MARKER, str(folder.parent), socket.gethostname(), os.environ.get("USER", MARKER), *more]
    secrets = [text for text in secrets if len(text) > 4]
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        for text in secrets:
            assert text not in path.relative_to(folder).as_posix()
            for content in contents(path):
                assert text.encode() not in content, f"{path}: holds {text}"


def train(data: Path, out: Path, *options: str) -> None:
    """A job that takes seconds."""
    assert main(["train", str(data), "--out", str(out), *options]) == 0


def network(data: Path, out: Path, *options: str) -> None:
    """A network of two steps."""
    train(data, out, "--epochs", "1", "--device", "cpu", *options, "--override", *TINY)


def test_check_and_plan(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(data), "--json"]) == 0
    said = capsys.readouterr().out
    assert json.loads(said)["usable"]
    assert MARKER not in said
    plan = tmp_path / "out" / "plan.yaml"
    assert main(["plan", str(data), "--out", str(plan), "--device", "cpu"]) == 0
    assert_private(plan.parent)


@pytest.mark.thorough
def test_a_network_and_its_labels(data: Path, tmp_path: Path) -> None:
    run, labels = tmp_path / "run", tmp_path / "labels"
    network(data, run, "--tracking", "none")
    assert_private(run, str(data.parent.parent))
    command = [
        "segment",
        str(run),
        str(data / "images"),
        "--out",
        str(labels),
        "--device",
        "cpu",
        "--probabilities",
    ]
    assert main(command) == 0
    assert_private(labels)
    scores = tmp_path / "scores"
    scores.mkdir()
    command = ["evaluate", str(labels), str(data / "labels"), "--out", str(scores / "scores.csv")]
    assert main(command) == 0
    assert_private(scores)


def test_fused_labels(data: Path, tmp_path: Path) -> None:
    files = [str(path) for path in sorted((data / "labels").iterdir())[:3]]
    out = tmp_path / "fused" / "fused.nii.gz"
    assert main(["fuse", *files, "--out", str(out)]) == 0
    assert_private(out.parent)


@pytest.mark.thorough
def test_a_classical_run(data: Path, tmp_path: Path) -> None:
    train(data, tmp_path / "run", "--method", "kmeans")
    assert_private(tmp_path / "run", str(data.parent.parent))


@pytest.mark.slow
def test_a_tracked_network_with_a_cache_on_disk(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(
        *(data, run, "--epochs", "1", "--device", "cpu"),
        *("--override", *TINY, "training.cache=disk"),
    )
    assert (run / "mlflow" / "mlruns.db").is_file()
    assert_private(run, str(data.parent.parent))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("--method", "majority", "--transform", "affine", "--folds", "5"),
        ("--method", "atlas-gmm", "--transform", "affine", "--weight", "0.5", "--correct", "no"),
    ],
)
def test_a_run_with_atlases(data: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    run, labels = tmp_path / "run", tmp_path / "labels"
    train(data, run, *options)
    assert_private(run, str(data.parent.parent))
    scan = next((data / "images").iterdir())
    assert main(["segment", str(run), str(scan), "--out", str(labels)]) == 0
    assert_private(labels)


@pytest.mark.slow
def test_a_network_with_atlases(data: Path, tmp_path: Path) -> None:
    run, more = tmp_path / "run", tmp_path / f"{MARKER}-more"
    more.mkdir()
    shutil.copy(next((data / "images").iterdir()), more / "further.nii.gz")
    options = (
        "--method",
        "atlas-unet",
        "--transform",
        "affine",
        "--correct",
        "no",
        "--prior",
        "yes",
        "--warped",
        "1",
    )
    network(data, run, *options, "--atlases", "2", "--unlabelled", str(more))
    assert_private(run, str(data.parent.parent))


@pytest.mark.slow
def test_registration(data: Path, tmp_path: Path) -> None:
    fixed, moving, *_ = (str(path) for path in sorted((data / "images").iterdir()))
    pair, warped = tmp_path / "pair", tmp_path / "warped"
    assert main(["register", fixed, moving, "--out", str(pair), "--transform", "affine"]) == 0
    assert_private(pair)
    transform = next(path for path in pair.iterdir() if path.name.startswith("transform"))
    out = warped / "warped.nii.gz"
    command = ["warp", moving, "--transform", str(transform), "--reference", fixed, "--out", str(out)]
    assert main(command) == 0
    assert_private(warped)
    assert main(["build-atlas", str(data), "--out", str(tmp_path / "atlas"), "--transform", "affine"]) == 0
    assert_private(tmp_path / "atlas")


@pytest.mark.slow
def test_a_benchmark_and_its_report(data: Path, tmp_path: Path) -> None:
    out: Any = tmp_path / "benchmark"
    command = ["benchmark", str(data), "--methods", "kmeans", "majority:transform=affine", "--folds", "2"]
    assert main([*command, "--out", str(out)]) in (0, 1)
    assert main(["report", str(out)]) == 0
    shutil.rmtree(out / "folds")  # hard links to the input's own files, for the methods alone
    assert_private(out, str(data.parent.parent))
