"""Registration of one image onto another: checked, prepared, run by an engine, measured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.registration.defaults import DEFAULT_TRANSFORM, default_engine
from atlaseg.atlases.registration.engine import Problem, RegistrationEngine, RegistrationError, reason_of
from atlaseg.atlases.registration.engines.abilities import check_modality, check_slices, check_stages
from atlaseg.atlases.registration.engines.registry import make_engine
from atlaseg.atlases.registration.initialisation import check_start, initial_transform
from atlaseg.atlases.registration.presets import complete
from atlaseg.atlases.registration.quiet import without_warnings
from atlaseg.atlases.registration.slab import continued, is_part_of
from atlaseg.atlases.registration.stage import LINEAR, Stage, stages_of
from atlaseg.atlases.registration.transforms.frames import affine_of, as_itk, from_itk, to_itk
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.errors import AtlasegError, GeometryError, OptionError

if TYPE_CHECKING:
    import SimpleITK as sitk
    from monai.data import MetaTensor

__all__ = ["Registration", "engine_for", "register", "with_choices"]

#: What all engines can take.
LARGEST_SEED, MOST_THREADS = 2**32 - 1, 1024
#: Along the second shortest axis: what is thinner is a line. And the share of a place in space to which it is known.
FEWEST_VOXELS, DIGITS_OF_PLACES = 4, 1e-10


@dataclass(frozen=True, eq=False)
class Registration:
    """Result of a registration.

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
    stages: str | Sequence[Stage] = DEFAULT_TRANSFORM,
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
        engine: name of an engine (:data:`atlaseg.atlases.registration.engines.registry.ENGINES`), an engine, or
            ``auto`` (:func:`atlaseg.atlases.registration.defaults.default_engine`).
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
        RegistrationError: the engine failed.
    """
    from atlaseg.atlases.registration.transforms.thin_plate_spline import thin_plate_spline

    begin = time.perf_counter()
    wanted = stages_of(stages) if isinstance(stages, str) else tuple(stages)
    if not wanted:
        raise OptionError("no stages to register with: give the name of a transform, or at least one stage")
    _check_numbers(seed, threads)
    names = tuple(
        str(image) if isinstance(image, str | Path) else f"{role} image"
        for image, role in ((fixed, "fixed"), (moving, "moving"))
    )
    if any(stage.kind == "tps" for stage in wanted):
        points = _landmarks(wanted, fixed_landmarks, moving_landmarks)
        grid, _ = (
            _prepared(image, name, channel) for image, name in zip((fixed, moving), names, strict=True)
        )
        transform = thin_plate_spline(*points, grid)
        return Registration(transform, wanted, "landmarks", time.perf_counter() - begin)
    runner = engine_for(wanted, engine, same_modality=same_modality)
    if isinstance(initial, Transform):
        check_start(initial)
    pair = _prepared(fixed, names[0], channel), _prepared(moving, names[1], channel)
    for name, image in zip(names, pair, strict=True):
        check_slices(runner, wanted, min(image.GetSize()), name)
    masks = (
        None if fixed_mask is None else _mask(fixed_mask, pair[0], "fixed"),
        None if moving_mask is None else _mask(moving_mask, pair[1], "moving"),
    )
    try:
        with without_warnings():
            if not isinstance(initial, Transform):
                initial = initial_transform(*pair, initial, fixed_mask=masks[0], moving_mask=masks[1])
            transform, finished = _run(runner, pair, masks, initial, wanted, same_modality, seed, threads)
    except AtlasegError as error:
        raise type(error)(f"{_both(names)}{error}") from error
    # ITK's and torch's own, numpy's of singular matrices: nothing that the images could not bring about
    except (RuntimeError, MemoryError, np.linalg.LinAlgError) as error:
        raise RegistrationError(
            f"{_both(names)}{runner.name} failed ({reason_of(error)}); try another initialisation, metric or engine"
        ) from error
    return Registration(transform, finished, runner.name, time.perf_counter() - begin)


def _both(names: Sequence[str]) -> str:
    """The two scans at the head of a message, where they have names."""
    fixed, moving = names
    return "" if (fixed, moving) == ("fixed image", "moving image") else f"{fixed} and {moving}: "


def engine_for(
    stages: Sequence[Stage], engine: str | RegistrationEngine = "auto", *, same_modality: bool = True
) -> RegistrationEngine:
    """The engine that is to run some stages, if it can.

    Raises:
        OptionError: there is no such engine, it lacks a stage, or cannot run it on images of two modalities.
    """
    if isinstance(engine, str):
        engine = make_engine(default_engine(stages) if engine == "auto" else engine)
    check_stages(engine, stages)
    check_modality(engine, stages, same_modality)
    return engine


def _run(
    engine: RegistrationEngine,
    pair: tuple[sitk.Image, sitk.Image],
    masks: tuple[sitk.Image | None, sitk.Image | None],
    start: Transform,
    stages: tuple[Stage, ...],
    same_modality: bool,
    seed: int,
    threads: int,
) -> tuple[Transform, tuple[Stage, ...]]:
    """The whole mapping, and the stages as they were run.

    What a stage leaves open follows from the images before slabs are continued. A metric is worked out at the voxels
    of the fixed image: of a slab all of them count, of a whole scan few that lie in it. So linear stages of a whole
    scan and a slab run from the slab, and their result is inverted.
    """

    def filled(some: Sequence[Stage], fixed: sitk.Image, moving: sitk.Image) -> tuple[Stage, ...]:
        made = complete(some, fixed, moving, engine, same_modality=same_modality)
        check_stages(engine, made)
        return made

    (fixed, fixed_mask), (moving, moving_mask) = (continued(*one) for one in zip(pair, masks, strict=True))
    problem = Problem(fixed, moving, start, fixed_mask, moving_mask, seed, threads)
    backwards = start.is_linear and is_part_of(pair[1], pair[0])
    first = tuple(takewhile(lambda stage: stage.kind in LINEAR, stages)) if backwards else ()
    done: tuple[Stage, ...] = ()
    if first:
        done = filled(first, pair[1], pair[0])
        start = engine.register(problem.turned(), done).linear_inverse()
        problem = replace(problem, initial=start).where_both_are()
    rest = filled(stages[len(first) :], *pair)
    return engine.register(problem, rest) if rest else problem.initial, (*done, *rest)


def _prepared(image: MetaTensor | sitk.Image | Path | str, name: str, channel: int) -> sitk.Image:
    """Float32 in [0, 1], checked."""
    from atlaseg.atlases.registration.intensity_scale import rescale

    try:
        itk = as_itk(image, channel)
    except GeometryError as error:
        raise type(error)(f"{name}: {str(error).removeprefix(f'{name}: ')}") from error
    _check_grid(itk, name)
    voxels, affine = from_itk(itk)
    return to_itk(rescale(voxels, name=name), affine)


def _check_grid(image: sitk.Image, name: str) -> None:
    """Refuse images with too few voxels to locate anything, and those with absurd positions."""
    size = image.GetSize()
    if sorted(size)[1] < FEWEST_VOXELS:
        raise GeometryError(
            f"{name}: {' x '.join(map(str, size))} voxels are too few to register; expected at least {FEWEST_VOXELS} "
            "along two axes"
        )
    far, voxel = float(np.abs(image.GetOrigin()).max()), min(image.GetSpacing())
    if far * DIGITS_OF_PLACES > voxel:
        raise GeometryError(
            f"{name}: lies {far:.3g} mm from the origin of the scanner, where voxels of {voxel:.3g} mm "
            "cannot be told apart; mend its header"
        )


def _mask(mask: MetaTensor | sitk.Image | Path | str, image: sitk.Image, role: str) -> sitk.Image:
    """Mask as uint8 on the grid of its image, 1 inside."""
    from atlaseg.pipeline.io.grid import Grid, grid_difference
    from atlaseg.pipeline.io.mask import inside_of, read_mask
    from atlaseg.pipeline.io.volume import read_header

    if isinstance(mask, str | Path):
        name, path = str(mask), Path(mask)
        inside, affine = read_mask(path), read_header(path).affine
    else:
        name = f"{role} mask"
        voxels, affine = from_itk(as_itk(mask))
        inside = inside_of(voxels, name)
    expected = affine_of(image)
    x, y, z = image.GetSize()
    if difference := grid_difference(Grid((x, y, z), expected), Grid(inside.shape, affine)):
        raise GeometryError(
            f"{name}: not on the grid of the {role} image ({difference}); resample it onto the image"
        )
    return to_itk(inside.astype(np.uint8), expected)


def _check_numbers(seed: int, threads: int) -> None:
    if not 0 <= seed <= LARGEST_SEED:
        raise OptionError(f"the seed must be from 0 to {LARGEST_SEED}, found {seed}")
    if not 1 <= threads <= MOST_THREADS:
        raise OptionError(f"the number of threads must be from 1 to {MOST_THREADS}, found {threads}")


def _landmarks(
    stages: tuple[Stage, ...],
    fixed: npt.NDArray[np.float64] | None,
    moving: npt.NDArray[np.float64] | None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Both sets of landmarks, if the thin-plate spline is the only stage."""
    if len(stages) > 1:
        raise OptionError(
            "tps interpolates its landmarks, independent of earlier stages: give it as the only stage"
        )
    if fixed is None or moving is None:
        raise OptionError("tps needs corresponding landmarks of both images: give fixed and moving landmarks")
    return fixed, moving


def with_choices(stages: Sequence[Stage], **choices: object) -> tuple[Stage, ...]:
    """Stages with some values replaced in the last of them, such as a metric that a user names."""
    said = {name: value for name, value in choices.items() if value is not None}
    return (*stages[:-1], replace(stages[-1], **said)) if said else tuple(stages)  # type: ignore[arg-type]
