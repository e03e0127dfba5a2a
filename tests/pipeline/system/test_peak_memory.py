"""The highest resident memory of a process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from atlaseg.pipeline.system import peak_memory
from atlaseg.pipeline.system.peak_memory import peak_resident_bytes


def test_counts_what_was_used_and_given_back() -> None:
    before = psutil.Process().memory_info().rss
    block = np.ones(200_000_000, dtype=np.uint8)
    del block
    assert peak_resident_bytes() >= max(before, 200_000_000)


def test_does_not_count_the_parent() -> None:
    block = np.ones(300_000_000, dtype=np.uint8)
    code = "from atlaseg.pipeline.system.peak_memory import peak_resident_bytes; print(peak_resident_bytes())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert block.size > int(child.stdout) > 1_000_000


def test_without_the_file_of_linux(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    exact = peak_resident_bytes()
    monkeypatch.setattr(peak_memory, "_STATUS", tmp_path / "absent")
    assert peak_resident_bytes() >= 0.9 * exact  # the other source may know of the parent, too
