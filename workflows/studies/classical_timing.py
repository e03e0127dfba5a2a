"""Time and memory of classical methods against the size of a volume."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from atlaseg.pipeline.system.peak_memory import peak_resident_bytes

if TYPE_CHECKING:
    from atlaseg.pipeline.classical.scan import Scan

__all__ = ["Timing", "time_method", "time_methods"]

#: Edge in voxels of the two scans that a method learns from.
TRAINING_SIZE = 48
#: Processor seconds after which a measurement is given up.
LIMIT_SECONDS = 600


@dataclass(frozen=True)
class Timing:
    """A volume labelled by a method.

    Args:
        method: with its options.
        size: edge of the cube, in voxels.
        seconds: of processor time.
        peak_mb: highest resident memory of the process, in 10^6 bytes, libraries and the scan included.
        chosen: options that the two training scans chose.
    """

    method: str
    size: int
    seconds: float
    peak_mb: float
    chosen: str = ""


def time_methods(
    texts: Sequence[str], sizes: Sequence[int], failed: list[str], limit: int = LIMIT_SECONDS
) -> Iterator[Timing]:
    """Time each method on each size, in a process of its own, so that peaks of memory are its own, too.

    Args:
        texts: methods, with options or without.
        sizes: edges of cubes.
        failed: takes a line for each measurement that did not succeed.
        limit: processor seconds for each, learning included, where the system can limit them (not on Windows).
    """
    from concurrent.futures.process import BrokenProcessPool

    from atlaseg.pipeline.errors import AtlasegError
    from atlaseg.pipeline.system.worker_processes import worker_pool

    for text in texts:
        for size in sizes:
            with worker_pool(1, initializer=_limit_time, initargs=(limit,)) as executor:
                try:
                    yield executor.submit(time_method, text, size).result()
                except BrokenProcessPool:
                    failed.append(
                        f"{text} {size}^3: ended early, by more than {limit} s of processor time or lack of memory"
                    )
                except (AtlasegError, MemoryError) as error:
                    failed.append(f"{text} {size}^3: {' '.join(str(error).split())}")


def _limit_time(seconds: int) -> None:
    """Limit the processor time of this process."""
    import sys

    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


def time_method(text: str, size: int) -> Timing:
    """Train a method on two small synthetic scans, and segment one of the given size."""
    from dataclasses import fields, replace

    from atlaseg.pipeline.classical.choosing import choose_options
    from atlaseg.pipeline.classical.learning import label_scan, learn
    from atlaseg.pipeline.classical.location_prior import LocationPrior
    from atlaseg.pipeline.classical.registry import make_method, read_options

    name, *words = text.split(":")
    asked = make_method(name, read_options(name, words))
    scans, labels = zip(*(made_scan(TRAINING_SIZE, seed) for seed in (1, 3)), strict=True)
    options = choose_options(asked, scans, labels, 3)
    location = LocationPrior.learn(scans, labels, 3)
    learnt = learn(name, options, scans, labels, 3, location)
    target, _ = made_scan(size, seed=2)
    begun = time.process_time()
    label_scan(name, options, replace(target, prior=location.on(target)), learnt)
    seconds = time.process_time() - begun
    names = [field.name for field in fields(options) if field.init]
    chosen = {n: getattr(options, n) for n in names if getattr(options, n) != getattr(asked, n)}
    return Timing(
        text, size, seconds, peak_resident_bytes() / 1e6, " ".join(f"{n}={v:g}" for n, v in chosen.items())
    )


def made_scan(size: int, seed: int) -> tuple[Scan, Any]:
    """A ball in a ball in noise, of three intensities, with its labels 0, 1 and 2; the same shape at every size."""
    import numpy as np

    from atlaseg.pipeline.classical.scan import Scan

    axis = ((np.arange(size) + 0.5) / size - 0.5) ** 2
    radius = np.sqrt(axis[:, None, None] + axis[None, :, None] + axis[None, None, :])
    labels = (radius < 0.4).astype(np.int64) + (radius < 0.2)
    noise = np.random.default_rng(seed).standard_normal(labels.shape, dtype=np.float32)
    # voxels of 128 mm / size: the same field of view at every size
    affine = np.diag([128 / size] * 3 + [1.0])
    return Scan.of(labels.astype(np.float32) + 0.3 * noise, affine), labels
