"""Tasks of building a template that run in other processes: register an atlas to it, resample an atlas to its grid.

Tasks know their atlas and transforms by files alone, and import no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.atlas import Atlas
from atlaseg.atlases.propagation.linear_start import linear_start
from atlaseg.atlases.propagation.waiting import as_they_finish
from atlaseg.atlases.registration.engine import RegistrationError
from atlaseg.atlases.registration.intensity_scale import rescale_itk
from atlaseg.atlases.registration.register import register
from atlaseg.atlases.registration.stage import BENDING, Stage, stages_of
from atlaseg.atlases.registration.transforms.displacement import empty_grid
from atlaseg.atlases.registration.transforms.frames import affine_of, from_itk, read_itk
from atlaseg.atlases.registration.transforms.resampling import resample_image, resample_labels
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.atlases.registration.transforms.transform_files import read_transform, write_transform
from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.io.files import replacing
from atlaseg.pipeline.io.volume import read_header

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["Carry", "Registering", "carry", "each", "fit", "register_to_template", "write_template"]

Task = TypeVar("Task")
Result = TypeVar("Result")


def each(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    executor: Executor | None,
    finished: Callable[[], object] | None = None,
) -> list[Result]:
    """Results of a function for all tasks, in their order, worked out by the executor where there is one.

    Args:
        function: picklable where the executor has processes.
        tasks: one argument each.
        executor: ``None`` to do one after the other, here.
        finished: called whenever one is done.
    """
    if executor is None:
        results = []
        for task in tasks:
            results.append(function(task))
            if finished:
                finished()
        return results
    futures = [executor.submit(function, task) for task in tasks]
    try:
        for future in as_they_finish(executor, list(futures)):
            future.result()
            if finished:
                finished()
    finally:
        # after an error, what has not begun need not begin
        for future in futures:
            future.cancel()
    return [future.result() for future in futures]


@dataclass(frozen=True, eq=False)
class Carry:
    """Task: an atlas to carry to the grid of a template; by files alone, so that it goes to any process.

    Args:
        atlas: to carry.
        labels: of its set.
        reference: NIfTI file on the grid of the template.
        transforms: files, template -> atlas point, the first is applied first.
        image: where the image goes, ``.npy``; rescaled to [0, 1], NaN where the atlas has seen nothing.
        label: where the label map goes, ``.npy`` of channel indices; ``None`` for none.
        channel: of the atlas.
    """

    atlas: Atlas
    labels: LabelTable
    reference: Path
    transforms: tuple[Path, ...]
    image: Path
    label: Path | None = None
    channel: int = 0


def carry(task: Carry) -> None:
    """Carry image and label map of an atlas to the grid of a template, and keep them on disk.

    Raises:
        AtlasegError: a file is missing or broken.
    """
    header = read_header(task.reference)
    grid = empty_grid(header.spatial_shape, header.affine)
    transform = Transform.compose([read_transform(path, own=True) for path in task.transforms])
    image = rescale_itk(task.atlas.image(task.channel), name=str(task.atlas.images[0]))
    _keep(task.image, from_itk(resample_image(image, grid, transform, outside=float("nan")))[0])
    if task.label is not None:
        labels = resample_labels(task.atlas.labels(task.labels), grid, transform)
        _keep(task.label, from_itk(labels)[0])


def _keep(path: Path, array: npt.NDArray[Any]) -> None:
    with replacing(path) as temporary:
        np.save(temporary, array)


@dataclass(frozen=True, eq=False)
class Registering:
    """Task: an atlas to register to a template; by files alone, so that it goes to any process."""

    atlas: Atlas
    labels: LabelTable
    target: Path
    stages: str | tuple[Stage, ...]
    engine: str
    channel: int
    seed: int
    threads: int
    out: Path


def fit(
    fixed: sitk.Image,
    moving: sitk.Image,
    labels: sitk.Image,
    stages: str | tuple[Stage, ...],
    *,
    engine: str = "auto",
    seed: int = 0,
    threads: int = 1,
) -> Transform:
    """Registration of template and scan: as :func:`register`, but a deformable transform that is named begins at what
    is to be believed of rigid and affine registration (:func:`atlaseg.atlases.propagation.linear_start.linear_start`;
    by the default engine of these).

    Args:
        fixed: the image that stays.
        moving: the image that is carried to it.
        labels: integers on the grid of ``moving``, 0 where there is no structure.
        stages: name of a transform, or stages, which are run as they are.
        engine: of the last stage where a transform is named, of all stages else.
        seed: of everything random.
        threads: at most so many.

    Raises:
        AtlasegError: as :func:`register`.
    """
    if not isinstance(stages, str) or stages not in BENDING:
        return register(fixed, moving, stages, engine=engine, seed=seed, threads=threads).transform

    def run(kind: Literal["rigid", "affine"], begin: Transform | None) -> Transform:
        initial = "auto" if begin is None else begin
        return register(fixed, moving, (Stage(kind),), initial=initial, seed=seed, threads=threads).transform

    scaled = [
        rescale_itk(image, name=role) for image, role in ((fixed, "fixed image"), (moving, "moving image"))
    ]
    start = linear_start(scaled[0], scaled[1], labels, run).transform
    last = stages_of(stages)[-1:]
    return register(fixed, moving, last, engine=engine, initial=start, seed=seed, threads=threads).transform


def register_to_template(task: Registering) -> str | None:
    """Write the transform, unless an earlier run has; returns why the engine failed, if it did."""
    if task.out.is_file():
        return None
    try:
        transform = fit(
            read_itk(task.target),
            task.atlas.image(task.channel),
            task.atlas.labels(task.labels),
            task.stages,
            engine=task.engine,
            seed=task.seed,
            threads=task.threads,
        )
    except RegistrationError as error:
        return str(error)
    write_transform(task.out, transform)
    return None


def write_template(path: Path, image: sitk.Image) -> None:
    """Write an ITK image as NIfTI, float32, whole or not at all.

    Args:
        path: ``.nii.gz``.
        image: scalar, 3-D.
    """
    import nibabel as nib

    result = nib.Nifti1Image(from_itk(image)[0].astype(np.float32), affine_of(image))
    # "aligned": the frame of a template is that of no scanner
    result.set_sform(result.affine, 2)
    result.set_qform(result.affine, 2)
    result.header.set_xyzt_units("mm")
    with replacing(path, ".nii.gz") as temporary:
        nib.save(result, temporary)
