"""Registration of one image onto another: checked, prepared, run by an engine, measured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from atlases.registration.engine import Problem, RegistrationEngine, check_stages, make_engine
from atlases.registration.frames import affine_of, as_itk, from_itk, to_itk
from atlases.registration.initialisation import initial_transform
from atlases.registration.stage import Stage, stages_of
from atlases.registration.transform import Transform
from pipeline.errors import DatasetError, GeometryError, OptionError

if TYPE_CHECKING:
    import SimpleITK as sitk
    from monai.data import MetaTensor

__all__ = ["DEFAULT_ENGINE", "Registration", "default_engine", "register"]

#: Engine of each kind where a user names none.
DEFAULT_ENGINE = {"syn": "ants", "deformable": "torch"}
#: Volumes thinner than this along an axis are continued by their own edge: pyramids need some depth.
_THINNEST = 8


@dataclass(frozen=True, eq=False)
class Registration:
    """What came of a registration.

    Args:
        transform: fixed -> moving points.
        stages: as they were run, every choice filled in.
        engine: name of the engine.
        seconds: wall-clock time.
    """

    transform: Transform
    stages: tuple[Stage, ...]
    engine: str
    seconds: float


def register(
    fixed: MetaTensor | sitk.Image | Path | str,
    moving: MetaTensor | sitk.Image | Path | str,
    stages: str | Sequence[Stage] = "deformable",
    *,
    engine: str | RegistrationEngine = "auto",
    fixed_mask: MetaTensor | sitk.Image | Path | str | None = None,
    moving_mask: MetaTensor | sitk.Image | Path | str | None = None,
    fixed_landmarks: npt.NDArray[np.float64] | None = None,
    moving_landmarks: npt.NDArray[np.float64] | None = None,
    initial: str | Transform = "auto",
    same_modality: bool = True,
    channel: int = 0,
    seed: int = 0,
    threads: int = 1,
) -> Registration:
    """Find the transform that carries points of ``fixed`` to the corresponding points of ``moving``.

    Intensities are rescaled by percentiles first, so that their scale does not matter.

    Args:
        fixed: the image that stays: a MetaTensor ``(C, *spatial)`` (affine in RAS+ mm), a SimpleITK image or a file.
        moving: the image that is carried to it; any grid.
        stages: name of a transform (``rigid``, ``similarity``, ``affine``, ``bspline``, ``syn``, ``deformable``,
            ``tps``), which brings the stages before it along, or stages; what they leave open is chosen from the data.
        engine: ``elastix``, ``ants``, ``simpleitk``, ``torch``, ``greedy``, an engine, or ``auto``: ANTs for syn, torch
            for deformable, elastix for all else.
        fixed_mask: where the metric counts, on the grid of ``fixed``.
        moving_mask: the same on the grid of ``moving``.
        fixed_landmarks: ``(n, 3)`` points in RAS+ mm, for ``tps``.
        moving_landmarks: the corresponding points of the moving image.
        initial: where to begin: a transform, or a way to find one (:func:`initial_transform`).
        same_modality: whether both images come from the same kind of scanner and sequence; decides the metric.
        channel: of images with several.
        seed: of everything random.
        threads: at most so many.

    Raises:
        GeometryError: images are not 3-D, do not overlap, or a mask is not on its image's grid.
        DatasetError: an image is constant or not finite, or a mask is empty.
        OptionError: an engine lacks what a stage asks for, or landmarks are missing.
        RegistrationError: the engine gave up.
    """
    from atlases.registration.presets import complete

    begin = time.perf_counter()
    wanted = stages_of(stages) if isinstance(stages, str) else tuple(stages)
    if not wanted:
        raise OptionError("no stages to register with: give the name of a transform, or at least one stage")
    fixed_image, moving_image = (
        _prepared(image, name, channel) for image, name in ((fixed, "fixed"), (moving, "moving"))
    )
    if any(stage.kind == "tps" for stage in wanted):
        transform = _by_landmarks(wanted, fixed_image, fixed_landmarks, moving_landmarks)
        return Registration(transform, wanted, "landmarks", time.perf_counter() - begin)
    runner = (
        default_engine(wanted)
        if engine == "auto"
        else make_engine(engine)
        if isinstance(engine, str)
        else engine
    )
    check_stages(runner, wanted)
    inside_fixed = None if fixed_mask is None else _mask(fixed_mask, fixed_image, "fixed")
    inside_moving = None if moving_mask is None else _mask(moving_mask, moving_image, "moving")
    start = initial
    if not isinstance(start, Transform):
        start = initial_transform(
            fixed_image, moving_image, start, fixed_mask=inside_fixed, moving_mask=inside_moving
        )
    problem = Problem(
        fixed=_thick(fixed_image),
        moving=_thick(moving_image),
        initial=start,
        fixed_mask=None if inside_fixed is None else _thick(inside_fixed),
        moving_mask=None if inside_moving is None else _thick(inside_moving),
        seed=seed,
        threads=threads,
    )
    finished = complete(wanted, problem.fixed, problem.moving, runner.name, same_modality=same_modality)
    check_stages(runner, finished)
    transform = runner.register(problem, finished)
    return Registration(transform, finished, runner.name, time.perf_counter() - begin)


def default_engine(stages: Sequence[Stage]) -> RegistrationEngine:
    """The engine that ``auto`` means for some stages."""
    names = [DEFAULT_ENGINE[stage.kind] for stage in stages if stage.kind in DEFAULT_ENGINE]
    return make_engine(names[-1] if names else "elastix")


def _prepared(image: MetaTensor | sitk.Image | Path | str, role: str, channel: int) -> sitk.Image:
    """Float32 in [0, 1], checked."""
    from atlases.registration.intensity import rescale

    name = str(image) if isinstance(image, str | Path) else f"{role} image"
    try:
        itk = as_itk(image, channel)
    except GeometryError as error:
        raise type(error)(f"{name}: {str(error).removeprefix(f'{name}: ')}") from error
    voxels, affine = from_itk(itk)
    return to_itk(rescale(voxels, name=name), affine)


def _mask(mask: MetaTensor | sitk.Image | Path | str, image: sitk.Image, role: str) -> sitk.Image:
    from pipeline.volume import GRID_TOLERANCE_VOXELS, corner_distance

    name = str(mask) if isinstance(mask, str | Path) else f"{role} mask"
    voxels, affine = from_itk(as_itk(mask))
    expected = affine_of(image)
    tolerance = GRID_TOLERANCE_VOXELS * min(image.GetSpacing())
    if voxels.shape != image.GetSize() or corner_distance(expected, affine, voxels.shape) > tolerance:
        raise GeometryError(
            f"{name}: not on the grid of the {role} image ({voxels.shape} voxels instead of {image.GetSize()}, or "
            "another place); resample it onto the image"
        )
    if not (voxels > 0).any():
        raise DatasetError(
            f"{name}: empty, so nothing of the {role} image would count; leave it out or mend it"
        )
    return to_itk((voxels > 0).astype(np.uint8), expected)


def _thick(image: sitk.Image) -> sitk.Image:
    """The image, continued by its edge voxels along axes with very few slices; places in space are kept."""
    import SimpleITK as sitk

    if min(image.GetSize()) >= _THINNEST:
        return image
    missing = [max(0, _THINNEST - n) for n in image.GetSize()]
    return sitk.ZeroFluxNeumannPad(image, [m // 2 for m in missing], [m - m // 2 for m in missing])


def _by_landmarks(
    stages: tuple[Stage, ...],
    fixed: sitk.Image,
    fixed_landmarks: npt.NDArray[np.float64] | None,
    moving_landmarks: npt.NDArray[np.float64] | None,
) -> Transform:
    from atlases.registration.thin_plate_spline import thin_plate_spline

    if len(stages) > 1:
        raise OptionError("tps goes through its landmarks whatever comes before: give it as the only stage")
    if fixed_landmarks is None or moving_landmarks is None:
        raise OptionError("tps needs corresponding landmarks of both images: give fixed and moving landmarks")
    return thin_plate_spline(fixed_landmarks, moving_landmarks, fixed)


def with_choices(stages: Sequence[Stage], **choices: object) -> tuple[Stage, ...]:
    """Stages with some values replaced in the last of them, such as a metric that a user names."""
    said = {name: value for name, value in choices.items() if value is not None}
    return (*stages[:-1], replace(stages[-1], **said)) if said else tuple(stages)  # type: ignore[arg-type]
