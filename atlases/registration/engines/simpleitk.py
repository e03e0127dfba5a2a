"""Registration by ITK's own framework and its demons, through SimpleITK."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from atlaseg.atlases.registration.contrast_and_overlap import require_contrast, require_overlap
from atlaseg.atlases.registration.engine import Problem, RegistrationError, reason_of
from atlaseg.atlases.registration.engine_facts import DENSE_VOXELS, EngineFacts, Preset
from atlaseg.atlases.registration.itk_threads import itk_threads
from atlaseg.atlases.registration.stage import LINEAR, Stage
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.errors import OptionError

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["SimpleItkEngine"]

_HISTOGRAM_BINS = 32
#: Standard deviation of the Gaussian on each update and on the whole field of a deformable stage, voxels of the level.
_UPDATE_SMOOTHING, _FIELD_SMOOTHING = 1.5, 0.7
#: No axis is shrunk to fewer voxels.
_FEWEST_VOXELS = 4


@dataclass(frozen=True)
class _Level:
    """One level of a pyramid."""

    shrink: tuple[int, ...]
    smoothing_mm: float
    iterations: int


@dataclass(frozen=True)
class SimpleItkEngine:
    """Runs the registration framework of ITK: linear stages, B-splines, and dense fields.

    A ``deformable`` stage is the demons with symmetric forces, composed so that the warp stays invertible; they
    compare intensities, so their only metric is ``ssd``.

    Equal seeds give equal results to the last bit on one thread; on several, sums are added in another order.

    Source: T. Vercauteren et al., Diffeomorphic demons: efficient non-parametric image registration, NeuroImage 45
    (2009) S61-S72, doi:10.1016/j.neuroimage.2008.10.040; B. B. Avants et al., The Insight ToolKit image registration
    framework, Frontiers in Neuroinformatics 8 (2014) 44, doi:10.3389/fninf.2014.00044.
    """

    name: ClassVar[str] = "simpleitk"
    kinds: ClassVar[frozenset[str]] = frozenset({*LINEAR, "bspline", "deformable"})
    metrics: ClassVar[frozenset[str]] = frozenset({"ssd", "mi", "ncc", "lncc"})
    facts: ClassVar[EngineFacts] = EngineFacts(
        presets={
            "linear": Preset("ncc", "mi", (200, 200, 100), 100_000, radius=4),
            # time grows with voxels times control points: a pair of hippocampi takes 5 minutes on elastix' grid, 20 s
            # here; nothing but the distance of the points keeps the warp smooth, and with 4000 voxels they follow noise
            "bspline": Preset("ncc", "mi", (30, 30, 15), 10_000, grid_factor=2.5),
            "deformable": Preset("ssd", None, (100, 50, 30), most_voxels=DENSE_VOXELS),
        },
        # the demons have no way to leave out what continues a slab
        fewest_slices={"deformable": 8},
    )

    def register(self, problem: Problem, stages: Sequence[Stage]) -> Transform:
        """The whole mapping fixed -> moving points.

        Args:
            problem: the images.
            stages: complete. The demons use every voxel and know no masks while they run: outside a mask their forces
                are set to nothing by making both images equal there.

        Raises:
            OptionError: a ``deformable`` stage with another metric than ``ssd``, or with sampling.
            RegistrationError: ITK failed, or its result is not finite.
        """
        for stage in stages:
            if stage.kind == "deformable" and (stage.metric != "ssd" or stage.samples):
                raise OptionError(
                    f"deformable: SimpleITK's demons compare every voxel by ssd, found metric {stage.metric} and "
                    f"samples {stage.samples}; take ssd and no samples, or another engine"
                )
        run = {"bspline": _bspline, "deformable": _deformable}
        require_contrast(self.name, problem)
        require_overlap(self.name, problem, problem.initial, "the initial transform")
        current = problem.initial
        with itk_threads(problem.threads):
            for stage in stages:
                try:
                    step = run.get(stage.kind, _linear)(problem, stage, current)
                except RuntimeError as error:
                    raise RegistrationError(
                        f"simpleitk: the {stage.kind} stage failed ({reason_of(error)}); try another "
                        "initialisation, metric or engine"
                    ) from error
                current = Transform.compose([step, current])
        require_overlap(self.name, problem, current, "the result")
        return current


def _levels(stage: Stage, fixed: sitk.Image) -> Iterator[_Level]:
    for factor, smoothing, iterations in zip(
        stage.shrink or (), stage.smoothing_mm or (), stage.iterations or (), strict=True
    ):
        shrink = tuple(max(1, min(factor, n // _FEWEST_VOXELS)) for n in fixed.GetSize())
        yield _Level(shrink, smoothing, iterations)


def _method(problem: Problem, stage: Stage, level: _Level, before: Transform) -> sitk.ImageRegistrationMethod:
    """ITK's registration of one level: metric, masks, sampling, pyramid; without optimizer and transform."""
    import SimpleITK as sitk

    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(problem.threads)
    {
        "ssd": method.SetMetricAsMeanSquares,
        "mi": lambda: method.SetMetricAsMattesMutualInformation(_HISTOGRAM_BINS),
        "ncc": method.SetMetricAsCorrelation,
        "lncc": lambda: method.SetMetricAsANTSNeighborhoodCorrelation(stage.metric_radius or 1),
    }[str(stage.metric)]()
    if problem.fixed_mask is not None:
        method.SetMetricFixedMask(problem.fixed_mask)
    if problem.moving_mask is not None:
        method.SetMetricMovingMask(problem.moving_mask)
    voxels = int(np.prod([n // f for n, f in zip(problem.fixed.GetSize(), level.shrink, strict=True)]))
    if stage.samples and stage.samples < voxels:
        method.SetMetricSamplingStrategy(method.RANDOM)
        # seed 0 means the clock to ITK
        method.SetMetricSamplingPercentage(stage.samples / voxels, problem.seed % 2**31 + 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel([1])
    method.SetSmoothingSigmasPerLevel([level.smoothing_mm])
    method.SetSmoothingSigmasAreSpecifiedInPhysicalUnits(True)
    method.SetVirtualDomainFromImage(sitk.Shrink(problem.fixed, level.shrink))
    method.SetMovingInitialTransform(before.itk)
    return method


def _linear(problem: Problem, stage: Stage, before: Transform) -> Transform:
    import SimpleITK as sitk

    kinds = {
        "rigid": sitk.Euler3DTransform,
        "similarity": sitk.Similarity3DTransform,
        "affine": sitk.AffineTransform,
    }
    itk = kinds[stage.kind](3) if stage.kind == "affine" else kinds[stage.kind]()
    middle = [(n - 1) / 2 for n in problem.fixed.GetSize()]
    itk.SetCenter(problem.fixed.TransformContinuousIndexToPhysicalPoint(middle))
    for level in _levels(stage, problem.fixed):
        method = _method(problem, stage, level, before)
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetOptimizerAsRegularStepGradientDescent(
            learningRate=1.0,
            minStep=1e-4,
            numberOfIterations=level.iterations,
            relaxationFactor=0.6,
            gradientMagnitudeTolerance=1e-8,
            estimateLearningRate=method.Once,
        )
        method.SetInitialTransform(itk, True)
        method.Execute(problem.fixed, problem.moving)
    return Transform(itk)


def _bspline(problem: Problem, stage: Stage, before: Transform) -> Transform:
    import SimpleITK as sitk

    levels = list(_levels(stage, problem.fixed))
    extent = np.array(problem.fixed.GetSize()) * np.array(problem.fixed.GetSpacing())
    coarsest = (stage.grid_spacing_mm or float(extent.min())) * 2 ** (len(levels) - 1)
    # intervals double from level to level, so that the finest ones have the distance that was asked for
    mesh = np.maximum(np.round(extent / coarsest), 1).astype(int).tolist()
    itk = sitk.BSplineTransformInitializer(problem.fixed, mesh, 3)
    for number, level in enumerate(levels):
        if number:
            mesh = [2 * intervals for intervals in mesh]
            itk = _refined(itk, sitk.BSplineTransformInitializer(problem.fixed, mesh, 3))
        method = _method(problem, stage, level, before)
        method.SetOptimizerAsLBFGSB(
            gradientConvergenceTolerance=1e-6,
            numberOfIterations=level.iterations,
            maximumNumberOfCorrections=5,
            maximumNumberOfFunctionEvaluations=2 * level.iterations,
            costFunctionConvergenceFactor=1e5,
        )
        method.SetInitialTransform(itk, True)
        method.Execute(problem.fixed, problem.moving)
    return Transform(itk)


def _refined(coarse: sitk.BSplineTransform, fine: sitk.BSplineTransform) -> sitk.BSplineTransform:
    """The same warp on more control points: coefficients are evaluated at the new ones and decomposed again."""
    import SimpleITK as sitk

    still = sitk.Transform(3, sitk.sitkIdentity)
    images = []
    for old, new in zip(coarse.GetCoefficientImages(), fine.GetCoefficientImages(), strict=True):
        values = sitk.Resample(old, new, still, sitk.sitkBSplineResampler, 0.0)
        images.append(sitk.BSplineDecomposition(values, 3))
    return sitk.BSplineTransform(images, 3)


def _deformable(problem: Problem, stage: Stage, before: Transform) -> Transform:
    import SimpleITK as sitk

    field: sitk.Image | None = None
    for level in _levels(stage, problem.fixed):
        grid = sitk.Shrink(problem.fixed, level.shrink)
        field = _empty_field(grid) if field is None else _resampled_field(field, grid)
        field = _demons(problem, level, before, field)
    if field is None:
        raise RegistrationError("simpleitk: a deformable stage needs at least one level")
    return Transform(sitk.DisplacementFieldTransform(_resampled_field(field, problem.fixed)))


def _empty_field(grid: sitk.Image) -> sitk.Image:
    import SimpleITK as sitk

    field = sitk.Image(grid.GetSize(), sitk.sitkVectorFloat64, 3)
    field.CopyInformation(grid)
    return field


def _resampled_field(field: sitk.Image, grid: sitk.Image) -> sitk.Image:
    """The field on a finer grid of the same extent; beyond the outermost voxels their values are repeated."""
    import SimpleITK as sitk

    if field.GetSize() == grid.GetSize():
        return sitk.Image(field)
    resampler = sitk.ResampleImageFilter()
    resampler.SetReferenceImage(grid)
    resampler.SetInterpolator(sitk.sitkLinear)
    resampler.SetUseNearestNeighborExtrapolator(True)
    return resampler.Execute(field)


def _demons(problem: Problem, level: _Level, before: Transform, field: sitk.Image) -> sitk.Image:
    """Demons with symmetric forces and compositive updates, on the images of a level."""
    import SimpleITK as sitk

    fixed, moving = (
        sitk.SmoothingRecursiveGaussian(image, level.smoothing_mm) if level.smoothing_mm else image
        for image in (problem.fixed, problem.moving)
    )
    fixed = sitk.Resample(fixed, field, sitk.Transform(3, sitk.sitkIdentity), sitk.sitkLinear)
    moving = sitk.Resample(moving, field, before.itk, sitk.sitkLinear, 0.0)
    inside = _inside(problem, before, field)
    if inside is not None:
        # no difference, no force
        moving = (
            sitk.Cast(inside, sitk.sitkFloat32) * moving + sitk.Cast(1 - inside, sitk.sitkFloat32) * fixed
        )
    demons = sitk.DiffeomorphicDemonsRegistrationFilter()
    demons.SetNumberOfThreads(problem.threads)
    demons.SetNumberOfIterations(level.iterations)
    demons.SetSmoothUpdateField(True)
    demons.SetUpdateFieldStandardDeviations(_UPDATE_SMOOTHING)
    demons.SetSmoothDisplacementField(True)
    demons.SetStandardDeviations(_FIELD_SMOOTHING)
    demons.SetMaximumUpdateStepLength(0.5)
    return demons.Execute(fixed, moving, field)


def _inside(problem: Problem, before: Transform, grid: sitk.Image) -> sitk.Image | None:
    """Voxels of a grid that lie in both masks, uint8, or ``None`` where there are none."""
    import SimpleITK as sitk

    still = sitk.Transform(3, sitk.sitkIdentity)
    masks = [
        sitk.Resample(mask, grid, itk, sitk.sitkNearestNeighbor, 0)
        for mask, itk in ((problem.fixed_mask, still), (problem.moving_mask, before.itk))
        if mask is not None
    ]
    if not masks:
        return None
    return masks[0] if len(masks) == 1 else masks[0] * masks[1]
