"""Propagate all atlases of a set to one scan."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.atlas import Atlas
from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.atlases.fusion.candidates import Candidates
from atlaseg.atlases.propagation.carrying import Arrived, Scan, Steps, Task, carry
from atlaseg.atlases.propagation.failed_registrations import leave_out
from atlaseg.atlases.propagation.linear_start import LINEAR_STARTS
from atlaseg.atlases.propagation.quality import Quality, assess
from atlaseg.atlases.propagation.selection import select
from atlaseg.atlases.propagation.waiting import as_they_finish
from atlaseg.atlases.propagation.work_folder import digest_of_arrays
from atlaseg.atlases.registration.defaults import DEFAULT_TRANSFORM, default_engine, default_linear_engine
from atlaseg.atlases.registration.engine import RegistrationError
from atlaseg.atlases.registration.intensity_scale import rescale
from atlaseg.atlases.registration.register import engine_for
from atlaseg.atlases.registration.stage import LINEAR, METRICS, Stage, stages_of
from atlaseg.atlases.registration.transforms.jacobian import JacobianStatistics
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.errors import AtlasegError, GeometryError, OptionError
from atlaseg.pipeline.io.mask import inside_of
from atlaseg.pipeline.progress import Progress

if TYPE_CHECKING:
    from monai.data import MetaTensor

__all__ = ["Carried", "Propagation", "PropagationOptions", "propagate"]


@dataclass(frozen=True)
class PropagationOptions:
    """Options of a propagation that change its result.

    Args:
        transform: name of a transform, or stages that are run as they are.
        engine: of the last stage where a transform is named, of all stages else; ``auto``, or a name of
            :data:`atlaseg.atlases.registration.engines.registry.ENGINES`.
        linear: where ``bspline``, ``syn`` and ``deformable`` begin: ``auto``, ``rigid`` or ``affine``
            (:func:`atlaseg.atlases.propagation.linear_start.linear_start`); without effect on stages and on linear
            transforms.
        linear_engine: engine of that beginning; ``auto`` as
            :func:`atlaseg.atlases.registration.defaults.default_linear_engine`.
        initial: where the first stage begins (:func:`initial_transform`).
        same_modality: whether scan and atlases come from the same kind of scanner and sequence.
        channel: that is registered, of images with several.
        seed: of everything random.
        keep: how many atlases to register in full, the most similar after the linear stages; ``None``: all.
        selection_metric: that ranks them (:func:`atlaseg.atlases.propagation.selection.select`).
        quality_control: leave out atlases whose registration failed
            (:func:`atlaseg.atlases.propagation.failed_registrations.leave_out`).

    Raises:
        OptionError: an option has an unknown value.
    """

    transform: str | tuple[Stage, ...] = DEFAULT_TRANSFORM
    engine: str = "auto"
    linear: str = "auto"
    linear_engine: str = "auto"
    initial: str = "auto"
    same_modality: bool = True
    channel: int = 0
    seed: int = 0
    keep: int | None = None
    selection_metric: str = "ncc"
    quality_control: bool = True

    def __post_init__(self) -> None:
        if self.linear not in LINEAR_STARTS:
            raise OptionError(f"no linear start {self.linear!r}; choose one of {', '.join(LINEAR_STARTS)}")
        if self.selection_metric not in METRICS:
            raise OptionError(f"no metric {self.selection_metric!r}; choose one of {', '.join(METRICS)}")
        if self.keep is not None and self.keep < 1:
            raise OptionError(
                f"keep at least 1 atlas, found {self.keep}; or leave the option out to keep all"
            )
        if isinstance(self.transform, str):
            stages_of(self.transform)

    def steps(self) -> Steps:
        """The linear step and what comes after it.

        Raises:
            OptionError: an engine is not there, lacks a stage, or cannot run it on scans of two modalities.
        """
        stages = stages_of(self.transform) if isinstance(self.transform, str) else self.transform
        if not stages:
            raise OptionError(
                "no stages to register with: give the name of a transform, or at least one stage"
            )
        name = default_engine(stages) if self.engine == "auto" else self.engine
        first = next((n for n, stage in enumerate(stages) if stage.kind not in LINEAR), len(stages))
        linear, bending = stages[:first], stages[first:]
        ruled = isinstance(self.transform, str) and bool(bending)
        linear_engine = engine_for(
            linear, self._linear_engine() if ruled else name, same_modality=self.same_modality
        )
        engine = engine_for(bending, name, same_modality=self.same_modality)
        return Steps(
            linear=self.linear if ruled else linear,
            linear_engine=linear_engine.name,
            bending=bending,
            engine=engine.name,
            initial=self.initial,
            same_modality=self.same_modality,
            channel=self.channel,
            seed=self.seed,
        )

    def _linear_engine(self) -> str:
        if self.linear_engine != "auto":
            return self.linear_engine
        return default_linear_engine(self.same_modality)


@dataclass(frozen=True, eq=False)
class Carried:
    """An atlas on the grid of a scan.

    Args:
        name: of the atlas.
        transform: scan -> atlas points.
        labels: ``(*spatial)`` channel indices, uint8 or uint16.
        images: ``(C, *spatial)`` float32, rescaled to [0, 1].
        inside: ``(*spatial)`` bool, where the atlas has seen the place.
        linear: what the linear step came to: ``rigid``, ``affine``, ``similarity``, or ``none``.
        seconds: that the registration took when it was run, wall-clock.
        jacobian: of the transform over the grid.
        quality: beside the other atlases.
        mask: ``(*spatial)`` bool, the atlas' mask, or ``None``.
    """

    name: str
    transform: Transform
    labels: npt.NDArray[Any]
    images: npt.NDArray[np.float32]
    inside: npt.NDArray[np.bool_]
    linear: str
    seconds: float
    jacobian: JacobianStatistics
    quality: Quality
    mask: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class Propagation:
    """Atlases on the grid of a scan.

    Args:
        target: ``(C, *spatial)`` float32, the scan, rescaled to [0, 1] as the atlases' images are.
        affine: ``(4, 4)``, voxel index -> RAS+ mm, the scan's.
        classes: ``K``, the background included.
        carried: every atlas that was registered in full, by name.
        chosen: places in ``carried`` of those to fuse.
        left_out: names of the others, by selection and by quality control, each with the reason.
        failed: names of the atlases that no engine could register, each with the reason.
    """

    target: npt.NDArray[np.float32]
    affine: npt.NDArray[np.float64]
    classes: int
    carried: tuple[Carried, ...]
    chosen: tuple[int, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    failed: tuple[tuple[str, str], ...] = ()

    def candidates(self) -> Candidates:
        """Input of label fusion: the chosen atlases and the scan."""
        return _candidates([self.carried[n] for n in self.chosen], self.classes, self.target)


def propagate(
    atlases: AtlasSet,
    image: MetaTensor | tuple[npt.NDArray[Any], npt.NDArray[np.float64]],
    options: PropagationOptions | None = None,
    *,
    mask: npt.NDArray[Any] | None = None,
    executor: Executor | None = None,
    work: Path | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> Propagation:
    """Register every atlas to a scan and warp its labels and images onto the scan's grid.

    Args:
        atlases: the collection; a scan that is in it must be taken out first (:meth:`AtlasSet.without`).
        image: the scan, ``(C, *spatial)`` with its affine in RAS+ mm, or the array and the affine.
        options: what to do; by default :class:`PropagationOptions`.
        mask: ``(*spatial)``, not 0 where the metric counts.
        executor: runs one task for each atlas; ``None``: here, one after the other.
        work: folder that keeps finished registrations; the same command reads them instead of registering again.
        threads: of each registration, at most.
        progress: told the number of registrations done and their total.

    Raises:
        GeometryError: channels differ, the scan is not 3-D, or no atlas overlaps with it.
        DatasetError: the scan is constant or not finite, or its mask is empty.
        OptionError: an engine lacks what the options ask for.
        RegistrationError: no atlas could be registered, or a worker process died.
        MissingFileError, UnreadableFileError, LabelError: a file of an atlas is not as it must be.
    """
    options = options or PropagationOptions()
    steps = options.steps()
    voxels, affine = _arrays(image)
    if not 0 <= options.channel < len(voxels):
        raise OptionError(f"no channel {options.channel} to register: the scan has {len(voxels)}")
    target = np.stack([rescale(channel, name="scan") for channel in voxels])
    inside = _mask(mask, voxels.shape[1:])
    # every channel, so that two scans are not taken for one because a channel of theirs is the same
    scan = Scan(voxels[options.channel], affine, inside, digest_of_arrays(voxels, affine, inside))

    def tasks(chosen: Sequence[Atlas], only_linear: bool) -> list[Task]:
        return [
            Task(atlas, atlases.labels, len(voxels), scan, steps, threads, only_linear, work)
            for atlas in chosen
        ]

    total, keep = len(atlases), options.keep or len(atlases)
    # where there are two steps, only the more similar atlases take the costly second one
    early = keep < total and bool(steps.linear) and bool(steps.bending)
    report = _Progress(progress, total + keep * early)
    going = list(atlases.atlases)
    ranked: list[tuple[str, str]] = []
    failed: list[tuple[str, AtlasegError]] = []
    if early:
        first, failed = _split(going, _run(tasks(going, True), executor, report))
        kept, ranked = _select(first, target[options.channel], affine, inside, options)
        report.expect(total + len(kept))
        going = [atlas for atlas, _ in kept]
    arrived, broken = _split(going, _run(tasks(going, False), executor, report))
    if keep < len(arrived) and not early:
        arrived, ranked = _select(arrived, target[options.channel], affine, inside, options)
    carried, chosen, poor = _judged(arrived, len(atlases.labels), target, inside, options)
    return Propagation(
        target,
        affine,
        len(atlases.labels),
        carried,
        chosen,
        left_out=(*ranked, *poor),
        failed=tuple((name, str(error)) for name, error in (*failed, *broken)),
    )


class _Progress:
    def __init__(self, call: Progress | None, total: int) -> None:
        self._call, self._total, self._done = call, total, 0

    def expect(self, total: int) -> None:
        """Set the number of tasks."""
        self._total = total

    def step(self) -> None:
        self._done += 1
        if self._call is not None:
            self._call(self._done, self._total, "registering atlases")


def _arrays(
    image: MetaTensor | tuple[npt.NDArray[Any], npt.NDArray[np.float64]],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    if isinstance(image, tuple):
        voxels, affine = image
    else:
        voxels, affine = image.detach().cpu().numpy(), np.asarray(image.affine)
    if voxels.ndim != 4:
        raise GeometryError(f"expected a 3-D scan as (channels, x, y, z), found shape {voxels.shape}")
    return np.ascontiguousarray(voxels, np.float32), np.asarray(affine, np.float64)


def _mask(mask: npt.NDArray[Any] | None, shape: tuple[int, ...]) -> npt.NDArray[np.bool_] | None:
    if mask is None:
        return None
    if mask.shape != shape:
        raise GeometryError(f"the scan's mask has shape {mask.shape}, the scan {shape}: resample it")
    return inside_of(np.asarray(mask), "scan")


def _run(tasks: Sequence[Task], executor: Executor | None, report: _Progress) -> list[Arrived | AtlasegError]:
    """Results of the tasks, in their order."""
    if executor is None:
        results = []
        for task in tasks:
            results.append(carry(task))
            report.step()
        return results
    futures: list[Future[Arrived | AtlasegError]] = []
    try:
        # within: a pool whose worker died under an earlier call refuses already here
        for task in tasks:
            futures.append(executor.submit(carry, task))
        for future in as_they_finish(executor, futures):
            future.result()
            report.step()
    except BrokenExecutor as error:
        raise RegistrationError(
            "a worker process ended without a result (out of memory?); use fewer workers, or keep registrations in a "
            "work folder and run again"
        ) from error
    finally:
        for future in futures:
            future.cancel()
    return [future.result() for future in futures]


def _split(
    atlases: Sequence[Atlas], results: Sequence[Arrived | AtlasegError]
) -> tuple[list[tuple[Atlas, Arrived]], list[tuple[str, AtlasegError]]]:
    arrived = [(a, r) for a, r in zip(atlases, results, strict=True) if isinstance(r, Arrived)]
    failed = [(a.name, r) for a, r in zip(atlases, results, strict=True) if not isinstance(r, Arrived)]
    if not arrived:
        kind = GeometryError if all(isinstance(e, GeometryError) for _, e in failed) else RegistrationError
        name, error = failed[0]
        raise kind(f"none of {len(failed)} atlases could be registered to the scan; {name}: {error}")
    return arrived, failed


def _select(
    arrived: Sequence[tuple[Atlas, Arrived]],
    target: npt.NDArray[np.float32],
    affine: npt.NDArray[np.float64],
    mask: npt.NDArray[np.bool_] | None,
    options: PropagationOptions,
) -> tuple[list[tuple[Atlas, Arrived]], list[tuple[str, str]]]:
    """The most similar atlases in the order of their names, and the others with their rank."""
    from atlaseg.atlases.registration.transforms.frames import to_itk

    ranked = select(
        to_itk(target, affine),
        [to_itk(a.images[options.channel], affine) for _, a in arrived],
        metric=options.selection_metric,
        labels=[to_itk(a.labels, affine) for _, a in arrived],
        mask=None if mask is None else to_itk(mask, affine),
    )
    keep = options.keep or len(ranked)
    kept = sorted(n for n, _ in ranked[:keep])
    left_out = [
        (arrived[n][0].name, f"{options.selection_metric} {value:.3f}: place {place} of {len(ranked)}")
        for place, (n, value) in enumerate(ranked[keep:], start=keep + 1)
    ]
    return [arrived[n] for n in kept], left_out


def _judged(
    arrived: Sequence[tuple[Atlas, Arrived]],
    classes: int,
    target: npt.NDArray[np.float32],
    mask: npt.NDArray[np.bool_] | None,
    options: PropagationOptions,
) -> tuple[tuple[Carried, ...], tuple[int, ...], list[tuple[str, str]]]:
    masks = [a.mask for _, a in arrived if a.mask is not None]
    qualities = assess(
        _candidates([a for _, a in arrived], classes, target),
        jacobians=[a.jacobian for _, a in arrived],
        masks=np.stack(masks) if mask is not None and len(masks) == len(arrived) else None,
        target_mask=mask,
        channel=options.channel,
    )
    carried = tuple(
        Carried(
            atlas.name, a.transform, a.labels, a.images, a.inside, a.linear, a.seconds, a.jacobian, q, a.mask
        )
        for (atlas, a), q in zip(arrived, qualities, strict=True)
    )
    poor = leave_out(qualities) if options.quality_control else []
    without = {n for n, _ in poor}
    chosen = tuple(n for n in range(len(carried)) if n not in without)
    return carried, chosen, [(carried[n].name, reason) for n, reason in poor]


def _candidates(
    arrived: Sequence[Arrived | Carried], classes: int, target: npt.NDArray[np.float32]
) -> Candidates:
    return Candidates(
        np.stack([a.labels for a in arrived]),
        classes,
        np.stack([a.images for a in arrived]),
        target,
        np.stack([a.inside for a in arrived]),
    )
