"""Nothing that lies in the current folder is run: commands and their processes import installed modules only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from atlaseg.workflows.cli import main

MODULES = (
    "pipeline",
    "yaml",
    "multiprocessing",
    "numpy",
    "torch",
    "json",
    "pickle",
    "monai",
    "ignite",
    "mlflow",
    "scipy",
    "SimpleITK",
    "filelock",
    "sitecustomize",
)
PACKAGES = ("workflows", "atlases", "configs", "scripts")
RIGID = ("--transform", "rigid")


class Desk:
    """A current folder, with decoys or without, and commands run in it.

    Args:
        folder: to be made.
        decoys: whether modules that leave a mark when they are imported lie in it.
    """

    def __init__(self, folder: Path, *, decoys: bool) -> None:
        self.folder, self.marks = folder, folder.parent / f"{folder.name}-marks"
        folder.mkdir()
        self.marks.mkdir()
        self.script = folder.parent / f"{folder.name}-bin" / "atlaseg"
        self.script.parent.mkdir()
        # as pip writes it
        self.script.write_text(
            "import sys\nfrom atlaseg.workflows.cli import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
        )
        for name in MODULES if decoys else ():
            (folder / f"{name}.py").write_text(self._mark(name))
        for name in PACKAGES if decoys else ():
            (folder / name).mkdir()
            (folder / name / "__init__.py").write_text(self._mark(name))

    def _mark(self, name: str) -> str:
        return f"open({str(self.marks / name)!r}, 'w').close()\n"

    def run(self, *words: str | Path, start: tuple[str, ...] = ()) -> str:
        """Run a command here; returns what it prints."""
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
        done = subprocess.run(
            [sys.executable, *(start or (str(self.script),)), *map(str, words)],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def imported(self) -> list[str]:
        """Decoys that have been imported."""
        return sorted(path.name for path in self.marks.iterdir())


@pytest.fixture
def decoys(tmp_path: Path) -> Desk:
    """A current folder with decoys."""
    return Desk(tmp_path / "decoys", decoys=True)


@pytest.fixture
def clean(tmp_path: Path) -> Desk:
    """An empty current folder."""
    return Desk(tmp_path / "clean", decoys=False)


def same_labels(a: Path, b: Path) -> bool:
    """Whether two folders hold the same label maps."""
    names = [path.relative_to(a) for path in sorted(a.rglob("*.nii.gz"))]
    assert names
    return all(
        np.array_equal(np.asarray(nib.load(a / n).dataobj), np.asarray(nib.load(b / n).dataobj))
        for n in names
    )


@pytest.mark.thorough
def test_segment_with_workers(shapes_folder: Path, decoys: Desk, tmp_path: Path) -> None:
    scan = shapes_folder / "imagesTr" / "shapes_000.nii.gz"
    words = ("segment", shapes_folder, scan, "--fusion", "majority", *RIGID)
    decoys.run(*words, "--out", "labels-out", "--workers", "2")
    assert decoys.imported == []
    # what another folder gives, without workers and in this process
    assert main([*map(str, words), "--out", str(tmp_path / "clean"), "--workers", "1"]) == 0
    assert same_labels(decoys.folder / "labels-out", tmp_path / "clean")


def test_a_module_that_is_started_by_name(decoys: Desk) -> None:
    """``python -m`` looks in the current folder first; all that follows does not."""
    for path in (decoys.folder / "workflows" / "__init__.py", decoys.folder / "workflows"):
        path.unlink() if path.is_file() else path.rmdir()
    assert "usage" in decoys.run("register", "--help", start=("-m", "atlaseg.workflows.cli"))
    assert decoys.imported == []


@pytest.mark.slow
def test_every_kind_of_job(shapes_folder: Path, decoys: Desk, clean: Desk, tiny: tuple[str, ...]) -> None:
    images, labels = shapes_folder / "imagesTr", shapes_folder / "labelsTr"
    fixed, moving = images / "shapes_000.nii.gz", images / "shapes_001.nii.gz"
    for desk in (decoys, clean):
        training = ("--epochs", "1", "--device", "cpu", "--override", *tiny)
        desk.run("train", shapes_folder, "--out", "net", *training)
        desk.run("segment", "net", fixed, "--out", "net-labels", "--device", "cpu")
        desk.run("register", fixed, moving, "--out", "pair", *RIGID, "--engine", "elastix")
        desk.run("train", shapes_folder, "--out", "fusion", "--method", "joint-fusion", *RIGID)
        held_out = ("--validation", "--dataset", shapes_folder)
        desk.run("segment", "fusion", *held_out, "--out", "fusion-labels", "--workers", "2")
        desk.run("build-atlas", shapes_folder, "--out", "mean", *RIGID, "--iterations", "1", "--workers", "2")
        methods = "gmm,majority:transform=rigid"
        desk.run("benchmark", shapes_folder, "--methods", methods, "--folds", "2", "--out", "compared")
        desk.run("evaluate", "fusion-labels", labels, "--only-predicted", "--workers", "2", "--out", "s.csv")
    assert decoys.imported == []
    for folder in ("net-labels", "fusion-labels", "mean/labels", "compared/cells"):
        assert same_labels(decoys.folder / folder, clean.folder / folder), folder
