"""nnU-Net v2 on the cases of an ``atlaseg benchmark``: the same training cases, minutes, core, tests.

    python tests/benchmarks/nnunet_beside.py DATASET --first 10 --last 60 --minutes 10 --out OUT

It installs nnU-Net (Isensee et al., Nature Methods 18, 203-211, 2021) from an index into OUT/env, an environment
of its own, and needs network for that; nothing of it enters atlaseg's. nnU-Net plans and preprocesses as it always does
(3d_fullres). It trains on all training cases (its fold "all") by its own trainer, but for two things: the polynomial
fall of the learning rate follows the clock, so that it is complete when the minutes are over, and epochs are short.
Planning and preprocessing are not counted in the minutes. Labels are predicted without and with mirroring (its default)
and scored by ``atlaseg evaluate``. Everything that is finished is kept: the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from atlaseg.pipeline.case import Case, Dataset
from atlaseg.pipeline.datasets import read_dataset
from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.io.volume import read_header
from atlaseg.workflows.benchmarking.folds import make_folds

NUMBER, NAME = 501, "Dataset501_Beside"
TRAINER = "nnUNetTrainerMinutes"
TRAINER_CODE = '''
import os
from time import monotonic

import torch

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class nnUNetTrainerMinutes(nnUNetTrainer):
    """nnU-Net's trainer whose schedule follows the clock."""

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cpu")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        torch.set_num_threads(int(os.environ["BESIDE_THREADS"]))
        self.budget = 60 * float(os.environ["BESIDE_MINUTES"])
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 20, 1
        self.save_every = 10**9

    def run_training(self):
        self.on_train_start()
        begin = monotonic()
        while monotonic() - begin < self.budget:
            self.on_epoch_start()
            self.network.train()
            losses = []
            for _ in range(self.num_iterations_per_epoch):
                gone = min(1.0, (monotonic() - begin) / self.budget)
                for group in self.optimizer.param_groups:
                    group["lr"] = self.initial_lr * (1 - gone) ** 0.9
                if gone >= 1:
                    break
                losses.append(self.train_step(next(self.dataloader_train)))
            if not losses:
                break
            self.logger.log("lrs", self.optimizer.param_groups[0]["lr"], self.current_epoch)
            self.on_train_epoch_end(losses)
            with torch.no_grad():
                self.on_validation_epoch_start()
                self.on_validation_epoch_end([self.validation_step(next(self.dataloader_val))])
            self.on_epoch_end()
        self.print_to_log_file(f"{self.current_epoch * self.num_iterations_per_epoch} steps in the budget")
        self.on_train_end()

    def perform_actual_validation(self, save_probabilities=False):
        """Its fold holds no case back, so that there is nothing to validate."""
'''


def main() -> None:
    """Install, convert, train, predict and score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first", type=int, default=10)
    parser.add_argument("--last", type=int, default=60)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--threads", type=int, default=1)
    job = parser.parse_args()
    dataset = read_dataset(job.dataset)
    fold = make_folds([c.name for c in dataset.labelled], 5, 0, job.first, job.last)[0]
    job.out.mkdir(parents=True, exist_ok=True)
    if hasattr(os, "sched_setaffinity"):  # nothing that nnU-Net starts gets more cores than it was told
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: job.threads])
    tools = install(job.out / "env")
    folders = convert(dataset, dataset.subset(fold.training).cases, dataset.subset(fold.test).cases, job.out)
    settings = {
        **os.environ,
        **{
            key: str(job.out.resolve() / key)
            for key in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
        },
        "nnUNet_def_n_proc": "1",
        "nnUNet_compile": "f",
        "BESIDE_MINUTES": str(job.minutes),
        "BESIDE_THREADS": str(job.threads),
        "OMP_NUM_THREADS": str(job.threads),
    }

    def run(tool: str, *words: str | Path, done: Path) -> None:
        if not done.exists():
            print("+", tool, *words, flush=True)
            # training augments in its own process, and so on its one core; planning wants a number of threads there
            workers = {"nnUNet_n_proc_DA": "0" if tool == "nnUNetv2_train" else "1"}
            subprocess.run([tools / tool, *map(str, words)], env=settings | workers, check=True)
            done.parent.mkdir(parents=True, exist_ok=True)
            done.touch()

    marks = job.out / "done"
    run("nnUNetv2_plan_and_preprocess", "-d", str(NUMBER), "-c", "3d_fullres", "-np", "1", "-npfp", "1",
        "--verify_dataset_integrity", done=marks / "planned")  # fmt: skip
    run(
        "nnUNetv2_train",
        str(NUMBER),
        "3d_fullres",
        "all",
        "-tr",
        TRAINER,
        "-device",
        "cpu",
        done=marks / "trained",
    )
    for name, options in (("plain", ["--disable_tta"]), ("mirrored", [])):
        labels = job.out / f"labels-{name}"
        run("nnUNetv2_predict", "-d", str(NUMBER), "-i", folders["test"], "-o", labels, "-c", "3d_fullres", "-f", "all",
            "-tr", TRAINER, "-device", "cpu", "-npp", "1", "-nps", "1", *options, done=marks / name)  # fmt: skip
        scores = job.out / f"scores-{name}.csv"
        command = [
            sys.executable,
            "-m",
            "atlaseg.workflows.cli",
            "evaluate",
            labels,
            folders["truth"],
            "--out",
            scores,
        ]
        subprocess.run(command, check=True)


def install(folder: Path) -> Path:
    """nnU-Net in an environment of its own; returns where its commands lie."""
    tools = folder / ("Scripts" if os.name == "nt" else "bin")
    if not (folder / "installed").exists():
        venv.create(folder, with_pip=True, clear=True)
        constraints = Path(__file__).parents[2] / "constraints.txt"
        command = [tools / "python", "-m", "pip", "install", "--quiet", "-c", constraints, "nnunetv2"]
        subprocess.run(command, check=True)
        where = subprocess.run(
            [tools / "python", "-c", "import nnunetv2; print(nnunetv2.__path__[0])"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        (Path(where) / "training" / "nnUNetTrainer" / f"{TRAINER}.py").write_text(TRAINER_CODE)
        (folder / "installed").touch()
    return tools


def convert(
    dataset: Dataset, training: tuple[Case, ...], test: tuple[Case, ...], out: Path
) -> dict[str, Path]:
    """Training cases in nnU-Net's raw layout; the test scans and their labels in folders apart from each other."""
    if list(dataset.labels.values) != list(range(len(dataset.labels))):
        raise OptionError("nnU-Net wants label values 0, 1, 2, ...; this data set has others")
    raw, truth = out / "nnUNet_raw" / NAME, out / "truth"
    for case, images, labels in (
        *((case, raw / "imagesTr", raw / "labelsTr") for case in training),
        *((case, raw / "imagesTs", truth) for case in test),
    ):
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        if any(read_header(file).channels > 1 for file in case.images):
            raise OptionError(
                f"{case.name}: give each channel as a file of its own; nnU-Net takes no 4-D files"
            )
        for channel, file in enumerate(case.images):
            shutil.copyfile(file, images / f"{case.name}_{channel:04d}.nii.gz")
        if case.label is not None:
            shutil.copyfile(case.label, labels / f"{case.name}.nii.gz")
    content = {
        "channel_names": {str(n): name for n, name in enumerate(dataset.channels)},
        "labels": dict(zip(dataset.labels.names, dataset.labels.values, strict=True)),
        "numTraining": len(training),
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(content))
    return {"test": raw / "imagesTs", "truth": truth}


if __name__ == "__main__":
    main()
