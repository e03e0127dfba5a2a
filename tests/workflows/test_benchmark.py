"""The benchmark: folds, resumption, failures and leakage, with methods that cost nothing, then with real ones."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from atlaseg.pipeline.errors import DatasetError, OptionError
from atlaseg.workflows.benchmark import Benchmark
from atlaseg.workflows.benchmarking import cells as benchmark_cells
from atlaseg.workflows.benchmarking.cells import Cell, Conditions
from atlaseg.workflows.benchmarking.folds import choose_training, make_folds
from atlaseg.workflows.benchmarking.worker import Task, record_of_case, record_of_fit
from atlaseg.workflows.report_page.folder import read_benchmark

TABLES = ("scores.csv", "summary.csv", "significance.csv", "ranking.csv", "failures.csv")


class FakeProcesses:
    """Stands in for the processes of the methods: labels what is bright, and dies where it is told to."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        #: Method and case (``""`` while fitting) to die at.
        self.dies: set[tuple[str, str]] = set()
        #: After so many processes the benchmark itself is interrupted.
        self.interrupt_after: int | None = None

    def __call__(self, cell: Cell, conditions: Conditions, stage: Any, stop: Any) -> str:
        task = benchmark_cells._task(cell, conditions, stage)
        self.tasks.append(pickle.loads(pickle.dumps(task)))
        if self.interrupt_after is not None and len(self.tasks) > self.interrupt_after:
            raise KeyboardInterrupt
        cost = {"seconds": 1.5, "cpu_seconds": 1.0, "peak_mib": 100.0}
        task.folder.mkdir(parents=True, exist_ok=True)
        if stage == "fit":
            if (task.method, "") in self.dies:
                return "its process was ended by SIGKILL"
            (task.folder / "run").mkdir(exist_ok=True)
            (task.folder / "run" / "learnt").touch()
            benchmark_cells._write(record_of_fit(task.folder), {**cost, "error": ""})
            return ""
        assert (task.folder / "run" / "learnt").is_file()
        for name, files in task.scans.items():
            if record_of_case(task.folder, name).is_file():
                continue
            if (task.method, name) in self.dies:
                benchmark_cells._write(task.clock, {"name": name, **cost})
                return "its process was ended by SIGKILL"
            label_bright(task, name, files)
            benchmark_cells._write(record_of_case(task.folder, name), {**cost, "error": ""})
        return ""


def label_bright(task: Task, name: str, files: tuple[Path, ...]) -> None:
    """A method of a line, worse for ``majority`` than for others."""
    import nibabel as nib

    from atlaseg.pipeline.io.volume import write_label_map

    image = np.asanyarray(nib.load(files[0]).dataobj)
    share = 60 if task.method == "majority" else 90
    write_label_map(
        task.folder / "labels" / f"{name}.nii.gz",
        (image > np.percentile(image, share)).astype(np.uint8),
        files[0],
    )


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> FakeProcesses:
    processes = FakeProcesses()
    monkeypatch.setattr(benchmark_cells, "_run_process", processes)
    return processes


@pytest.fixture
def job(shapes_folder: Path, tmp_path: Path, fakes: FakeProcesses) -> Callable[..., Benchmark]:
    def make(**options: Any) -> Benchmark:
        settings: dict[str, Any] = {
            "methods": ("majority,joint-fusion:keep=2",),
            "folds": 2,
            "out": tmp_path / "out",
        }
        return Benchmark(shapes_folder, **{**settings, **options})

    return make


def read(job: Benchmark, name: str) -> pd.DataFrame:
    return pd.read_csv(job.out / f"{name}.csv")


@pytest.mark.thorough
def test_whole_benchmark(job: Callable[..., Benchmark], capsys: pytest.CaptureFixture[str]) -> None:
    whole = job(labels=("1,all",))
    assert whole.run() == 0
    scores = read(whole, "scores")
    assert len(scores) == 5 * 2 * 2 * 2 * 10  # cases, structures, methods, numbers of labels, metrics
    assert set(scores["labels"].dropna()) == {1}
    again = pd.read_parquet(whole.out / "scores.parquet")
    pd.testing.assert_series_equal(again["value"], scores["value"])
    times = read(whole, "times")
    assert set(times["stage"]) == {"fit", "segment"}
    assert times[times["stage"] == "fit"]["case"].isna().all()
    ranking = read(whole, "ranking")
    assert list(ranking["method"].iloc[:2]) == ["joint:keep=2", "majority"]
    about = json.loads((whole.out / "benchmark.json").read_text())
    assert about["finished"] is True
    assert about["labels"] == [1, None]
    assert len(about["cells"]) == 8
    assert all((whole.out / cell / "cell.json").is_file() for cell in about["cells"])
    assert about["structures"] == {"1": "ellipsoid", "2": "box"}
    assert str(whole.out.parent) not in (whole.out / "benchmark.json").read_text()
    assert not (whole.out / "dataset.path").exists()
    said = capsys.readouterr()
    assert "joint" in said.out
    assert "all training cases" in said.out
    # signs of life of what takes long, one for each process
    assert said.err.count("majority, 1 labels, fold 0: learns from 1 cases; follow it in") == 1
    assert said.err.count("majority, fold 1: labels 2 scans; follow it in") == 1


@pytest.mark.thorough
def test_interrupted_it_resumes_to_the_same_tables(
    job: Callable[..., Benchmark], fakes: FakeProcesses, tmp_path: Path
) -> None:
    at_once, in_parts = job(out=tmp_path / "a"), job(out=tmp_path / "b")
    at_once.run()
    number = len(fakes.tasks)
    fakes.tasks.clear()
    fakes.interrupt_after = 3
    with pytest.raises(KeyboardInterrupt):
        in_parts.run()
    assert json.loads((in_parts.out / "benchmark.json").read_text())["finished"] is False
    assert len(read(in_parts, "scores")) < len(read(at_once, "scores"))
    fakes.interrupt_after = None
    fakes.tasks.clear()
    in_parts.run()
    # a whole part and the fitting of the next were done
    assert len(fakes.tasks) == number - 3
    for name in TABLES:
        assert (in_parts.out / name).read_bytes() == (at_once.out / name).read_bytes()


@pytest.mark.thorough
def test_a_process_that_dies_costs_its_case_only(job: Callable[..., Benchmark], fakes: FakeProcesses) -> None:
    fakes.dies = {("majority", "shapes_002"), ("joint", "")}
    bad = job()
    assert bad.run() == 1
    failures, scores = read(bad, "failures"), read(bad, "scores")
    assert sorted(failures[failures["method"] == "majority"]["case"]) == ["shapes_002"]
    assert len(failures[failures["method"] != "majority"]) == 5
    assert failures["error"].str.contains("SIGKILL").all()
    failed = scores[scores["failed"]]
    assert len(scores) == 5 * 2 * 2 * 10
    assert (failed[failed["metric"] == "dice"]["value"] == 0).all()
    assert (failed[failed["metric"] == "hd95_mm"]["value"] > 30).all()
    assert read(bad, "times")["case"].eq("shapes_002").any()
    # the same command leaves failures as they are, unless it is asked to try again
    fakes.dies = set()
    assert bad.run() == 1
    assert job(retry_failed=True).run() == 0
    assert read(bad, "failures").empty


@pytest.mark.thorough
def test_no_method_can_come_to_a_label_of_a_test_case(
    job: Callable[..., Benchmark], fakes: FakeProcesses, shapes_folder: Path
) -> None:
    whole = job(labels=("2",))
    whole.run()
    secret = {path.stat().st_ino for path in (shapes_folder / "labelsTr").iterdir()}
    assert fakes.tasks
    for task in fakes.tasks:
        # neither the data set nor where it is
        assert str(shapes_folder).encode() not in pickle.dumps(task)
        shown = {path.name.removesuffix(".nii.gz") for path in (task.training / "labels").iterdir()}
        assert len(shown) == 2
        assert not shown & task.scans.keys()
        scans = {path for files in task.scans.values() for path in files}
        near = [
            path
            for folder in {path.parents[1] for path in scans}
            for path in folder.rglob("*")
            if path.is_file()
        ]
        assert not secret & {path.stat().st_ino for path in near}
        assert not any(path.is_symlink() for path in (*near, *task.training.rglob("*")))


def test_fewer_cases_are_among_more() -> None:
    names = [f"c{n}" for n in range(12)]
    for fold in make_folds(names, folds=3, seed=4):
        few, many = set(choose_training(fold, 3)), set(choose_training(fold, 6))
        assert few < many < set(choose_training(fold, None)) == set(names) - set(fold.test)
    assert make_folds(names, 3, 4) == make_folds(names[::-1], 3, 4)
    assert make_folds(names, 3, 4) != make_folds(names, 3, 5)


def test_first_cases_train_and_last_are_tested(job: Callable[..., Benchmark], fakes: FakeProcesses) -> None:
    job(first=2, last=1).run()
    assert {tuple(task.scans) for task in fakes.tasks} == {("shapes_004",)}
    trained = {path.name for task in fakes.tasks for path in (task.training / "images").iterdir()}
    assert trained == {"shapes_000.nii.gz", "shapes_001.nii.gz"}


@pytest.mark.thorough
def test_more_methods_join_later(job: Callable[..., Benchmark], fakes: FakeProcesses) -> None:
    job(methods=("majority",)).run()
    fakes.tasks.clear()
    job(methods=("majority", "staple")).run()
    assert {task.method for task in fakes.tasks} == {"staple"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"labels": ("9",)}, "training cases"),
        ({"labels": ("few",)}, "numbers of cases"),
        ({"labels": ("2", "2")}, "once"),
        ({"first": 2}, "go together"),
        ({"first": 3, "last": 3}, "choose fewer"),
        ({"folds": 1}, "at least 2"),
        ({"folds": 9}, "at most one per case"),
        ({"workers": 0}, "--workers"),
        ({"tolerance_mm": -1.0}, "--tolerance-mm"),
        ({"methods": ("magic",)}, "not known"),
    ],
)
def test_mistakes_are_reported_before_any_work(
    job: Callable[..., Benchmark], options: dict[str, Any], says: str
) -> None:
    bad = job(**options)
    with pytest.raises(OptionError, match=says):
        bad.run()
    assert not bad.out.exists()


@pytest.mark.thorough
def test_another_benchmark_is_not_overwritten(job: Callable[..., Benchmark], tmp_path: Path) -> None:
    job().run()
    with pytest.raises(OptionError, match="another --seed"):
        job(seed=1).run()
    with pytest.raises(OptionError, match="another --surface"):
        job(surface="elements").run()
    about = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    del about["surface"]  # as folders were before there was a choice
    (tmp_path / "out" / "benchmark.json").write_text(json.dumps(about))
    assert job().run() == 0
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(OptionError, match="not a benchmark"):
        job(out=tmp_path / "full").run()


@pytest.mark.thorough
def test_surfaces_of_elements(job: Callable[..., Benchmark], capsys: pytest.CaptureFixture[str]) -> None:
    whole = job(surface="elements")
    whole.run()
    for name in ("scores", "summary", "significance", "ranking"):
        assert set(read(whole, name)["surface"]) == {"elements"}
    assert read_benchmark(whole.out).surface == "elements"
    assert "surface elements" in " ".join(capsys.readouterr().out.split())


@pytest.mark.thorough
def test_a_data_set_that_has_changed_is_reported(
    job: Callable[..., Benchmark], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = job(first=2, last=1)
    whole.run()
    seal = next(whole.out.glob("cells/*/*/*/cell.json"))
    seal.write_text(seal.read_text().replace("shapes_000", "shapes_009"))
    with pytest.raises(DatasetError, match="other cases"):
        whole.run()


@pytest.mark.thorough
def test_a_real_method_in_this_process(
    shapes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(cell: Cell, conditions: Conditions, stage: Any, stop: Any) -> str:
        cell.folder.mkdir(parents=True, exist_ok=True)
        benchmark_cells._task(cell, conditions, stage).run()
        return ""

    monkeypatch.setattr(benchmark_cells, "_run_process", here)
    job = Benchmark(shapes_folder, ("kmeans",), tmp_path, first=2, last=1, probabilities=True)
    assert job.run() == 0
    cell = next(tmp_path.glob("cells/*/*/*"))
    assert [path.name for path in (cell / "labels").iterdir()] == ["shapes_004.nii.gz"]
    assert [path.name for path in (cell / "probabilities").iterdir()] == ["shapes_004.nii.gz"]
    assert not list(cell.glob("*under-way*"))
    times = read(job, "times")
    assert list(times["stage"]) == ["fit", "load", "segment"]
    assert (times["peak_mib"] > 30).all()


def command(dataset: Path, out: Path) -> list[str]:
    methods = "majority:transform=rigid,local-weighted:transform=rigid"
    return [sys.executable, "-m", "atlaseg.workflows.cli", "benchmark", str(dataset), "--methods", methods,
            "--folds", "2", "--labels", "2", "--out", str(out)]  # fmt: skip


@pytest.mark.slow
def test_killed_it_resumes_to_the_same_tables(shapes_folder: Path, tmp_path: Path) -> None:
    at_once, killed = tmp_path / "at-once", tmp_path / "killed"
    subprocess.run(command(shapes_folder, at_once), check=True)
    for seals in (0, 2):
        process = subprocess.Popen(command(shapes_folder, killed))
        while process.poll() is None and (
            len(list(killed.glob("cells/*/*/*/cell.json"))) < seals
            or not list(killed.glob("cells/*/*/*/*.json"))
        ):
            time.sleep(0.2)
        assert process.poll() is None, "it was through before it could be killed"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command(shapes_folder, killed), check=True)
    for name in TABLES:
        assert (killed / name).read_bytes() == (at_once / name).read_bytes()


@pytest.mark.slow
def test_terminated_it_leaves_tables_of_what_is_there(shapes_folder: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(command(shapes_folder, tmp_path), stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(tmp_path.glob("cells/*/*/*/cell.json")):
        time.sleep(0.2)
    process.terminate()
    _, told = process.communicate()
    assert process.returncode == 143
    assert told.endswith("atlaseg benchmark: terminated\n")
    finished = list(tmp_path.glob("cells/*/*/*/cell.json"))
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert scores[["method", "fold"]].drop_duplicates().shape[0] == len(finished) < 4


@pytest.mark.slow
def test_a_network_learns_from_all_cases_of_the_fold(shapes_folder: Path, tmp_path: Path, runs: Any) -> None:
    unet = "unet:epochs=2,override=" + ";".join(runs.job(tmp_path).override)
    job = Benchmark(shapes_folder, (unet,), tmp_path, first=2, last=1, device="cpu")
    assert job.run() == 0
    cases = json.loads(next(tmp_path.glob("cells/*/*/*/run/configs/cases.json")).read_text())
    assert [case["name"] for case in cases["training"]] == ["shapes_000", "shapes_001"]


@pytest.mark.thorough
def test_what_is_trained_in_the_same_way_is_trained_once(job: Callable[..., Benchmark], fakes: Any) -> None:
    methods = "unet,unet:tta=true,atlas-unet:weight=0.2,atlas-unet,unet:epochs=3,atlas-unet:combine=none"
    whole = job(methods=(methods,))
    assert whole.run() == 0
    fits = Counter(task.method for task in fakes.tasks if task.stage == "fit")
    # two folds; the network with other epochs is another one
    assert fits == {"unet": 2 * 2, "atlas-unet": 2}
    by_options = {tuple(task.segment.items()) for task in fakes.tasks if task.stage == "segment"}
    assert by_options == {(), (("tta", True),), (("weight", 0.2),), (("combine", "none"),)}
    times = read(whole, "times")
    fit = times[(times["stage"] == "fit") & times["method"].str.startswith("unet")]
    assert list(fit["seconds"]) == [1.5] * 6


def test_a_failed_twin_does_not_count(job: Callable[..., Benchmark], fakes: Any) -> None:
    fakes.dies = {("unet", "")}
    assert job(methods=("unet,unet:tta=true",)).run() == 1
    assert [task.stage for task in fakes.tasks] == ["fit"] * 4
