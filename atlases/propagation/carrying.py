"""Propagate one atlas to one scan, in a worker process. Nothing here imports torch or MONAI."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.atlas import Atlas
from atlaseg.atlases.propagation.linear_start import (
    FOCUS_MARGIN,
    LARGEST_STRETCH,
    linear_start,
    surroundings,
    without_finest_level,
)
from atlaseg.atlases.propagation.work_folder import (
    Finished,
    WorkFolder,
    digest_of_arrays,
    key_of,
    library_versions,
)
from atlaseg.atlases.registration.engine import RegistrationError
from atlaseg.atlases.registration.engine_facts import facts_of
from atlaseg.atlases.registration.engines.registry import make_engine
from atlaseg.atlases.registration.intensity_scale import rescale, rescale_itk
from atlaseg.atlases.registration.itk_threads import itk_threads
from atlaseg.atlases.registration.presets import complete
from atlaseg.atlases.registration.register import register
from atlaseg.atlases.registration.stage import Kind, Stage
from atlaseg.atlases.registration.transforms.frames import from_itk, to_itk
from atlaseg.atlases.registration.transforms.jacobian import JacobianStatistics, jacobian_statistics
from atlaseg.atlases.registration.transforms.resampling import resample_image, resample_labels, seen
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.errors import AtlasegError, DatasetError, GeometryError
from atlaseg.pipeline.io.volume import read_header, read_voxels

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["Arrived", "Scan", "Steps", "Task", "carry"]


@dataclass(frozen=True, eq=False)
class Scan:
    """The scan as workers need it.

    Args:
        voxels: ``(x, y, z)`` float32, the channel that is registered.
        affine: ``(4, 4)``, voxel index -> RAS+ mm.
        mask: ``(x, y, z)`` bool, where the metric counts, or ``None``.
        digest: that identifies it in a work folder.
    """

    voxels: npt.NDArray[np.float32]
    affine: npt.NDArray[np.float64]
    mask: npt.NDArray[np.bool_] | None = None
    digest: str = ""


@dataclass(frozen=True)
class Steps:
    """Registration of an atlas to a scan: the linear step, then the deformable one.

    Args:
        linear: ``auto``, ``rigid`` or ``affine`` (:func:`linear_start`), or stages that are run as they are.
        linear_engine: engine of the linear step.
        bending: stages after it; none: the linear step is all.
        engine: their engine.
        initial: where the linear step begins.
        same_modality: decides the metric.
        channel: that is registered.
        seed: of everything random.
    """

    linear: str | tuple[Stage, ...]
    linear_engine: str
    bending: tuple[Stage, ...]
    engine: str
    initial: str = "auto"
    same_modality: bool = True
    channel: int = 0
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Task:
    """One atlas to carry to one scan; picklable.

    Args:
        atlas: its files.
        table: of its label values.
        channels: that the set has.
        scan: where it is carried to.
        steps: how.
        threads: at most so many.
        only_linear: stop after the linear step, to see which atlases suit the scan.
        work: folder of finished registrations.
    """

    atlas: Atlas
    table: LabelTable
    channels: int
    scan: Scan
    steps: Steps
    threads: int = 1
    only_linear: bool = False
    work: Path | None = None


@dataclass(frozen=True, eq=False)
class Arrived:
    """An atlas on the grid of a scan; arrays as in :class:`atlaseg.atlases.propagation.propagation.Carried`."""

    transform: Transform
    labels: npt.NDArray[Any]
    images: npt.NDArray[np.float32]
    inside: npt.NDArray[np.bool_]
    mask: npt.NDArray[np.bool_] | None
    linear: str
    seconds: float
    jacobian: JacobianStatistics


def carry(task: Task) -> Arrived | AtlasegError:
    """Register an atlas to a scan and warp its labels and channels onto the scan's grid.

    Returns:
        The atlas on the grid, or the error where this pair could not be registered.

    Raises:
        MissingFileError, UnreadableFileError, LabelError, GeometryError: files of the atlas are not as they must be.
    """
    atlas, scan = task.atlas, task.scan
    channels = _channels(task)
    labels, mask = atlas.labels(task.table), atlas.mask_image()
    grid = to_itk(scan.voxels, scan.affine)
    with itk_threads(task.threads):
        try:
            moving = [rescale_itk(image, name=f"{atlas.images[0]}: a channel") for image in channels]
            linear, finished = _registered(task, moving[task.steps.channel], labels)
        except (DatasetError, GeometryError, RegistrationError) as error:
            return error
        transform = finished.transform
        inside = from_itk(seen(labels, grid, transform))[0].astype(bool)
        if not inside.any():
            return GeometryError(f"atlas {atlas.name} does not overlap with the scan")
        return Arrived(
            transform=transform,
            labels=from_itk(resample_labels(labels, grid, transform))[0],
            images=np.stack([from_itk(resample_image(image, grid, transform))[0] for image in moving]),
            inside=inside,
            mask=None if mask is None else from_itk(resample_labels(mask, grid, transform))[0] != 0,
            linear=linear,
            seconds=finished.seconds,
            jacobian=jacobian_statistics(transform, grid),
        )


def _channels(task: Task) -> list[sitk.Image]:
    voxels = task.atlas.channels()
    if len(voxels) != task.channels:
        raise GeometryError(
            f"{task.atlas.images[0]}: atlas {task.atlas.name} has {len(voxels)} channel(s), the scan {task.channels}; "
            "give the same in the same order"
        )
    affine = read_header(task.atlas.images[0]).affine
    return [to_itk(channel, affine) for channel in voxels]


def _registered(task: Task, moving: sitk.Image, labels: sitk.Image) -> tuple[str, Finished]:
    """Result of the linear step, and the complete transform."""
    pair, steps = _Pair(task, moving, labels), task.steps
    if not steps.linear:
        return "none", pair.bent(None)
    linear = pair.linear()
    kind = str(linear.about["kind"])
    if task.only_linear or not steps.bending:
        return kind, linear
    bent = pair.bent(linear)
    return kind, replace(bent, seconds=linear.seconds + bent.seconds)


class _Pair:
    """A scan and an atlas' image, both rescaled, and the two steps between them."""

    def __init__(self, task: Task, moving: sitk.Image, labels: sitk.Image) -> None:
        self.task, self.steps = task, task.steps
        self.moving, self.labels = moving, labels
        self.labelled = bool(from_itk(labels)[0].any())
        scan = task.scan
        self.fixed = to_itk(rescale(scan.voxels, name="scan"), scan.affine)
        self.mask = None if scan.mask is None else to_itk(scan.mask, scan.affine)
        # what both steps follow from; files are read for it only where something is kept
        self.origin = {} if task.work is None else _origin(task)

    def linear(self) -> Finished:
        """The linear step, by the rule or by its stages."""
        rule, engine = self.steps.linear, self.steps.linear_engine
        stages = self._coarse(engine, "rigid", "affine") if isinstance(rule, str) else rule
        described = {
            "rule": [rule, LARGEST_STRETCH, FOCUS_MARGIN] if isinstance(rule, str) else None,
            "stages": self._described(engine, stages),
            "libraries": library_versions([engine]),
        }
        return self._once(
            "linear",
            described,
            self._by_rule if isinstance(rule, str) else partial(self._run, engine, stages, None),
        )

    def bent(self, linear: Finished | None) -> Finished:
        """The deformable step, starting from the linear one."""
        engine, stages = self.steps.engine, self.steps.bending
        begin = None if linear is None else linear.transform
        # a focus belongs to the rule; stages that a user wrote are run as they are
        ruled = isinstance(self.steps.linear, str)
        margin = facts_of(make_engine(engine)).bending_margin if ruled else None
        inside = None if margin is None or not self.labelled else surroundings(self.labels, margin)
        described = {
            "begin": None if linear is None else linear.key,
            "margin": margin,
            "stages": self._described(engine, stages),
            "libraries": library_versions([engine]),
        }
        return self._once("full", described, partial(self._run, engine, stages, begin, inside))

    def _filled(self, engine: str, stages: Sequence[Stage]) -> tuple[Stage, ...]:
        """Stages with all that the data decide."""
        runner = make_engine(engine)
        return complete(stages, self.fixed, self.moving, runner, same_modality=self.steps.same_modality)

    def _described(self, engine: str, stages: Sequence[Stage]) -> dict[str, Any]:
        """Engine and stages with all that the data decide, so that other presets make another key."""
        return {"engine": engine, "stages": [asdict(stage) for stage in self._filled(engine, stages)]}

    def _coarse(self, engine: str, *kinds: Kind) -> tuple[Stage, ...]:
        """Linear stages that the deformable ones start from."""
        stages = self._filled(engine, [Stage(kind) for kind in kinds])
        return tuple(without_finest_level(stage) for stage in stages)

    def _run(
        self,
        engine: str,
        stages: Sequence[Stage],
        start: Transform | None,
        moving_mask: sitk.Image | None = None,
    ) -> tuple[Transform, dict[str, Any]]:
        found = register(
            self.fixed,
            self.moving,
            stages,
            engine=engine,
            fixed_mask=self.mask,
            moving_mask=moving_mask,
            initial=self.steps.initial if start is None else start,
            same_modality=self.steps.same_modality,
            seed=self.steps.seed,
            threads=self.task.threads,
        )
        return found.transform, {
            "engine": found.engine,
            "kind": found.stages[-1].kind,
            "stages": [asdict(stage) for stage in found.stages],
        }

    def _by_rule(self) -> tuple[Transform, dict[str, Any]]:
        engine = self.steps.linear_engine
        found = linear_start(
            self.fixed,
            self.moving,
            self.labels,
            lambda kind, start: self._run(engine, self._coarse(engine, kind), start)[0],
            str(self.steps.linear),
            focus=lambda start, mask: self._run(engine, self._coarse(engine, "rigid"), start, mask)[0],
        )
        return found.transform, {
            "engine": engine,
            "kind": found.kind,
            "stretch": found.stretch,
            "correlations": found.correlations,
        }

    def _once(
        self, step: str, described: dict[str, Any], run: Callable[[], tuple[Transform, dict[str, Any]]]
    ) -> Finished:
        """A step that was finished before, from the work folder, or else run now."""
        folder = None if self.task.work is None else WorkFolder(self.task.work)
        name, key = f"{self.task.atlas.name}-{step}", key_of({**self.origin, step: described})
        if folder is not None and (kept := folder.read(name, key)) is not None:
            return kept
        begin = time.perf_counter()
        transform, about = run()
        # an inverse that the engine gave is not in the file, and the result must be the same with and without one
        finished = Finished(Transform(transform.itk), time.perf_counter() - begin, about, key)
        return finished if folder is None else folder.write(name, finished)


def _digest(path: Path) -> str:
    """Of voxels and grid, so that a copy with another header or number type is known again."""
    grid = read_header(path).affine.astype(np.float32) + 0.0  # there are two zeros
    return digest_of_arrays(read_voxels(path).astype(np.float32), grid)


def _origin(task: Task) -> dict[str, Any]:
    """Everything besides the stages that a registration depends on."""
    atlas = task.atlas
    return {
        "scan": task.scan.digest,
        "atlas": [*map(_digest, atlas.images), _digest(atlas.label)],
        "channel": task.steps.channel,
        "initial": task.steps.initial,
        "seed": task.steps.seed,
    }
