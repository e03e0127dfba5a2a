"""The planning job, from a folder to a file."""

from pathlib import Path

import pytest

from atlaseg.pipeline.errors import OptionError, PlanError
from atlaseg.pipeline.planning.plan_file import load_plan
from atlaseg.pipeline.synthetic.shapes import write_shapes
from atlaseg.workflows.plan import MakePlan, gigabytes
from atlaseg.workflows.studies.memory_estimate import benchmark_plans


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("plan") / "shapes"
    write_shapes(made, 2, seed=0, kind="noisy-spheres")
    return made


def test_plan_is_written_and_shown(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "plan.yaml"
    job = MakePlan(folder, out, device="cpu", minutes=3, override=("training.batch_size=1",))
    assert job.run() == 0
    plan = load_plan(out)
    assert plan.training.minutes == 3
    assert plan.training.batch_size == 1
    assert plan.reasons["training.batch_size"] == "set by the user instead of 2"
    shown = capsys.readouterr().out
    assert "64 x 64 x 64" in shown
    assert "why" in shown


def test_nothing_is_written_where_memory_is_too_small(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "plan.yaml"
    with pytest.raises(PlanError, match="raise --memory"):
        MakePlan(folder, out, memory="100MB", device="cpu").run()
    with pytest.raises(PlanError, match=r"memory_gb is 0\.9"):
        MakePlan(folder, out, memory="0.9", device="cpu", override=("patch_size=[128, 128, 128]",)).run()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "8PB", "GB", "-3GB", "0", "8 GB RAM", "1e3", "nan"])
def test_sizes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="write a size such as 8GB"):
        gigabytes(text)


def test_sizes() -> None:
    assert [gigabytes(t) for t in ("8GB", "8", "8 g", "500MB", "1.5Tb")] == [8, 8, 8, 0.5, 1500]


def test_benchmark_covers_every_network() -> None:
    from atlaseg.pipeline.networks.registry import NETWORKS

    assert {plan.network.name for plan in benchmark_plans().values()} == set(NETWORKS)
