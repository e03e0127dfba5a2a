"""One atlas carried to one scan: what a worker process does. Nothing here imports torch or MONAI."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atlases.atlas import Atlas
from atlases.linear_start import linear_start
from atlases.registration.frames import from_itk, to_itk
from atlases.registration.intensity import rescale, rescale_itk
from atlases.registration.jacobian import JacobianStatistics, jacobian_statistics
from atlases.registration.register import register
from atlases.registration.resampling import resample_image, resample_labels, seen
from atlases.registration.stage import Stage
from atlases.registration.transform import Transform
from pipeline.case import LabelTable
from pipeline.errors import AtlasegError, DatasetError, GeometryError

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
    """

    voxels: npt.NDArray[np.float32]
    affine: npt.NDArray[np.float64]
    mask: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Steps:
    """How a scan and an atlas are registered: first the linear step, then what bends.

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
        only_linear: stop after the linear step.
    """

    atlas: Atlas
    table: LabelTable
    channels: int
    scan: Scan
    steps: Steps
    threads: int = 1
    only_linear: bool = False


@dataclass(frozen=True, eq=False)
class Arrived:
    """An atlas on the grid of a scan; arrays as in :class:`atlases.propagation.Carried`."""

    transform: Transform
    labels: npt.NDArray[Any]
    images: npt.NDArray[np.float32]
    inside: npt.NDArray[np.bool_]
    mask: npt.NDArray[np.bool_] | None
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
    images = _channels(task)
    labels, mask = atlas.labels(task.table), atlas.mask_image()
    grid = to_itk(scan.voxels, scan.affine)
    with _threads(task.threads):
        try:
            moving = [
                rescale_itk(image, name=str(atlas.images[min(n, len(atlas.images) - 1)]))
                for n, image in enumerate(images)
            ]
            begin = time.perf_counter()
            transform = _register(task, moving[task.steps.channel])
            seconds = time.perf_counter() - begin
        except (DatasetError, GeometryError, RuntimeError) as error:
            if not isinstance(error, AtlasegError):
                raise
            return error
        inside = from_itk(seen(labels, grid, transform))[0].astype(bool)
        if not inside.any():
            return GeometryError(f"atlas {atlas.name} does not overlap with the scan")
        return Arrived(
            transform,
            from_itk(resample_labels(labels, grid, transform))[0],
            np.stack([from_itk(resample_image(image, grid, transform))[0] for image in moving]),
            inside,
            None if mask is None else from_itk(resample_labels(mask, grid, transform))[0].astype(bool),
            seconds,
            jacobian_statistics(transform, grid),
        )


def _channels(task: Task) -> list[sitk.Image]:
    voxels = task.atlas.channels()
    if len(voxels) != task.channels:
        raise GeometryError(
            f"{task.atlas.images[0]}: atlas {task.atlas.name} has {len(voxels)} channel(s), the scan {task.channels}; "
            "give the same in the same order"
        )
    affine = from_itk(task.atlas.image())[1]
    return [to_itk(channel, affine) for channel in voxels]


def _register(task: Task, moving: sitk.Image) -> Transform:
    steps = task.steps
    fixed = to_itk(rescale(task.scan.voxels), task.scan.affine)
    mask = None if task.scan.mask is None else to_itk(task.scan.mask.astype(np.uint8), task.scan.affine)
    shared: dict[str, Any] = {
        "fixed_mask": mask,
        "same_modality": steps.same_modality,
        "seed": steps.seed,
        "threads": task.threads,
    }
    if isinstance(steps.linear, str):
        linear = linear_start(
            fixed, moving, steps.linear, engine=steps.linear_engine, initial=steps.initial, **shared
        )
    elif steps.linear:
        linear = register(
            fixed, moving, steps.linear, engine=steps.linear_engine, initial=steps.initial, **shared
        ).transform
    else:
        linear = None
    if task.only_linear or not steps.bending:
        if linear is None:
            from atlases.registration.initialisation import initial_transform

            return initial_transform(fixed, moving, steps.initial, fixed_mask=mask)
        return linear
    start = steps.initial if linear is None else linear
    return register(fixed, moving, steps.bending, engine=steps.engine, initial=start, **shared).transform


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """ITK's default number of threads, set and put back."""
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(number)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
