"""The folder of a command's temporary files."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from atlaseg.workflows.console.scratch import make_scratch

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot fork")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before, tempfile.tempdir = tempfile.tempdir, None
    yield
    tempfile.tempdir = before


def test_temporary_files_go_into_it(tmp_path: Path) -> None:
    folder = make_scratch()
    assert folder is not None
    assert folder.parent == tmp_path
    with tempfile.NamedTemporaryFile() as file:
        assert Path(file.name).parent == folder
    asked = [sys.executable, "-c", "import tempfile; print(tempfile.gettempdir())"]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip() == str(folder)


def test_those_of_dead_processes_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make_scratch()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    gone = tmp_path / "atlaseg-job-abcdefgh"
    kept = [tmp_path / "atlaseg-job-of-mine", tmp_path / "atlaseg-demo"]
    for folder in (gone, *kept):
        (folder / "ants-x").mkdir(parents=True)
    folder = make_scratch()
    assert first is not None
    assert folder is not None
    assert sorted(tmp_path.iterdir()) == sorted([*kept, first, folder])
