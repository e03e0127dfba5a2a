"""Stages as elastix's parameters, and the parameter files of elastix's users as stages.

The parameters are those of the elastix 5.2 manual, chapters 4 to 6
(https://elastix.dev/download/elastix-5.2.0-manual.pdf) and of the reference pages of its components.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atlaseg.atlases.registration.presets import axis_shrink
from atlaseg.atlases.registration.stage import Kind, Metric, Stage
from atlaseg.atlases.registration.transforms.elastix_text import ParameterMap, read_map, write_map
from atlaseg.pipeline.errors import OptionError, UnreadableFileError

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = [
    "parameter_map",
    "read_parameter_file",
    "write_parameter_file",
]

TRANSFORM_OF: dict[Kind, str] = {
    "rigid": "EulerTransform",
    "similarity": "SimilarityTransform",
    "affine": "AffineTransform",
    # the same transform as BSplineTransform, worked out faster
    "bspline": "RecursiveBSplineTransform",
}
METRIC_OF: dict[Metric, str] = {
    "ssd": "AdvancedMeanSquares",
    "ncc": "AdvancedNormalizedCorrelation",
    "mi": "AdvancedMattesMutualInformation",
    # of images that the engine has standardised locally: elastix has no local correlation of its own
    "lncc": "AdvancedNormalizedCorrelation",
}
_KIND_OF: dict[str, Kind] = {name: kind for kind, name in TRANSFORM_OF.items()} | {
    "BSplineTransform": "bspline"
}
_METRIC_NAMED: dict[str, Metric] = {name: metric for metric, name in METRIC_OF.items() if metric != "lncc"}

#: What is the same in every stage.
_COMMON: ParameterMap = {
    "FixedImageDimension": ("3",),
    "MovingImageDimension": ("3",),
    "FixedInternalImagePixelType": ("float",),
    "MovingInternalImagePixelType": ("float",),
    "UseDirectionCosines": ("true",),
    "Registration": ("MultiResolutionRegistration",),
    "Interpolator": ("LinearInterpolator",),
    "AutomaticScalesEstimation": ("true",),
    "AutomaticTransformInitialization": ("false",),
    "HowToCombineTransforms": ("Compose",),
    # of the pyramids, only the generic one takes smoothing in mm that does not hang on the shrink factor
    "FixedImagePyramid": ("FixedGenericImagePyramid",),
    "MovingImagePyramid": ("MovingGenericImagePyramid",),
    # masks are drawn by hand or cut to the organ: their rim is where the information is
    "ErodeMask": ("false",),
    # small organs and crops may overlap little in the beginning; a quality figure judges the end
    "RequiredRatioOfValidSamples": ("0.05",),
    "ResampleInterpolator": ("FinalLinearInterpolator",),
    "Resampler": ("DefaultResampler",),
    "WriteResultImage": ("false",),
    "WriteTransformParametersEachResolution": ("false",),
}
#: With all voxels the metric is a smooth function of the parameters, which a quasi-Newton method climbs in a few
#: steps (the measured time is a fifth of that of gradient descent).
_ALL_VOXELS: ParameterMap = {
    "Optimizer": ("QuasiNewtonLBFGS",),
    "ImageSampler": ("Full",),
    "NewSamplesEveryIteration": ("false",),
}
#: With a new draw of voxels at each iteration, only a stochastic method converges.
_DRAWN_VOXELS: ParameterMap = {
    "Optimizer": ("AdaptiveStochasticGradientDescent",),
    "AutomaticParameterEstimation": ("true",),
    "ImageSampler": ("RandomCoordinate",),
    "NewSamplesEveryIteration": ("true",),
    "MaximumNumberOfSamplingAttempts": ("8",),
}
#: Longest step of gradient descent, in voxels. elastix's own, one voxel, throws a B-spline off at the beginning.
LONGEST_STEP = 0.3
#: Settings that say nothing about what is registered, so that reading a file may pass over them.
_WITHOUT_MEANING = re.compile(
    r"Write.*|Result.*|Resample.*|.*PixelType|FinalBSplineInterpolationOrder|DefaultPixelValue|.*ImageDimension"
    r"|Compress.*|ShowExactMetricValue|RandomSeed|MaximumNumberOfSamplingAttempts|NumberOfResolutions"
    r"|MaximumStepLength"
)


def parameter_map(stage: Stage, fixed: sitk.Image, moving: sitk.Image, *, seed: int = 0) -> ParameterMap:
    """Parameters of elastix for one stage.

    Args:
        stage: complete, of a kind and with a metric that elastix has.
        fixed: the image that stays; sets the shrink factor of each axis.
        moving: the image that is carried to it.
        seed: of the random samples.

    Raises:
        OptionError: the stage is not complete, or elastix lacks its kind or metric.
    """
    shrink, smoothing, iterations, samples = stage.shrink, stage.smoothing_mm, stage.iterations, stage.samples
    if stage.kind not in TRANSFORM_OF or stage.metric not in METRIC_OF:
        raise OptionError(f"elastix has no {stage.kind} stage with metric {stage.metric}")
    if shrink is None or smoothing is None or iterations is None or samples is None:
        raise OptionError(f"{stage.kind}: the stage is not complete; fill it in with presets.complete")
    unit = min(fixed.GetSpacing())
    parameters = _COMMON | {
        "Transform": (TRANSFORM_OF[stage.kind],),
        "Metric": (METRIC_OF[stage.metric],),
        "NumberOfResolutions": (str(len(shrink)),),
        "MaximumNumberOfIterations": tuple(str(n) for n in iterations),
        "RandomSeed": (str(seed),),
        "FixedImagePyramidRescaleSchedule": _schedule(shrink, fixed, unit),
        "MovingImagePyramidRescaleSchedule": _schedule(shrink, moving, unit),
        "FixedImagePyramidSmoothingSchedule": tuple(repr(float(s)) for s in smoothing for _ in range(3)),
        "MovingImagePyramidSmoothingSchedule": tuple(repr(float(s)) for s in smoothing for _ in range(3)),
    }
    if samples == 0:
        parameters |= _ALL_VOXELS
    else:
        parameters |= _DRAWN_VOXELS | {
            "MaximumStepLength": (repr(round(LONGEST_STEP * float(np.mean(fixed.GetSpacing())), 6)),),
            "NumberOfSpatialSamples": (str(samples),),
        }
    if stage.metric == "mi":
        parameters |= {"NumberOfHistogramBins": ("32",)}
    if stage.kind == "bspline":
        if stage.grid_spacing_mm is None:
            raise OptionError("bspline: the stage has no grid spacing; fill it in with presets.complete")
        factors = [2 ** (len(shrink) - 1 - level) for level in range(len(shrink))]
        parameters |= {
            "FinalGridSpacingInPhysicalUnits": (repr(float(stage.grid_spacing_mm)),),
            "GridSpacingSchedule": tuple(str(f) for f in factors),
        }
    return parameters


def _schedule(shrink: Sequence[int], image: sitk.Image, unit_mm: float) -> tuple[str, ...]:
    """Shrink factor of every axis of every level."""
    return tuple(
        str(axis)
        for factor in shrink
        for axis in axis_shrink(factor, image.GetSpacing(), image.GetSize(), unit_mm=unit_mm)
    )


def write_parameter_file(
    stage: Stage, fixed: sitk.Image, moving: sitk.Image, path: Path, *, seed: int = 0
) -> None:
    """Parameter file with which the program ``elastix`` runs the same stage (:func:`parameter_map`).

    Raises:
        OptionError: the stage is not complete, or its metric is ``lncc``, which needs images prepared for it.
    """
    if stage.metric == "lncc":
        raise OptionError(
            "a parameter file cannot say lncc: atlaseg standardises the images locally before elastix sees them; "
            "choose ncc for the file"
        )
    write_map(parameter_map(stage, fixed, moving, seed=seed), path)


def read_parameter_file(path: Path) -> tuple[Stage, tuple[str, ...]]:
    """Stage of an elastix parameter file, and the names of the settings in it that a stage cannot say.

    What elastix takes from the data where a file is silent stays ``None``. The pyramids of elastix that smooth by
    half the shrink factor times the voxel leave the smoothing to the presets, which do the same.

    Raises:
        MissingFileError, UnreadableFileError: as :func:`read_map`, or a value is not a number.
        OptionError: the transform or the metric has no counterpart (several metrics in one stage, for example).
    """
    found = read_map(path)
    kind = _named(found, "Transform", _KIND_OF, path)
    metric = _named(found, "Metric", _METRIC_NAMED, path)
    used = {"Transform", "Metric"}

    def numbers(name: str, default: tuple[float, ...] = ()) -> tuple[float, ...]:
        used.add(name)
        try:
            return tuple(float(v) for v in found.get(name, default))
        except ValueError as error:
            raise UnreadableFileError(f"{path}: {name} must be numbers, found {found[name]}") from error

    def per_level(*names: str) -> tuple[float, ...]:
        """Largest value of the axes of each level, by the first of the names that is there."""
        rows = [r for r in (numbers(name) for name in names) if r]
        if not rows:
            return ()
        if len(rows[0]) != 3 * levels:
            raise UnreadableFileError(
                f"{path}: {names[0]} must be {3 * levels} numbers, found {len(rows[0])}"
            )
        return tuple(np.reshape(rows[0], (levels, 3)).max(axis=1).tolist())

    levels = int(numbers("NumberOfResolutions", (3.0,))[0])
    shrink = per_level("FixedImagePyramidRescaleSchedule", "ImagePyramidRescaleSchedule",
                       "FixedImagePyramidSchedule", "ImagePyramidSchedule")  # fmt: skip
    smoothing = per_level("FixedImagePyramidSmoothingSchedule", "ImagePyramidSmoothingSchedule")
    iterations = numbers("MaximumNumberOfIterations", (500.0,))
    sampler = found.get("ImageSampler", ("Random",))[0]
    samples = numbers("NumberOfSpatialSamples", (5000.0,))
    spacing = numbers("FinalGridSpacingInPhysicalUnits")
    stage = Stage(
        kind,
        metric,
        shrink=tuple(int(s) for s in shrink) or tuple(2 ** (levels - 1 - level) for level in range(levels)),
        smoothing_mm=smoothing or None,
        iterations=tuple(int(n) for n in (iterations * levels)[:levels]),
        grid_spacing_mm=float(np.mean(spacing)) if spacing else None,
        samples=0 if sampler == "Full" else int(samples[0]),
    )
    left = [
        name
        for name, values in found.items()
        if name not in used
        and not _WITHOUT_MEANING.fullmatch(name)
        and not _as_ours(name, values, kind, levels)
    ]
    return stage, tuple(left)


def _as_ours(name: str, values: tuple[str, ...], kind: Kind, levels: int) -> bool:
    """Whether a setting is the one that every stage has anyway."""
    regular = tuple(str(2 ** (levels - 1 - level)) for level in range(levels))
    ours: Mapping[str, tuple[tuple[str, ...], ...]] = {
        **{key: (value,) for key, value in _COMMON.items()},
        **{key: (value, _DRAWN_VOXELS.get(key, value)) for key, value in _ALL_VOXELS.items()},
        "AutomaticParameterEstimation": (("true",),),
        "GridSpacingSchedule": (regular,),
        "NumberOfHistogramBins": (("32",),),
        # one draw of voxels is as good as another
        "ImageSampler": (("RandomCoordinate",), ("Random",), ("Full",)),
    }
    if name == "GridSpacingSchedule" and kind != "bspline":
        return True
    # a stage shrinks and smooths both images alike
    return name.startswith("MovingImagePyramid") or values in ours.get(name, ())


def _named(found: ParameterMap, name: str, table: Mapping[str, Any], path: Path) -> Any:
    values = found.get(name, ())
    if len(values) != 1 or values[0] not in table:
        what = " and ".join(values) if values else "none"
        raise OptionError(f"{path}: {name} must be one of {', '.join(table)}; found {what}")
    return table[values[0]]
