"""Choose registration settings from voxel size, extent and modality where the user gives none.

The values that depend on the engine stand in its class, as ``facts``. Every value comes from a measurement on atlases
against atlases (``docs/reference/benchmarks.md``) or from the manual of the library that it goes to: elastix 5.2
(https://elastix.dev/download/elastix-5.2.0-manual.pdf), ANTs (https://github.com/ANTsX/ANTs/wiki), greedy
(https://greedy.readthedocs.io), ITK's registration framework v4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from atlaseg.atlases.registration.engine_facts import Preset, facts_of
from atlaseg.atlases.registration.stage import Metric, Stage
from atlaseg.pipeline.errors import OptionError

if TYPE_CHECKING:
    import SimpleITK as sitk

    from atlaseg.atlases.registration.engine import RegistrationEngine

__all__ = ["axis_shrink", "complete"]

#: No level of a pyramid has fewer voxels than this along the shortest axis of the image.
FEWEST_VOXELS = 12
#: Images longer than this along an axis get a fourth level.
LONG_AXIS = 200
#: Images with an axis of fewer voxels than this are crops around an organ: fine structure, little surroundings.
CROP_VOXELS = 64
#: Images with an axis of fewer voxels than this are slabs, whose few slices say nothing about levels or distances.
FEWEST_SLICES = 8
#: Control points of a B-spline: one for every 6 voxels along an axis, ...
VOXELS_PER_CONTROL_POINT = 6.0
#: ... at least 11.5 intervals along the shortest axis (of slabs: of the others), so that a small crop can bend, ...
FEWEST_INTERVALS = 11.5
#: ... and no more control points than this, which bounds time and memory on whole-body scans.
MOST_CONTROL_POINTS = 40_000
#: What a user may ask for at most.
TOO_MANY_CONTROL_POINTS = 2_000_000


def complete(
    stages: Sequence[Stage],
    fixed: sitk.Image,
    moving: sitk.Image,
    engine: RegistrationEngine,
    *,
    same_modality: bool = True,
) -> tuple[Stage, ...]:
    """Stages with everything filled in that was left to the data; what was given is kept.

    The same images and names always give the same stages. Smoothing and grid spacing follow the voxel size and
    the extent of the fixed image, and the voxel size of the moving one where that is coarser: there is nothing
    to be gained below it.

    Args:
        stages: as the user gave them.
        fixed: the image that stays.
        moving: the image that is carried to it.
        engine: that is to run them; its presets are taken (:mod:`atlaseg.atlases.registration.engine_facts`).
        same_modality: whether equal tissue has about equal intensity in both.

    Returns:
        As many stages, in which nothing is ``None`` but what the kind does not have (``tps`` has no metric; only
        ``bspline`` has a grid; only ``lncc`` has a radius).

    Raises:
        OptionError: the engine has no metric for images of two modalities, or a grid spacing is not possible.
    """
    grid, facts = _Grid.of(fixed, moving), facts_of(engine)
    return tuple(
        stage if stage.kind == "tps" else _fill(stage, grid, facts.preset(stage.kind), same_modality)
        for stage in stages
    )


def axis_shrink(
    factor: int,
    spacing: Sequence[float],
    size: Sequence[int] | None = None,
    *,
    unit_mm: float | None = None,
) -> tuple[int, int, int]:
    """Shrink factor of each axis that makes voxels of about one size, ``factor`` times the finest spacing.

    A slice of 5 mm beside pixels of 0.7 mm is left alone until the pixels have grown to it.

    Args:
        factor: of the level, in units of the finest spacing.
        spacing: of the image, mm.
        size: of the image, voxels; an axis is never shrunk below 4 voxels.
        unit_mm: what the factor counts, where it is not this image's own finest spacing, mm.

    >>> axis_shrink(4, (0.7, 0.7, 5.0))
    (4, 4, 1)
    >>> axis_shrink(4, (1.0, 1.0, 1.0))
    (4, 4, 4)
    """
    target = factor * (min(spacing) if unit_mm is None else unit_mm)
    most = [max(1, n // 4) for n in size] if size is not None else [int(target / min(spacing) + 0.5)] * 3
    x, y, z = (
        min(max(1, int(target / step + 0.5)), limit) for step, limit in zip(spacing, most, strict=True)
    )
    return x, y, z


@dataclass(frozen=True)
class _Grid:
    """Voxel size and extent of a pair of images."""

    spacing: tuple[float, ...]
    size: tuple[int, ...]
    coarser_mm: float
    is_slab: bool

    @classmethod
    def of(cls, fixed: sitk.Image, moving: sitk.Image) -> _Grid:
        own, other = (float(np.prod(image.GetSpacing())) ** (1 / 3) for image in (fixed, moving))
        return cls(
            tuple(fixed.GetSpacing()),
            tuple(fixed.GetSize()),
            max(own, other),
            min(*fixed.GetSize(), *moving.GetSize()) < FEWEST_SLICES,
        )

    @property
    def finest_mm(self) -> float:
        return min(self.spacing)

    @property
    def extent_mm(self) -> tuple[float, ...]:
        return tuple(n * step for n, step in zip(self.size, self.spacing, strict=True))

    @property
    def voxels(self) -> int:
        return int(np.prod(self.size))

    def largest_shrink(self, wanted: int) -> int:
        """Power of two that leaves enough voxels of that size along the shortest axis."""
        factor = 1
        while 2 * factor <= wanted and min(self.extent_mm) / (2 * factor * self.finest_mm) >= FEWEST_VOXELS:
            factor *= 2
        return factor


def _metric(stage: Stage, preset: Preset, same_modality: bool, is_slab: bool) -> Metric:
    if stage.metric is not None:
        return stage.metric
    if same_modality and is_slab and preset.same_in_slabs is not None:
        return preset.same_in_slabs
    metric = preset.same if same_modality else preset.different
    if metric is None:
        raise OptionError(f"the {stage.kind} stage has no metric for scans of different modalities: name one")
    return metric


def _fill(stage: Stage, grid: _Grid, preset: Preset, same_modality: bool) -> Stage:
    metric = _metric(stage, preset, same_modality, grid.is_slab)
    blur = _factors(stage, grid, preset.most_voxels)
    shrink = stage.shrink or tuple(grid.largest_shrink(factor) for factor in blur)
    smoothing = stage.smoothing_mm
    if smoothing is None:
        # half the voxel of the level, which is what a voxel of that size would have averaged; none at the finest
        smoothing = tuple(round(0.5 * f * grid.finest_mm, 6) if f > 1 else 0.0 for f in blur)
    if stage.grid_spacing_mm is not None:
        _check_grid_spacing(stage.grid_spacing_mm, grid)
    samples, iterations = _samples(stage, preset, metric, grid), preset.iterations
    if samples == 0 and preset.iterations_of_all:
        iterations = preset.iterations_of_all
    return replace(
        stage,
        metric=metric,
        metric_radius=stage.metric_radius or (_radius(preset, grid) if metric == "lncc" else None),
        shrink=shrink,
        smoothing_mm=smoothing,
        iterations=stage.iterations or _levels(iterations, len(blur)),
        grid_spacing_mm=stage.grid_spacing_mm
        or (round(preset.grid_factor * _control_spacing(grid), 4) if stage.kind == "bspline" else None),
        samples=samples,
    )


def _radius(preset: Preset, grid: _Grid) -> int:
    is_crop = min(grid.extent_mm) / grid.finest_mm < CROP_VOXELS
    return preset.radius_in_crops if is_crop and preset.radius_in_crops else preset.radius


def _samples(stage: Stage, preset: Preset, metric: Metric, grid: _Grid) -> int:
    if stage.samples is not None:
        return stage.samples
    if metric != "mi" and grid.voxels <= preset.all_up_to:
        return 0
    # drawing nearly all voxels costs more than taking them all
    return 0 if grid.voxels <= 2 * preset.samples else preset.samples


def _factors(stage: Stage, grid: _Grid, most_voxels: int) -> tuple[int, ...]:
    """Factor of each level by which detail is thinned out, coarse to fine, in units of the finest voxel."""
    if stage.shrink is not None:
        return stage.shrink
    given = stage.smoothing_mm or stage.iterations
    levels = len(given) if given is not None else 3 + (max(grid.size) > LONG_AXIS)
    finest = 1
    while most_voxels and grid.voxels / finest**3 > most_voxels:
        finest *= 2
    return tuple(finest * 2 ** (levels - 1 - level) for level in range(levels))


def _levels(values: tuple[int, ...], levels: int) -> tuple[int, ...]:
    """The finest ``levels`` of the values, the coarsest repeated where there are too few."""
    return (values[:1] * max(0, levels - len(values)) + values)[-levels:]


def _control_spacing(grid: _Grid) -> float:
    """Distance of the control points at the finest level, mm."""
    # a slab bends across its slices; along the few that it has there is nothing to bend
    across = [mm for mm, n in zip(grid.extent_mm, grid.size, strict=True) if n >= FEWEST_SLICES]
    wanted = min(VOXELS_PER_CONTROL_POINT * grid.coarser_mm, min(across or grid.extent_mm) / FEWEST_INTERVALS)
    bound = (float(np.prod(grid.extent_mm)) / MOST_CONTROL_POINTS) ** (1 / 3)
    return round(max(wanted, bound), 4)


def _check_grid_spacing(spacing_mm: float, grid: _Grid) -> None:
    """Refuse a distance of control points that these images cannot have.

    Raises:
        OptionError: more control points than any computer can move, or none within the image.
    """
    extent = " x ".join(f"{mm:.4g}" for mm in grid.extent_mm)
    advice = f"choose another, such as {_control_spacing(grid):.3g} mm"
    points = float(np.prod([mm / spacing_mm + 3 for mm in grid.extent_mm]))
    if points > TOO_MANY_CONTROL_POINTS:
        raise OptionError(
            f"a grid spacing of {spacing_mm:g} mm makes {points:.3g} control points on an image of {extent} mm, more "
            f"than {TOO_MANY_CONTROL_POINTS:,}; {advice}"
        )
    if spacing_mm > max(grid.extent_mm):
        raise OptionError(
            f"a grid spacing of {spacing_mm:g} mm is larger than the image of {extent} mm, so nothing would bend; "
            f"{advice}"
        )
