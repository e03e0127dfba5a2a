"""Every script of examples/ runs as its first lines say, and prints what it shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, folder: Path, *words: str) -> str:
    """Output of a script, in a process of its own and in another folder."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), "PLAYGROUND", *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def numbers(pattern: str, text: str) -> list[float]:
    return [float(found) for found in re.findall(pattern, text)]


@pytest.mark.slow
def test_first_network(tmp_path: Path) -> None:
    shown = run("first_network", tmp_path, "0.2")
    assert "hd95_mm" in shown
    assert len(list((tmp_path / "PLAYGROUND/labels").glob("*.nii.gz"))) == 2


@pytest.mark.slow
def test_labels_from_five_scans(tmp_path: Path) -> None:
    shown = run("labels_from_five_scans", tmp_path)
    assert "registering atlases 5 of 5" in shown
    dice = numbers(r"(?m)^ *[A-Za-z ]+ +(0\.\d+) +-?\d", shown)
    assert len(dice) == 5
    assert sum(dice) / 5 > 0.6


@pytest.mark.slow
def test_which_method(tmp_path: Path) -> None:
    dice = numbers(r"mean Dice (0\.\d+)", run("which_method", tmp_path))
    assert len(dice) == 3
    assert min(dice) > 0.2


@pytest.mark.slow
def test_register_two_scans(tmp_path: Path) -> None:
    rigid, affine = numbers(r"mean Dice (0\.\d+)", run("register_two_scans", tmp_path))
    assert affine > rigid > 0.3


@pytest.mark.slow
def test_own_fusion_rule(tmp_path: Path) -> None:
    half, all_agree = numbers(r"mean Dice (0\.\d+)", run("own_fusion_rule", tmp_path))
    assert half > all_agree > 0.1


def test_every_example_is_tested_and_uses_atlaseg_alone() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    assert names == {name.removeprefix("test_") for name in globals() if name.removeprefix("test_") in names}
    listed = (EXAMPLES / "README.md").read_text()
    for name in names:
        assert f"`{name}.py`" in listed
        imported = re.findall(r"(?m)^(?:import|from) (\w+)", (EXAMPLES / f"{name}.py").read_text())
        assert set(imported) <= {"atlaseg", "dataclasses", "numpy", "pathlib", "sys"}
