"""Good inputs to be broken, and the one judge of what every command does with what is broken."""

from __future__ import annotations

import shutil
import signal
import traceback
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from atlaseg.workflows.cli import main


def content(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of everything in a folder."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if not path.is_dir()
    }


#: What is refused is refused soon; a training that begins goes on for hours.
SECONDS = 60


def _too_long(*_: object) -> None:
    pytest.fail(f"not refused within {SECONDS} s")


@dataclass
class Judge:
    """Runs a command on bad inputs and says what is wrong with how it took them.

    Args:
        folder: the current folder of the command; whatever a test makes goes there.
        capsys: of the test.
    """

    folder: Path
    capsys: Any

    @property
    def out(self) -> Path:
        """Where results would go."""
        return self.folder / "out"

    def refused(
        self, *words: str | Path, says: str = "", code: int | Sequence[int] = (1, 2), lines: int = 2
    ) -> str:
        """Run ``atlaseg``; returns what it said on standard error.

        Args:
            words: of the command line.
            says: must be part of it.
            code: exit codes that are right.
            lines: at most so many.
        """
        before = content(self.folder)
        self.capsys.readouterr()
        before_alarm = signal.signal(signal.SIGALRM, _too_long)
        signal.alarm(SECONDS)
        try:
            found = main([str(word) for word in words])
        except SystemExit as end:
            found = int(end.code or 0) if isinstance(end.code, int | None) else 1
        except Exception:  # whatever it is, a user must not see it
            pytest.fail(f"atlaseg {' '.join(map(str, words))}\n{traceback.format_exc()}")
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before_alarm)
        shown = self.capsys.readouterr()
        report = f"atlaseg {' '.join(map(str, words))}\nexit {found}\n{shown.out}\n{shown.err}"
        assert found in ((code,) if isinstance(code, int) else code), report
        assert "Traceback" not in shown.out + shown.err, report
        said = [line for line in shown.err.splitlines() if line.strip()]
        if words[0] != "check":  # which lists every problem in a table, or as JSON
            assert 1 <= len(said) <= lines, report
        assert says in shown.err + (shown.out if words[0] == "check" else ""), report
        active = [
            c for c in shown.err + shown.out if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t\r"
        ]
        assert not active, report
        assert max(map(len, said), default=0) < 1500, report
        left = {name for name in content(self.folder) if name not in before}
        assert not left, f"{report}\nleft behind: {sorted(left)}"
        assert {name: content(self.folder)[name] for name in before} == before, (
            f"{report}\nan input was changed"
        )
        return shown.err


@dataclass(frozen=True)
class Good:
    """Inputs that every command takes.

    Args:
        scan: ``(16, 18, 14)`` voxels of 1 mm.
        label: its label map, values 0 to 2.
        data: data set in plain folders, six cases.
        network: trained run.
        atlas: run of an atlas method.
        classical: run of a classical method.
        transform: translation that `warp` takes.
        points: table of points.
    """

    scan: Path
    label: Path
    data: Path
    network: Path
    atlas: Path
    classical: Path
    transform: Path
    points: Path

    def copy(self, name: str, folder: Path) -> Path:
        """A copy of one of them, to be broken."""
        source: Path = getattr(self, name)
        target = folder / source.name
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True)
        else:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
        return target


def write_volume(path: Path, voxels: np.ndarray, affine: Any = None) -> Path:
    """A NIfTI file as nibabel writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, np.eye(4) if affine is None else affine), path)
    return path


def _case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = np.zeros((16, 18, 14), np.uint8)
    x, y, z = rng.integers(3, 5, 3)
    label[x : x + 8, y : y + 9, z : z + 6] = 1
    label[x + 2 : x + 6, y + 2 : y + 6, z + 1 : z + 4] = 2
    return (label * 60 + rng.normal(100, 5, label.shape)).astype(np.float32), label


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory, tiny_run: Path) -> Good:
    home = tmp_path_factory.mktemp("good")
    for number in range(6):
        scan, label = _case(number)
        write_volume(home / "data" / "images" / f"c{number}.nii.gz", scan)
        write_volume(home / "data" / "labels" / f"c{number}.nii.gz", label)
    scan, label = _case(9)
    for method in ("majority", "kmeans"):
        words = ["train", str(home / "data"), "--method", method, "--out", str(home / method)]
        assert main([*words, "--folds", "1"]) == 0
    shutil.copytree(tiny_run, home / "network")
    (home / "points.csv").write_text("x,y,z\n1,2,3\n4,5,6\n")
    (home / "move.tfm").write_text(
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        "Parameters: 1 0 0 0 1 0 0 0 1 1 2 3\nFixedParameters: 0 0 0\n"
    )
    return Good(
        write_volume(home / "scan.nii.gz", scan),
        write_volume(home / "label.nii.gz", label),
        home / "data",
        home / "network",
        home / "majority",
        home / "kmeans",
        home / "move.tfm",
        home / "points.csv",
    )


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Judge:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    return Judge(folder, capsys)
