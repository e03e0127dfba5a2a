"""Paths that are not there, are of another kind, or are no paths: each command says which, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.bad_inputs.conftest import Good, Judge

pytestmark = pytest.mark.slow

#: Commands with one place, ``@``, for a bad path.
INPUTS = (
    "segment @ {scan} --out out",
    "segment {network} @ --out out",
    "segment {atlas} @ --out out",
    "segment {classical} @ --out out",
    "segment {network} {network} @ --out out",
    "segment --method region-growing --seed 5,5,5 @ --out out",
    "segment {atlas} {scan} --out out --masks @",
    "evaluate @ {label} --out scores.csv",
    "evaluate {label} @ --out scores.csv",
    "register @ {scan} --out out",
    "register {scan} @ --out out",
    "register {scan} {scan} --out out --transform tps --fixed-landmarks @ --moving-landmarks {points}",
    "register {scan} {scan} --out out --fixed-mask @",
    "register {scan} {scan} --out out --initial @",
    "warp @ --transform {transform} --out o.nii.gz",
    "warp {scan} --transform @ --out o.nii.gz",
    "warp {scan} --transform {transform} --reference @ --out o.nii.gz",
    "warp {scan} --transform {transform} {transform} @:inverse --out o.nii.gz",
    "fuse @ {label} --out fused.nii.gz",
    "fuse {label} {label} @ --out fused.nii.gz",
    "fuse {label} {label} --method joint --target @ --images {scan} {scan} --out fused.nii.gz",
    "train {data} --plan @ --out out",
    "train {data} --method atlas-unet --unlabelled @ --out out",
    "benchmark @ --methods unet --out out",
    "report @",
    "report {data} --dataset @",
    "study memory --plan @",
)
BAD = {
    "missing": "nowhere.nii.gz",
    "missing-below-a-file": "file.txt/x.nii.gz",
    "empty-folder": "empty",
    "text-file": "file.txt",
    "text-as-volume": "text.nii.gz",
    "folder-as-volume": "folder.nii.gz",
    "no-name": "",
    "too-long": "x" * 300 + ".nii.gz",
    "escapes": "a\x1b]0;b\x07\x1b[2J.nii.gz",
    "lines": "a\nb\n\nc.nii.gz",
    "not-unicode": "a\udcff.nii.gz",
}


def _filled(command: str, good: Good, path: str) -> list[str]:
    places = {name: str(value) for name, value in vars(good).items()}
    return [word.replace("@", path) if "@" in word else word.format(**places) for word in command.split()]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("command", INPUTS)
def test_input(command: str, bad: str, good: Good, judge: Judge) -> None:
    (judge.folder / "file.txt").write_text("text\n")
    (judge.folder / "text.nii.gz").write_text("text\n")
    (judge.folder / "empty").mkdir()
    (judge.folder / "folder.nii.gz").mkdir()
    # what is left out of a folder, and what is assumed of channels, is said before
    judge.refused(*_filled(command, good, BAD[bad]), lines=4 if "unlabelled" in command else 2)


OUTPUTS = (
    "plan {data} --out @ --epochs 1",
    "train {data} --method kmeans --folds 1 --out @",
    "train {data} --method majority --folds 1 --out @",
    "segment {classical} {scan} --out @",
    "segment {network} {scan} --out @",
    "evaluate {label} {label} --out @",
    "register {scan} {scan} --transform rigid --out @",
    "warp {scan} --transform {transform} --out @",
    "fuse {label} {label} --out @",
    "build-atlas {data} --transform rigid --iterations 1 --out @",
    "benchmark {data} --methods kmeans --folds 2 --out @",
    "phantom @ --subjects 1",
)
BAD_OUTPUTS = {
    "below-a-file": "file.txt/x",
    "a-file-too-long": "x" * 300,
    "below-nothing-that-can-be": "/proc/none/x",
}


@pytest.mark.parametrize("bad", BAD_OUTPUTS)
@pytest.mark.parametrize("command", OUTPUTS)
def test_output(command: str, bad: str, good: Good, judge: Judge) -> None:
    (judge.folder / "file.txt").write_text("text\n")
    # a command may have said what it reads before it comes to write
    judge.refused(*_filled(command, good, BAD_OUTPUTS[bad]), lines=4)


@pytest.mark.parametrize(
    "command",
    [
        "warp {scan} --transform {transform} --out {scan}",
        "fuse {label} {label} --out {label}",
        "segment {classical} {scan} --out {scan}",
        "warp {points} --transform {transform} --out {points}",
    ],
)
def test_result_in_place_of_an_input(command: str, good: Good, judge: Judge) -> None:
    before = [path.read_bytes() for path in (good.scan, good.label, good.points)]
    judge.refused(*_filled(command, good, ""))
    assert [path.read_bytes() for path in (good.scan, good.label, good.points)] == before
