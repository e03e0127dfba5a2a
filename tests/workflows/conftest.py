"""A benchmark's folder as ``atlaseg benchmark`` leaves it, made in a second from ellipsoids."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

#: Names that a page must never take for markup, and that a table must never take for numbers or for nothing.
HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "NA", "007")
METHODS = (
    ("joint-fusion", "joint-fusion", {}, 0.55),
    ("unet:depth=context,minutes=12", "unet", {"depth": "context", "minutes": 12}, 0.8),
    ("unet:depth=standard,minutes=12", "unet", {"depth": "standard", "minutes": 12}, 0.95),
    ("atlas-unet:prior=joint", "atlas-unet", {"prior": "joint"}, 0.4),
    ("majority", "majority", {}, 1.1),
    ("watershed", "watershed", {"compactness": 0.01}, 2.2),
)


@dataclass
class MadeBenchmark:
    """Writes a data set and a benchmark of it.

    Predictions are the truth under a smooth random shift of its surfaces that grows with the method's error and
    shrinks with the number of labels, so that scores, curves and tests look like those of real methods.
    """

    folder: Path
    cases: Sequence[str] = ("case_01", "case_02", "case_03", "case_04", "case_05", "case_06")
    methods: Sequence[tuple[str, str, dict[str, Any], float]] = METHODS
    labels: Sequence[int | None] = (None,)
    folds: int = 2
    structures: dict[str, int] = field(
        default_factory=lambda: {"Anterior": 1, "Posterior": 2, "Ventricle": 5}
    )
    shape: tuple[int, int, int] = (36, 50, 34)
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.2)
    probabilities: bool = True
    #: cases that a method has no label map of
    failing: dict[str, str] = field(default_factory=dict)
    finished: bool = True

    @property
    def dataset(self) -> Path:
        return self.folder / "data of Dr Doe"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def write(self) -> Path:
        """Write everything; returns the benchmark's folder."""
        from atlaseg.pipeline.case import LabelTable
        from atlaseg.workflows.benchmarking.summary_tables import write_about, write_tables

        self.table = LabelTable.from_names(self.structures)
        truths = {case: self._case(number, case) for number, case in enumerate(self.cases)}
        self._json(self.dataset / "labels.json", {"background": 0} | self.structures)
        cells = [
            self._cell(index, method, few, fold, truths)
            for few in self.labels
            for index, method in enumerate(self.methods)
            for fold in range(self.folds)
        ]
        write_tables(self.out, cells, 0)
        write_about(self.out, self._about())
        (self.out / "dataset.path").write_text(f"{self.dataset}\n", encoding="utf-8")
        return self.out

    def _about(self) -> dict[str, Any]:
        return {
            "format": 1,
            "dataset": "Hippocampus (made of ellipsoids)",
            "command": [
                "atlaseg",
                "benchmark",
                "Task04_Hippocampus",
                "--methods",
                ",".join(m[0] for m in self.methods),
            ],
            "seed": 0,
            "folds": self.folds,
            "first": None,
            "last": None,
            "labels": list(self.labels),
            "minutes": 12,
            "tolerance_mm": 1.0,
            "methods": [{"name": n, "method": k, "kind": k, "options": o} for n, k, o, _ in self.methods],
            "structures": {str(value): name for name, value in self.structures.items()},
            "cases": len(self.cases),
            "versions": {"python": "3.11.4", "atlaseg": "0.1.0", "torch": "2.13.0", "monai": "1.5.1"},
            "cpu": "AMD EPYC 7B13",
            "cores": 2,
            "finished": self.finished,
        }

    def _case(self, number: int, case: str) -> tuple[np.ndarray, np.ndarray]:
        """Signed distances ``(K - 1, *shape)`` in voxels and the truth; scan and truth are written."""
        from scipy.ndimage import gaussian_filter

        rng = np.random.default_rng(number)
        grid = np.stack(np.meshgrid(*[np.arange(n) for n in self.shape], indexing="ij"), -1).astype(float)
        middle = np.array(self.shape) / 2 + rng.uniform(-2, 2, 3)
        distances = []
        for k in range(len(self.structures)):
            angle = 2 * np.pi * k / len(self.structures) + 0.5
            centre = middle + np.array([3 * np.cos(angle), 10 * np.sin(angle), 2.5 * np.cos(2 * angle)])
            radii = np.array([6, 8, 5]) * (1 - 0.12 * k) * rng.uniform(0.9, 1.1, 3)
            distances.append((1 - np.linalg.norm((grid - centre) / radii, axis=-1)) * radii.min())
        field_ = np.stack(distances) + gaussian_filter(rng.normal(size=self.shape), 3) * 14
        truth = self._labels(field_)
        image = gaussian_filter((truth > 0) * 60.0 + truth * 12.0, 0.7)
        image += gaussian_filter(rng.normal(size=self.shape), 5) * 500 + rng.normal(0, 5, self.shape) + 90
        self._volume(self.dataset / "images" / f"{case}.nii.gz", image.astype(np.float32))
        self._volume(self.dataset / "labels" / f"{case}.nii.gz", truth)
        return field_, truth

    def _labels(self, distances: np.ndarray) -> np.ndarray:
        values = np.array(sorted(self.structures.values()), np.uint8)
        return np.where(distances.max(0) > 0, values[distances.argmax(0)], 0).astype(np.uint8)

    def _cell(
        self, index: int, method: Any, few: int | None, fold: int, truths: dict[str, Any]
    ) -> dict[str, Any]:
        from atlaseg.pipeline.evaluation.scores import compare_case, missing_prediction

        name, kind, _, error = method
        folder = (
            self.out
            / "cells"
            / f"{kind}-{index:08x}"
            / f"labels-{'all' if few is None else few}"
            / f"fold-{fold}"
        )
        test = [case for n, case in enumerate(self.cases) if n % self.folds == fold]
        scores, failures, confusion = [], [], np.zeros((len(self.table),) * 2, np.int64)
        times = [
            {
                "case": "",
                "stage": "fit",
                "seconds": 700.0 / (1 + index),
                "cpu_seconds": 700.0,
                "peak_mib": 2100.0,
            }
        ]
        for case in test:
            distances, truth = truths[case]
            if self.failing.get(name) == case:
                found = missing_prediction(truth, self.table, self.spacing, case=case)
                failures.append(
                    {"case": case, "error": f"{self.folder}/{case}.nii.gz: <b>not</b> registered"}
                )
            else:
                rng = np.random.default_rng([index, few or 999, self.cases.index(case)])
                size = error * (2.2 / np.sqrt(few) + 0.45 if few else 0.75) * rng.uniform(0.6, 1.6)
                predicted = self._predict(folder, case, distances, size, rng, few == self.labels[-1])
                found = compare_case(predicted, truth, self.table, self.spacing, 1.0, case=case)
                seconds = 1.5 * 4 ** (index % 4) * float(rng.uniform(0.9, 1.1))
                times.append(
                    {
                        "case": case,
                        "stage": "segment",
                        "seconds": seconds,
                        "cpu_seconds": seconds,
                        "peak_mib": 900.0,
                    }
                )
            scores += [score.as_row() for score in found.scores]
            confusion += found.confusion
        content = {
            **{"format": 1, "method": name, "labels": few, "fold": fold, "training": [], "test": test},
            **{"scores": scores, "times": times, "failures": failures, "confusion": confusion.tolist()},
        }
        self._json(folder / "cell.json", content)
        return content

    def _predict(
        self, folder: Path, case: str, distances: np.ndarray, size: float, rng: Any, kept: bool
    ) -> np.ndarray:
        from scipy.ndimage import gaussian_filter
        from scipy.special import softmax

        noise = gaussian_filter(rng.normal(size=distances.shape), (0, 2.5, 2.5, 2.5)) * 18
        moved = distances + size * noise
        predicted = self._labels(moved)
        if kept:
            self._volume(folder / "labels" / f"{case}.nii.gz", predicted)
            if self.probabilities:
                logits = np.concatenate([np.zeros((1, *self.shape)), moved * 1.6])
                voxels = np.moveaxis(softmax(logits, axis=0), 0, -1).astype(np.float32)
                self._volume(folder / "probabilities" / f"{case}.nii.gz", voxels)
        return predicted

    def _volume(self, path: Path, voxels: np.ndarray) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # left-posterior-superior on disk, as converters often leave it
        image = nib.Nifti1Image(voxels, np.diag([-self.spacing[0], -self.spacing[1], self.spacing[2], 1]))
        nib.save(image, path)

    def _json(self, path: Path, content: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture(scope="session")
def made_benchmark(tmp_path_factory: pytest.TempPathFactory) -> MadeBenchmark:
    """A finished benchmark with three numbers of labels and a failed case, for tests to read."""
    made = MadeBenchmark(
        tmp_path_factory.mktemp("benchmark"), labels=(5, 10, None), failing={"watershed": "case_03"}
    )
    made.write()
    return made


@pytest.fixture(scope="session")
def hostile_benchmark(tmp_path_factory: pytest.TempPathFactory) -> MadeBenchmark:
    """Names of cases, structures, methods and errors that try to be markup, numbers or nothing."""
    made = MadeBenchmark(
        tmp_path_factory.mktemp("hostile"),
        cases=(*(name.replace("/", "∕") for name in HOSTILE), "b&amp;c", "plain"),
        methods=(METHODS[0], ("unet:<script>alert(3)</script>", "unet", {"x": "</style><script>"}, 1.0)),
        structures={"<script>alert(4)</script>": 1, "</svg><img src=x>": 7},
        failing={"unet:<script>alert(3)</script>": "NA"},
    )
    made.write()
    return made


@pytest.fixture
def make_benchmark(tmp_path: Path) -> Any:
    """Writer of benchmarks in a folder of their own: ``make_benchmark(cases=..., ...).write()``."""
    return lambda **settings: MadeBenchmark(tmp_path, **settings)
