"""Registration by elastix, through itk-elastix."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from atlaseg.atlases.registration.contrast_and_overlap import require_contrast, require_overlap
from atlaseg.atlases.registration.engine import Problem, RegistrationError, reason_of
from atlaseg.atlases.registration.engine_facts import EngineFacts, Preset
from atlaseg.atlases.registration.engines.elastix.elastix_parameters import (
    METRIC_OF,
    TRANSFORM_OF,
    parameter_map,
)
from atlaseg.atlases.registration.intensity_scale import standardise_locally
from atlaseg.atlases.registration.stage import Stage
from atlaseg.atlases.registration.transforms.elastix_text import ParameterMap
from atlaseg.atlases.registration.transforms.elastix_transform import itk_transform, maps_of
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.errors import OptionError

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["ElastixEngine"]

_ADVICE = "try another initialisation, metric or engine, or masks"


class ElastixEngine:
    """Runs rigid, similarity, affine and B-spline stages with adaptive stochastic gradient descent.

    The same seed and number of threads give the same transform; with another number of threads sums are added in
    another order, and the last digits differ.

    Sources: S. Klein, M. Staring, K. Murphy, M. A. Viergever, J. P. W. Pluim, elastix: a toolbox for intensity-based
    medical image registration, IEEE Trans. Medical Imaging 29 (2010) 196-205, doi:10.1109/TMI.2009.2035616; S. Klein,
    J. P. W. Pluim, M. Staring, M. A. Viergever, Adaptive stochastic gradient descent optimisation for image
    registration, Int. J. Computer Vision 81 (2009) 227-239, doi:10.1007/s11263-008-0168-y.
    """

    name: ClassVar[str] = "elastix"
    kinds: ClassVar[frozenset[str]] = frozenset(TRANSFORM_OF)
    metrics: ClassVar[frozenset[str]] = frozenset(METRIC_OF)
    facts: ClassVar[EngineFacts] = EngineFacts(
        presets={
            "linear": Preset("ncc", "mi", (250, 250, 250), 2048, radius=4),
            # windows of the two images hold other things where one is a slab: with ncc half the error
            "bspline": Preset(
                "lncc", "mi", (250, 250, 250), 4096, 150_000, (30, 30, 30), radius=3, same_in_slabs="ncc"
            ),
        },
        # brought 0.011 Dice on 18 pairs of hippocampi in two thirds of the time; greedy lost 0.019 on 15 by it
        bending_margin=6,
    )

    def register(self, problem: Problem, stages: Sequence[Stage]) -> Transform:
        """The whole mapping fixed -> moving points.

        A linear initial transform is handed to elastix. Of a deformable one the moving image is resampled onto the
        fixed grid first, and the stages correct what is left. For ``lncc`` elastix sees both images standardised
        locally, in a Gaussian window with a standard deviation of the metric's radius, and correlates these.

        Args:
            problem: the images.
            stages: complete, of kinds and with metrics that elastix has.

        Raises:
            RegistrationError: the images have no contrast or no overlap, or elastix failed.
            OptionError: a stage is not complete.
        """
        require_contrast(self.name, problem)
        require_overlap(self.name, problem, problem.initial, "the initial transform")
        result = problem.initial
        for radius, together in groupby(stages, _window):
            result = _after(replace(_seen_through(problem, radius), initial=result), list(together))
        require_overlap(self.name, problem, result, "the result")
        return result


def _window(stage: Stage) -> int | None:
    """Radius of the window in which a stage wants the images standardised, voxels; ``None``: as they are."""
    if stage.metric != "lncc":
        return None
    if stage.metric_radius is None:
        raise OptionError(f"{stage.kind}: lncc has no radius; fill the stage in with presets.complete")
    return stage.metric_radius


def _seen_through(problem: Problem, radius: int | None) -> Problem:
    if radius is None:
        return problem
    # one window for both, in mm, of the coarser image's voxels
    images = problem.fixed, problem.moving
    sigma_mm = radius * max(float(np.prod(image.GetSpacing())) ** (1 / 3) for image in images)
    fixed, moving = (standardise_locally(image, sigma_mm) for image in images)
    return replace(problem, fixed=fixed, moving=moving)


def _after(problem: Problem, stages: Sequence[Stage]) -> Transform:
    """Stages that see the same images, from the problem's initial transform on."""
    linear = problem.initial.is_linear
    moving, mask = (problem.moving, problem.moving_mask) if linear else _carried(problem)
    maps = [parameter_map(stage, problem.fixed, moving, seed=problem.seed) for stage in stages]
    # the first of the chain is the initial transform, already in elastix's words
    found = _run(problem, moving, mask, maps, maps_of(problem.initial, problem.fixed) if linear else [])
    steps = [Transform(itk_transform(parameters)) for parameters in found]
    return Transform.compose([problem.initial, *steps] if linear else [*steps, problem.initial])


def _carried(problem: Problem) -> tuple[sitk.Image, sitk.Image]:
    """Moving image on the fixed grid, by the initial transform, and the mask of where there is something of it."""
    import SimpleITK as sitk

    itk = problem.initial.itk
    inside = problem.moving_mask
    if inside is None:
        inside = sitk.Cast(problem.moving * 0 + 1, sitk.sitkUInt8)
    # repeat the edge voxels beyond the moving image: a smoothed black rim would be taken for anatomy
    image = sitk.Resample(
        problem.moving,
        problem.fixed,
        itk,
        sitk.sitkLinear,
        0.0,
        sitk.sitkFloat32,
        useNearestNeighborExtrapolator=True,
    )
    return image, sitk.Resample(inside, problem.fixed, itk, sitk.sitkNearestNeighbor, 0)


def _run(
    problem: Problem,
    moving: sitk.Image,
    moving_mask: sitk.Image | None,
    maps: list[ParameterMap],
    initial: list[ParameterMap],
) -> list[ParameterMap]:
    """The stages in one run of elastix; the transform parameters of each of them."""
    itk = _library()
    method = itk.registration.itkElastixRegistrationMethodIF3IF3.New()
    # elastix reads the arrays in place: the images must live until it is done
    fixed_image, moving_image = _image(itk, problem.fixed), _image(itk, moving)
    method.SetFixedImage(fixed_image)
    method.SetMovingImage(moving_image)
    masks = [None if m is None else _image(itk, m) for m in (problem.fixed_mask, moving_mask)]
    if masks[0] is not None:
        method.SetFixedMask(masks[0])
    if masks[1] is not None:
        method.SetMovingMask(masks[1])
    method.SetParameterObject(_parameter_object(itk, maps))
    if initial:
        method.SetInitialTransformParameterObject(_parameter_object(itk, initial))
    method.SetNumberOfThreads(problem.threads)
    method.LogToConsoleOff()
    method.LogToFileOff()
    try:
        method.UpdateLargestPossibleRegion()
    except RuntimeError as error:
        # without a log elastix says only that there was an error; with the same seed it fails again in the same way
        raise RegistrationError(
            f"elastix failed: {_reason(method) or reason_of(error)}; {_ADVICE}"
        ) from error
    result = method.GetTransformParameterObject()
    found = [result.GetParameterMap(n) for n in range(result.GetNumberOfParameterMaps())]
    # with an initial transform given as parameters, elastix may put that in front of its own
    return [{str(key): tuple(values) for key, values in m.items()} for m in found[-len(maps) :]]


def _reason(method: Any) -> str:
    """Why a run failed: the same once more, with a log."""
    with TemporaryDirectory(prefix="elastix-") as folder:
        method.SetOutputDirectory(folder)
        method.SetLogFileName("elastix.log")
        method.LogToFileOn()
        try:
            method.Modified()
            method.UpdateLargestPossibleRegion()
        except RuntimeError:
            pass
        finally:
            method.LogToFileOff()
        log = Path(folder, "elastix.log")
        text = log.read_text(errors="replace") if log.is_file() else ""
    described = re.findall(r"Description:\s*(?:ITK ERROR:\s*)?(?:\w+\(0x\w+\):\s*)?(.+)", text)
    reasons = described or re.findall(r"ERROR:\s*(.+)", text)
    if reasons and "Too many samples" in reasons[-1]:
        return f"the images overlap too little ({reasons[-1].rstrip('. ')})"
    return str(reasons[-1]).strip().removeprefix("ERROR: ").rstrip(".") if reasons else ""


class _Library:
    """The few modules of ITK that elastix needs."""

    def __init__(self) -> None:
        # `itk.ElastixRegistrationMethod` would load every module of ITK, ten seconds of CPU, and PyTorch with them
        # where it is installed, for functions that take tensors. The compiled modules behind it take half a second.
        _leave_out_torch()
        import itk.elxParameterObjectPython as parameters
        import itk.itkElastixRegistrationMethodPython as registration
        import itk.itkMatrixPython as matrix
        import itk.itkPyBufferPython as buffer
        import itk.vnl_matrixPython as vnl

        self.parameters, self.registration = parameters, registration
        self.matrix, self.buffer, self.vnl = matrix, buffer, vnl


def _leave_out_torch() -> None:
    """Keep ITK from importing PyTorch unless it is imported already; without this, loading only takes longer."""
    try:
        from itk.support import helpers
    except ImportError:  # versions that know nothing of PyTorch
        return
    if "torch" not in sys.modules and hasattr(helpers, "_HAVE_TORCH"):
        helpers._HAVE_TORCH = False


_loaded: list[_Library] = []


def _library() -> _Library:
    if not _loaded:
        _loaded.append(_Library())
    return _loaded[0]


def _image(itk: _Library, image: sitk.Image) -> Any:
    """The same image as ``itk`` has it: float32, or uint8 for a mask."""
    import SimpleITK as sitk

    voxels = np.ascontiguousarray(sitk.GetArrayFromImage(image))
    bridge = itk.buffer.itkPyBufferIF3 if voxels.dtype == np.float32 else itk.buffer.itkPyBufferIUC3
    result = bridge._GetImageViewFromArray(voxels, list(image.GetSize()), 1)
    result.SetSpacing(list(image.GetSpacing()))
    result.SetOrigin(list(image.GetOrigin()))
    direction = itk.vnl.vnl_matrixD(3, 3)
    for place, value in enumerate(image.GetDirection()):
        direction.put(place // 3, place % 3, value)
    result.SetDirection(itk.matrix.itkMatrixD33(direction))
    # a view: the array has to live as long as the image
    result.voxels = voxels
    return result


def _parameter_object(itk: _Library, maps: Sequence[ParameterMap]) -> Any:
    result = itk.parameters.elastixParameterObject.New()
    for parameters in maps:
        result.AddParameterMap(itk.parameters.mapstringvectorstring(parameters))
    return result
