"""Training with manipulated folders, invalid plans and too little memory."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from atlaseg.pipeline.datasets import read_dataset
from atlaseg.pipeline.errors import DatasetError, OptionError, PlanError, UnsafeModelError
from atlaseg.pipeline.network_segmenter import NetworkSegmenter
from atlaseg.pipeline.planning.plan_file import load_plan, override_plan, save_plan
from atlaseg.pipeline.training.patch_sampling import PatchBatches
from atlaseg.workflows.methods.networks.network_plan import plan_for_job


@pytest.fixture
def foreign(tiny_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


@pytest.mark.thorough
def test_configs_of_the_folder_are_rendered_again(foreign: Path, runs: Any, tmp_path: Path) -> None:
    trace = tmp_path / "was-run"
    call = f"__import__('pathlib').Path({str(trace)!r}).touch()"
    train = foreign / "configs" / "train.yaml"
    clean = train.read_text()
    train.write_text(clean.replace("initialize:\n", f'initialize:\n- "${call}"\n'))
    (foreign / "configs" / "logging.conf").write_text(f"[handlers]\nkeys=x\n[handler_x]\nargs=({call},)\n")
    assert train.read_text() != clean
    runs.train(foreign)
    assert not trace.exists()
    assert "was-run" not in train.read_text()


@pytest.mark.thorough
def test_a_plan_with_code_in_it_is_refused(foreign: Path, runs: Any) -> None:
    plan = foreign / "configs" / "plan.yaml"
    plan.write_text(plan.read_text().replace("orientation: RAS", "orientation: $print(1)"))
    with pytest.raises(UnsafeModelError, match="orientation"):
        runs.train(foreign)


@pytest.mark.thorough
def test_refuses_a_folder_that_holds_something_else(runs: Any, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(OptionError, match="not empty and not a run of atlaseg train"):
        runs.job(tmp_path).run()
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.thorough
def test_a_plan_that_is_no_text(runs: Any, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(PlanError, match=r"plan\.yaml"):
        runs.job(tmp_path / "run", plan=plan, epochs=None).run()
    assert not (tmp_path / "run").exists()


@pytest.mark.thorough
@pytest.mark.parametrize(("asked", "expected"), [(None, 7), (3, 3)])
def test_the_seed_of_a_plan_is_kept_unless_another_is_asked_for(
    runs: Any, tiny_run: Path, tmp_path: Path, asked: int | None, expected: int
) -> None:
    plan = tmp_path / "plan.yaml"
    save_plan(override_plan(load_plan(tiny_run / "configs" / "plan.yaml"), ["training.seed=7"]), plan)
    job = runs.job(tmp_path / "run", plan=plan, epochs=None, seed=asked)
    assert plan_for_job(job, read_dataset(runs.dataset), "unet").training.seed == expected


@pytest.mark.thorough
@pytest.mark.parametrize("how", ["torch", "python"])
def test_too_little_memory_is_one_line(
    runs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    def greedy(_self: Any, _index: int) -> None:
        if how == "python":
            raise MemoryError
        torch.empty(1 << 50)

    monkeypatch.setattr(PatchBatches, "batch", greedy)
    with pytest.raises(PlanError, match=r"ran out of memory: lower training\.batch_size"):
        runs.train(tmp_path / "run")


@pytest.mark.thorough
def test_one_case_cannot_train_and_validate(runs: Any, tmp_path: Path) -> None:
    dataset = read_dataset(runs.dataset)
    one = dataset.subset([dataset.labelled[0].name])
    with pytest.raises(DatasetError, match="at least 2"):
        NetworkSegmenter(tmp_path / "run").fit(one)
    with pytest.raises(OptionError, match=r"at most 0\.5"):
        NetworkSegmenter(tmp_path / "run", validation=0).fit(dataset)
