"""Time and memory of segmenting a scan, compared with MONAI's SlidingWindowInferer and argmax."""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.schema import Count, Positive, Whole
from atlaseg.pipeline.system.peak_memory import peak_resident_bytes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from monai.data import MetaTensor
    from monai.transforms import Compose
    from torch import nn

__all__ = ["InferenceBenchmark", "Measurement"]

_METHODS: dict[str, str] = {"atlaseg": "label_scan", "monai": "SlidingWindowInferer + argmax"}


@dataclass(frozen=True, eq=False)
class Measurement:
    """Measurement of one segmentation in a separate process.

    Args:
        seconds: wall-clock time of the labelling, without imports and the making of the scan.
        cpu_seconds: processor time of the same, which other work on the machine disturbs less.
        peak_gb: largest resident memory of the whole process, in 1e9 bytes, Python and libraries included.
        labels: channel indices on the scan's grid.
    """

    seconds: float
    cpu_seconds: float
    peak_gb: float
    labels: npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class InferenceBenchmark:
    """Segment one synthetic scan with atlaseg and with MONAI's inferer, and print time and peak memory.

    The network has random weights, since neither time nor memory depends on them. Each labelling runs in a
    process of its own; the table gives medians, and the share of voxels that the two label differently.

    Args:
        size: Voxels of the scan along each axis.
        classes: Number of classes, background included.
        spacing: Voxel size of the network's grid, that of the scan being 1; other than 1, labels are resampled.
        patch: Voxels of the window along each axis.
        overlap: Share by which neighbouring windows overlap.
        channels: Feature channels of the network at each resolution.
        residual_units: Convolutions of each residual unit of the network; 0 for a plain U-Net.
        channels_last: Keep the network's weights (both methods) in the memory order channels_last_3d.
        precision: Arithmetic of the network (both methods).
        threads: Processor threads.
        repetitions: Runs of each method.
    """

    size: Count = 256
    classes: Count = 37
    spacing: Positive = 1.0
    patch: Count = 64
    overlap: float = 0.5
    channels: tuple[Count, ...] = (16, 32, 64, 128)
    residual_units: Whole = 0
    channels_last: bool = True
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    threads: Count = 1
    repetitions: Count = 3

    def run(self) -> int:
        """Measure both methods, print the table, and return 0.

        Raises:
            OptionError: a number is not positive.
        """
        numbers = {
            name: getattr(self, name)
            for name in ("size", "classes", "spacing", "patch", "threads", "repetitions")
        }
        if wrong := [name for name, value in numbers.items() if not value > 0]:
            raise OptionError(f"--{wrong[0]} must be greater than 0, found {numbers[wrong[0]]}")
        results: dict[str, list[Measurement]] = {method: [] for method in _METHODS}
        for repetition in range(self.repetitions):
            for method, measurements in results.items():
                measurements.append(self._measured(method))
                last = measurements[-1]
                print(
                    f"run {repetition + 1} of {self.repetitions}, {method}: {last.seconds:.1f} s "
                    f"({last.cpu_seconds:.1f} s processor), {last.peak_gb:.2f} GB",
                    file=sys.stderr,
                    flush=True,
                )
        print(self._table(results))
        return 0

    def _measured(self, method: str) -> Measurement:
        """Measure one segmentation in a new process, so that its peak memory is not that of others."""
        from atlaseg.pipeline.system.worker_processes import worker_pool

        with worker_pool(1) as executor:
            return executor.submit(_measure, self, method).result()

    def _table(self, results: dict[str, list[Measurement]]) -> str:
        lines = ["| method | seconds | processor seconds | peak memory GB |", "|---|---|---|---|"]
        for method, runs in results.items():
            medians = [
                statistics.median(values)
                for values in zip(*[(r.seconds, r.cpu_seconds, r.peak_gb) for r in runs], strict=True)
            ]
            lines.append(f"| {_METHODS[method]} | {medians[0]:.1f} | {medians[1]:.1f} | {medians[2]:.2f} |")
        ours, plain = results["atlaseg"][0].labels, results["monai"][0].labels
        different = int((ours != plain).sum())
        lines.append("")
        lines.append(f"{different} of {ours.size} voxels have different labels.")
        return "\n".join(lines)


def _measure(job: InferenceBenchmark, method: str) -> Measurement:
    """Label the scan with one method in this process."""
    import torch

    torch.set_num_threads(job.threads)
    image, transform = _preprocessed_scan(job)
    network = _network(job)
    label = {"atlaseg": _by_atlaseg, "monai": _by_monai}[method]
    start, cpu_start = time.perf_counter(), time.process_time()
    labels = label(job, image, transform, network)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    return Measurement(seconds, cpu_seconds, peak_resident_bytes() / 1e9, labels)


def _preprocessed_scan(job: InferenceBenchmark) -> tuple[MetaTensor, Compose]:
    """Random intensities on the network's grid, and the transform that took them there."""
    import torch
    from monai.data import MetaTensor
    from monai.transforms import Compose, Spacingd

    generator = torch.Generator().manual_seed(0)
    voxels = torch.randn((1, *(job.size,) * 3), generator=generator)
    # single precision: double would make preprocessing, which is not measured, the peak of memory
    transform = Compose(
        [
            Spacingd(
                "image", pixdim=(job.spacing,) * 3, mode="bilinear", padding_mode="border", dtype="float32"
            )
        ]
    )
    return transform({"image": MetaTensor(voxels, affine=torch.eye(4, dtype=torch.float64))})[
        "image"
    ], transform


def _network(job: InferenceBenchmark) -> nn.Module:
    import torch

    from atlaseg.pipeline.networks.registry import build_network
    from atlaseg.pipeline.planning.plan import NetworkPlan

    torch.manual_seed(0)
    plan = NetworkPlan(
        channels=job.channels,
        strides=((2, 2, 2),) * (len(job.channels) - 1),
        residual_units=job.residual_units,
    )
    network = build_network(
        plan, spatial_dims=3, in_channels=1, out_channels=job.classes, patch_size=(job.patch,) * 3
    ).eval()
    if job.channels_last:
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return network


def _by_atlaseg(
    job: InferenceBenchmark, image: MetaTensor, _: Compose, network: nn.Module
) -> npt.NDArray[np.integer[Any]]:
    import numpy as np

    from atlaseg.pipeline.inference.labelling import label_scan
    from atlaseg.pipeline.inference.windows import SlidingWindow
    from atlaseg.pipeline.io.grid import Grid

    window = SlidingWindow((job.patch,) * 3, job.overlap, precision=job.precision)
    grid = Grid((job.size,) * 3, np.eye(4))
    labels, _probabilities = label_scan(image, [network], window, classes=job.classes, grid=grid)
    return labels


def _by_monai(
    job: InferenceBenchmark, image: MetaTensor, transform: Compose, network: nn.Module
) -> npt.NDArray[np.integer[Any]]:
    import torch
    from monai.inferers import SlidingWindowInferer
    from monai.transforms import Invertd

    inferer = SlidingWindowInferer(
        (job.patch,) * 3, sw_batch_size=1, overlap=job.overlap, mode="gaussian", padding_mode="replicate"
    )
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(job.precision)
    with torch.inference_mode():
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            scores = inferer(image[None], network)[0]
        if job.spacing != 1:
            back = Invertd("scores", transform, orig_keys="image", nearest_interp=False)
            scores = back({"image": image, "scores": torch.softmax(scores, dim=0)})["scores"]
        labels = scores.argmax(dim=0).to(torch.uint8 if job.classes <= 256 else torch.int32)
    result: npt.NDArray[np.integer[Any]] = labels.numpy()
    return result
