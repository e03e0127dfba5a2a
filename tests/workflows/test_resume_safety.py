"""Folders that training finds there already: strangers' runs, and no runs at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import OptionError, UnsafeModelError


@pytest.fixture
def foreign(tiny_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


def test_configs_of_the_folder_are_made_anew(foreign: Path, runs: Any, tmp_path: Path) -> None:
    trace = tmp_path / "was-run"
    call = f"__import__('pathlib').Path({str(trace)!r}).touch()"
    train = foreign / "configs" / "train.yaml"
    honest = train.read_text()
    train.write_text(honest.replace("initialize:\n", f'initialize:\n- "${call}"\n'))
    (foreign / "configs" / "logging.conf").write_text(f"[handlers]\nkeys=x\n[handler_x]\nargs=({call},)\n")
    assert train.read_text() != honest
    runs.train(foreign)
    assert not trace.exists()
    assert "was-run" not in train.read_text()


def test_a_plan_with_code_in_it_is_refused(foreign: Path, runs: Any) -> None:
    plan = foreign / "configs" / "plan.yaml"
    plan.write_text(plan.read_text().replace("orientation: RAS", "orientation: $print(1)"))
    with pytest.raises(UnsafeModelError, match="orientation"):
        runs.train(foreign)


def test_refuses_a_folder_that_holds_something_else(runs: Any, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(OptionError, match="not empty and not a run of atlaseg train"):
        runs.job(tmp_path).run()
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
