"""``atlaseg study fusion``: time, memory and Dice of joint fusion and STAPLE beside ANTs' and SimpleITK's."""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from atlaseg.pipeline.errors import DatasetError, OptionError
from atlaseg.pipeline.schema import Count, Positive, Whole
from atlaseg.pipeline.system.peak_memory import peak_resident_bytes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import SimpleITK as sitk

    from atlaseg.atlases.fusion.candidates import Candidates
    from atlaseg.pipeline.case import Dataset

__all__ = ["METHODS", "FusionBenchmark", "FusionMeasurement"]

#: Method by name, and what the table calls it; each of ours is followed by those it is compared with.
METHODS: dict[str, str] = {
    "joint": "JointFusion",
    "ants": "ants.joint_label_fusion, where any atlas has a label",
    "ants-disputed": "ants.joint_label_fusion, where atlases differ",
    "staple": "Staple",
    "itk-multilabel": "SimpleITK.MultiLabelSTAPLE",
    "itk-binary": "SimpleITK.STAPLE, label by label",
}
_OURS = {"ants": "joint", "ants-disputed": "joint", "itk-multilabel": "staple", "itk-binary": "staple"}
#: Variables by which the libraries are told how many threads to use, read when they are loaded.
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


@dataclass(frozen=True)
class FusionMeasurement:
    """One fusion in a process of its own.

    Args:
        seconds: wall-clock time, without imports and reading.
        cpu_seconds: processor time of the same, which other work on the machine disturbs less.
        peak_gb: largest resident memory of the whole process, in 1e9 bytes, Python and libraries included.
        dice: mean over the structures of the target.
    """

    seconds: float
    cpu_seconds: float
    peak_gb: float
    dice: float


@dataclass(frozen=True)
class FusionBenchmark:
    """Carry atlases to one scan, fuse them with atlaseg, ANTs and SimpleITK, and print time, memory and Dice.

    The registration is made once and is not timed. Each fusion runs on one thread in a process of its own; the
    table gives medians. ANTs runs twice: with the mask that its users give it, and with our list of voxels on which
    the atlases differ (and the patches around them). Labels are counted from 1 for it, because it has no votes for 0.

    Args:
        out: File for the figures as JSON.
        data: Folder of labelled scans; without one, a phantom is made.
        target: Case to be labelled; the first by name if not given. All others are atlases.
        transform: Registration of the atlases: affine, bspline, syn or deformable.
        engine: Registration engine.
        patch_radius: Of joint fusion (both), voxels.
        search_radius: Of joint fusion (both), voxels.
        alpha: Of joint fusion (both); ANTs calls it rho.
        beta: Of joint fusion (both).
        repeats: Runs of each method.
        methods: Which to run.
    """

    out: Path | None = None
    data: Path | None = None
    target: str | None = None
    transform: Literal["affine", "bspline", "syn", "deformable"] = "deformable"
    engine: str = "auto"
    patch_radius: Whole = 2
    search_radius: Whole = 1
    alpha: Positive = 0.1
    beta: Positive = 2.0
    repeats: Count = 3
    methods: tuple[str, ...] = tuple(METHODS)

    def run(self) -> int:
        """Measure every method, print the table, and return 0.

        Raises:
            OptionError: a number is out of range, or there is no such method.
            DatasetError: fewer than three labelled scans, or the target is not one of them.
        """
        if self.repeats < 1:
            raise OptionError(f"--repeats must be at least 1, found {self.repeats}")
        if unknown := [name for name in self.methods if name not in METHODS]:
            raise OptionError(f"--methods: no method {unknown[0]!r}; choose from {', '.join(METHODS)}")
        with tempfile.TemporaryDirectory() as folder:
            inputs = Path(folder) / "candidates.npz"
            about = self._carried(inputs, Path(folder))
            results: dict[str, list[FusionMeasurement]] = {method: [] for method in self.methods}
            for repeat in range(self.repeats):
                for method, measurements in results.items():
                    measurements.append(self._measured(method, inputs))
                    last = measurements[-1]
                    print(
                        f"run {repeat + 1} of {self.repeats}, {method}: {last.seconds:.2f} s "
                        f"({last.cpu_seconds:.2f} s processor), {last.peak_gb:.2f} GB, Dice {last.dice:.4f}",
                        file=sys.stderr,
                        flush=True,
                    )
        medians = {method: _median(runs) for method, runs in results.items()}
        print(about)
        print(self._table(medians))
        if self.out is not None:
            from atlaseg.pipeline.io.files import write_text

            figures = {
                "about": about,
                "medians": {method: asdict(median) for method, median in medians.items()},
                "runs": {method: [asdict(run) for run in runs] for method, runs in results.items()},
            }
            write_text(self.out, json.dumps(figures, indent=2) + "\n")
        return 0

    def _carried(self, inputs: Path, scratch: Path) -> str:
        """Register all atlases to the target, keep what is fused in a file, and say in one line what it is."""
        import numpy as np

        from atlaseg.atlases.registration.intensity_scale import rescale_itk
        from atlaseg.atlases.registration.register import register
        from atlaseg.atlases.registration.transforms.frames import from_itk, read_itk, to_itk
        from atlaseg.atlases.registration.transforms.resampling import resample_image, resample_labels
        from atlaseg.pipeline.io.volume import read_header, read_label_map

        dataset = self._dataset(scratch)
        cases = {case.name: case for case in dataset.labelled}
        if len(cases) < 3:
            raise DatasetError(f"fusion takes at least three labelled scans, {dataset.name} has {len(cases)}")
        name = min(cases) if self.target is None else self.target
        if name not in cases:
            raise DatasetError(f"{dataset.name} has no labelled case {name}; it has {', '.join(cases)}")

        def label_map(case: str) -> sitk.Image:
            path = cases[case].label
            if path is None:
                raise DatasetError(f"case {case} has no label map")
            indices = dataset.labels.to_indices(read_label_map(path)).astype(np.uint16)
            return to_itk(indices, read_header(path).affine)

        fixed = rescale_itk(read_itk(cases[name].images[0]))
        images, labels = [], []
        for atlas in sorted(cases.keys() - {name}):
            print(f"registering {atlas} to {name}", file=sys.stderr, flush=True)
            moving = rescale_itk(read_itk(cases[atlas].images[0]))
            found = register(fixed, moving, self.transform, engine=self.engine).transform
            images.append(from_itk(resample_image(moving, fixed, found))[0][None])
            labels.append(from_itk(resample_labels(label_map(atlas), fixed, found))[0])
        np.savez(
            inputs,
            labels=np.stack(labels).astype(np.uint16),
            classes=len(dataset.labels),
            images=np.stack(images).astype(np.float32),
            target=from_itk(fixed)[0][None].astype(np.float32),
            truth=from_itk(label_map(name))[0],
        )
        grid = " x ".join(str(n) for n in fixed.GetSize())
        return (
            f"{len(images)} atlases of {dataset.name} to {name} ({self.transform}), {grid} voxels, "
            f"{len(dataset.labels)} labels; patch radius {self.patch_radius}, search radius {self.search_radius}, "
            f"alpha {self.alpha:g}, beta {self.beta:g}; one thread, median of {self.repeats}"
        )

    def _dataset(self, scratch: Path) -> Dataset:
        from atlaseg.pipeline.datasets.reader import read_dataset
        from atlaseg.pipeline.synthetic.brain_phantom import write_phantom

        if self.data is not None:
            return read_dataset(self.data)
        return write_phantom(scratch / "phantom", 5, spacing=(3.0, 3.0, 3.0))

    def _measured(self, method: str, inputs: Path) -> FusionMeasurement:
        """One fusion in a fresh process, so that its peak memory and its threads are its own."""
        from atlaseg.pipeline.system.worker_processes import worker_pool

        with _one_thread(), worker_pool(1) as executor:
            return executor.submit(_measure, self, method, inputs).result()

    def _table(self, medians: dict[str, FusionMeasurement]) -> str:
        lines = [
            "| method | seconds | processor seconds | times ours | peak memory GB | mean Dice |",
            "|---|---|---|---|---|---|",
        ]
        for method, median in medians.items():
            ours = medians.get(_OURS.get(method, ""))
            ratio = "" if ours is None else f"{median.cpu_seconds / ours.cpu_seconds:.1f}"
            lines.append(
                f"| {METHODS[method]} | {median.seconds:.2f} | {median.cpu_seconds:.2f} | {ratio} | "
                f"{median.peak_gb:.2f} | {median.dice:.4f} |"
            )
        return "\n".join(lines)


def _median(runs: list[FusionMeasurement]) -> FusionMeasurement:
    columns = zip(*[(r.seconds, r.cpu_seconds, r.peak_gb, r.dice) for r in runs], strict=True)
    return FusionMeasurement(*(statistics.median(values) for values in columns))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Processes started within use one thread."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _measure(job: FusionBenchmark, method: str, inputs: Path) -> FusionMeasurement:
    """Fuse by one method in this process."""
    import numpy as np

    from atlaseg.atlases.fusion.candidates import Candidates

    with np.load(inputs) as held:
        truth = held["truth"]
        candidates = Candidates(
            held["labels"], int(held["classes"]), images=held["images"], target=held["target"]
        )
    prepare = {
        "joint": _joint,
        "ants": _ants,
        "ants-disputed": _ants_disputed,
        "staple": _staple,
        "itk-multilabel": _itk_multilabel,
        "itk-binary": _itk_binary,
    }[method]
    fuse = prepare(job, candidates)
    start, cpu_start = time.perf_counter(), time.process_time()
    labels = fuse()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    present = [k for k in range(1, candidates.classes) if (truth == k).any()]
    scores = [
        2 * int(((labels == k) & (truth == k)).sum()) / int((labels == k).sum() + (truth == k).sum())
        for k in present
    ]
    return FusionMeasurement(seconds, cpu_seconds, peak_resident_bytes() / 1e9, sum(scores) / len(scores))


_Fuse = Callable[[], Any]


def _joint(job: FusionBenchmark, candidates: Candidates) -> _Fuse:
    from atlaseg.atlases.fusion.joint import JointFusion

    rule = JointFusion(
        patch_radius=job.patch_radius, search_radius=job.search_radius, alpha=job.alpha, beta=job.beta
    )
    # with probabilities, as ANTs gives them too
    return lambda: rule.fuse(candidates, probabilities=True).labels


def _staple(_: FusionBenchmark, candidates: Candidates) -> _Fuse:
    from atlaseg.atlases.fusion.staple import Staple

    return lambda: Staple().fuse(candidates, probabilities=False).labels


def _ants(job: FusionBenchmark, candidates: Candidates) -> _Fuse:
    import numpy as np

    return _ants_within(job, candidates, np.any(candidates.labels > 0, axis=0))


def _ants_disputed(job: FusionBenchmark, candidates: Candidates) -> _Fuse:
    from atlaseg.atlases.fusion.voting import disagreement

    disputed, agreed = disagreement(candidates)
    fuse = _ants_within(job, candidates, disputed)

    def filled() -> npt.NDArray[np.integer[Any]]:
        agreed[disputed] = fuse()[disputed]
        return agreed

    return filled


def _ants_within(
    job: FusionBenchmark, candidates: Candidates, region: npt.NDArray[Any]
) -> Callable[[], npt.NDArray[np.integer[Any]]]:
    """ANTs' fusion with the middles of its patches in a region and as far around it as patches reach."""
    import ants
    import numpy as np

    from atlaseg.atlases.fusion.patches import dilated

    def image(voxels: npt.NDArray[Any]) -> Any:
        return ants.from_numpy(np.ascontiguousarray(voxels, dtype=np.float32))

    mask = image(dilated(region, (job.patch_radius,) * 3))
    images, scan = candidates.intensities("joint")
    target = image(scan[0])
    atlases = [image(atlas[0]) for atlas in images]
    labels = [image(atlas.astype(np.float32) + 1) for atlas in candidates.labels]

    def fuse() -> npt.NDArray[np.integer[Any]]:
        fused = ants.joint_label_fusion(
            target,
            mask,
            atlases,
            label_list=labels,
            beta=job.beta,
            rho=job.alpha,
            rad=[job.patch_radius] * 3,
            r_search=job.search_radius,
        )
        found = fused["segmentation"].numpy().astype(np.int64)
        return np.maximum(found, 1) - 1

    return fuse


def _itk_labels(candidates: Candidates) -> list[sitk.Image]:
    import numpy as np
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    return [sitk.GetImageFromArray(np.ascontiguousarray(labels)) for labels in candidates.labels]


def _itk_multilabel(_: FusionBenchmark, candidates: Candidates) -> _Fuse:
    import SimpleITK as sitk

    images = _itk_labels(candidates)

    def fuse() -> npt.NDArray[np.integer[Any]]:
        # a label that no input has stands for "undecided": those voxels become background
        fused = sitk.GetArrayFromImage(sitk.MultiLabelSTAPLE(images, candidates.classes))
        fused[fused == candidates.classes] = 0
        result: npt.NDArray[np.integer[Any]] = fused
        return result

    return fuse


def _itk_binary(_: FusionBenchmark, candidates: Candidates) -> _Fuse:
    import numpy as np
    import SimpleITK as sitk

    images = _itk_labels(candidates)

    def fuse() -> npt.NDArray[np.integer[Any]]:
        best = np.full(candidates.spatial_shape, 0.5)
        labels = np.zeros(candidates.spatial_shape, dtype=candidates.labels.dtype)
        for label in range(1, candidates.classes):
            # by position, it takes no names: weight of the prior (the default), label
            probability = sitk.GetArrayFromImage(sitk.STAPLE(images, 1.0, label))
            labels[probability > best] = label
            best = np.maximum(best, probability)
        return labels

    return fuse
