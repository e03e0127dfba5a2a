"""Modules that lie in the current folder are not run, whatever a command is given."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.bad_inputs.conftest import Good

pytestmark = pytest.mark.slow

#: Modules that a command could take from the folder that it is run in.
DECOYS = ("pipeline", "workflows", "atlases", "yaml", "json", "numpy", "multiprocessing", "torch", "nibabel")
COMMANDS = (
    "check {data}",
    "check nowhere",
    "segment {network} nowhere.nii --out out",
    "segment {atlas} text.nii.gz --out out",
    "register {scan} text.nii.gz --out out",
    "fuse {label} text.nii.gz --out fused.nii.gz",
    "benchmark nowhere --methods kmeans --out out",
    "demo --minutes nan",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_decoys_are_not_run(command: str, good: Good, tmp_path: Path) -> None:
    (tmp_path / "text.nii.gz").write_text("text")
    for name in DECOYS:
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    words = [word.format(**{k: str(v) for k, v in vars(good).items()}) for word in command.split()]
    program = Path(sys.executable).with_name("atlaseg")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [program, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert not (tmp_path / "ran").exists(), done
    assert "Traceback" not in done.stderr
    assert (done.returncode == 0) == (command == "check {data}"), done
    assert list((tmp_path / "out").rglob("*.nii.gz")) == []
