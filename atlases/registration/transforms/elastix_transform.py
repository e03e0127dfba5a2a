"""elastix's transform parameters <-> ITK transforms, without loss.

elastix keeps a chain: each map names the one that is applied before it. Its Euler, similarity, affine and cubic
B-spline transforms are ITK's with the same order of parameters (elastix 5.2 manual, chapter 6), so that the numbers
can be handed over as they are. All coordinates are LPS+ mm.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from atlaseg.atlases.registration.transforms.elastix_text import ParameterMap, read_map, write_map
from atlaseg.atlases.registration.transforms.frames import matrix_between_frames
from atlaseg.atlases.registration.transforms.itk_parameters import Kind, Record, problem_of, problem_of_part
from atlaseg.atlases.registration.transforms.transform import Transform, parts_of
from atlaseg.pipeline.errors import OptionError, UnreadableFileError

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = [
    "is_transform_parameters",
    "itk_transform",
    "maps_of",
    "read_transform_parameters",
    "write_transform_parameters",
]

#: Name of the file that is applied before, in elastix since 5.1 and before it.
_BEFORE = ("InitialTransformParameterFileName", "InitialTransformParametersFileName")
_NO_FILE = "NoInitialTransform"
_LINEAR = ("EulerTransform", "SimilarityTransform", "AffineTransform", "TranslationTransform")
_BSPLINE = ("BSplineTransform", "RecursiveBSplineTransform")


def is_transform_parameters(path: Path) -> bool:
    """Whether a file holds a transform that elastix found (and not, say, settings to find one).

    Raises:
        MissingFileError, UnreadableFileError: as :func:`atlaseg.atlases.registration.transforms.elastix_text.read_map`.
    """
    return "TransformParameters" in read_map(path)


def read_transform_parameters(path: Path) -> Transform:
    """Transform of a ``TransformParameters.txt`` of elastix, with all that its chain of files names before it.

    Args:
        path: the last file of the chain. A name in it is looked for relative to its folder; an absolute one that
            is not there (files that were moved) is looked for beside it.

    Raises:
        MissingFileError: a file of the chain is not there.
        UnreadableFileError: not elastix's, damaged, or the chain bites its tail.
        OptionError: a transform that has no counterpart in ITK, or transforms that are added, not composed.
    """
    parts: list[sitk.Transform] = []
    seen: set[Path] = set()
    current: Path | None = path
    while current is not None:
        if current.resolve() in seen:
            raise UnreadableFileError(f"{path}: its chain of initial transforms names {current} twice")
        seen.add(current.resolve())
        parameters = read_map(current)
        before = next((parameters[name][0] for name in _BEFORE if parameters.get(name)), _NO_FILE)
        if before != _NO_FILE and parameters.get("HowToCombineTransforms", ("Compose",)) != ("Compose",):
            raise OptionError(f"{current}: transforms are added; only composed ones have an ITK counterpart")
        parts.append(itk_transform(parameters, str(current)))
        current = None if before == _NO_FILE else _found(before, current.parent)
    # the first of the chain is applied first
    return Transform.compose([Transform(part) for part in reversed(parts)])


def _found(name: str, folder: Path) -> Path:
    path = folder / name
    return path if path.is_file() or not Path(name).is_absolute() else folder / Path(name).name


def write_transform_parameters(transform: Transform, reference: sitk.Image, path: Path) -> tuple[Path, ...]:
    """Files from which ``transformix`` resamples a moving image onto the reference.

    A chain of several transforms is several files: the last is ``path``, the ones before it lie beside it as
    ``<stem>.0.txt``, ``<stem>.1.txt``, ...

    Args:
        transform: linear and B-spline parts only.
        reference: the fixed image, whose grid the files name.
        path: ends with ``.txt``.

    Returns:
        The files, in the order in which they are applied.

    Raises:
        OptionError: a part is a displacement field or of another kind that elastix's parameters cannot say.
    """
    maps = maps_of(transform, reference)
    paths = [path.with_name(f"{path.stem}.{n}.txt") for n in range(len(maps) - 1)] + [path]
    before = _NO_FILE
    for parameters, file in zip(maps, paths, strict=True):
        write_map(parameters | {_BEFORE[0]: (before,)}, file)
        before = file.name
    return tuple(paths)


def itk_transform(parameters: ParameterMap, name: str = "elastix") -> sitk.Transform:
    """ITK transform of one map of transform parameters.

    Args:
        parameters: as elastix gives them.
        name: for messages.

    Raises:
        UnreadableFileError: an entry is missing, or does not have as many numbers as it needs.
        OptionError: a kind of transform that has no counterpart.
    """
    kind = parameters.get("Transform", ("none",))[0]
    if kind not in (*_LINEAR, *_BSPLINE):
        raise OptionError(
            f"{name}: cannot read a {kind} of elastix; known are {', '.join((*_LINEAR, *_BSPLINE))}"
        )
    if parameters.get("FixedImageDimension", ("3",)) != ("3",):
        raise OptionError(f"{name}: transforms of volumes are 3-D, found one of another dimension")
    itk = _bspline(parameters, name) if kind in _BSPLINE else _linear(parameters, kind, name)
    if problem := problem_of_part(itk):
        raise UnreadableFileError(f"{name}: {problem}")
    return itk


def _linear(parameters: ParameterMap, kind: str, name: str) -> sitk.Transform:
    import SimpleITK as sitk

    if kind == "TranslationTransform":
        return sitk.TranslationTransform(3, _numbers(parameters, "TransformParameters", 3, name))
    center = _numbers(parameters, "CenterOfRotationPoint", 3, name)
    if kind == "EulerTransform":
        euler = sitk.Euler3DTransform()
        euler.SetComputeZYX(parameters.get("ComputeZYX", ("false",)) == ("true",))
        euler.SetCenter(center)
        euler.SetParameters(_numbers(parameters, "TransformParameters", 6, name))
        return euler
    linear = sitk.Similarity3DTransform() if kind == "SimilarityTransform" else sitk.AffineTransform(3)
    linear.SetCenter(center)
    linear.SetParameters(_numbers(parameters, "TransformParameters", 7 if kind[0] == "S" else 12, name))
    return linear


def _bspline(parameters: ParameterMap, name: str) -> sitk.Transform:
    import SimpleITK as sitk

    size = _numbers(parameters, "GridSize", 3, name)
    spacing = np.array(_numbers(parameters, "GridSpacing", 3, name))
    order = int(_numbers(parameters, "BSplineTransformSplineOrder", 1, name)[0])
    direction = (1.0, 0, 0, 0, 1, 0, 0, 0, 1)
    if "GridDirection" in parameters:
        # elastix writes the matrix column by column, ITK takes it row by row
        columns = np.reshape(_numbers(parameters, "GridDirection", 9, name), (3, 3))
        direction = tuple(columns.T.ravel().tolist())
    origin = np.array(_numbers(parameters, "GridOrigin", 3, name))
    if "GridIndex" in parameters:
        first = spacing * _numbers(parameters, "GridIndex", 3, name)
        origin = origin + np.reshape(direction, (3, 3)) @ first
    values = _numbers(parameters, "TransformParameters", 3 * round(np.prod(size)), name)
    grid = np.concatenate([size, origin, spacing, direction])
    # before ITK sees it, which does not survive every grid
    if problem := problem_of(Record(Kind("BSplineTransform", 3, order), np.array(values), grid)):
        raise UnreadableFileError(f"{name}: {problem}")
    images = []
    for coefficients in np.reshape(values, (3, *(int(n) for n in reversed(size)))):
        image = sitk.GetImageFromArray(np.ascontiguousarray(coefficients, dtype=np.float64))
        image.SetSpacing(spacing.tolist())
        image.SetOrigin(origin.tolist())
        image.SetDirection(direction)
        images.append(image)
    return sitk.BSplineTransform(images, order)


def _numbers(parameters: ParameterMap, key: str, count: int, name: str) -> list[float]:
    try:
        values = [float(v) for v in parameters[key]]
    except (KeyError, ValueError) as error:
        raise UnreadableFileError(f"{name}: {key} is missing or not numbers; is the file damaged?") from error
    if len(values) != count or not np.isfinite(values).all():
        raise UnreadableFileError(
            f"{name}: {key} must be {count} finite numbers, found {len(values)} numbers"
        )
    return values


def maps_of(transform: Transform, reference: sitk.Image) -> list[ParameterMap]:
    """Elastix's maps of a transform, in the order in which they are applied; linear neighbours become one.

    Args:
        transform: linear and B-spline parts only.
        reference: the fixed image, whose grid the maps name.

    Raises:
        OptionError: a part of another kind.
    """
    import SimpleITK as sitk

    grid = {
        "HowToCombineTransforms": ("Compose",),
        "FixedImageDimension": ("3",),
        "MovingImageDimension": ("3",),
        "FixedInternalImagePixelType": ("float",),
        "MovingInternalImagePixelType": ("float",),
        "Size": _words(reference.GetSize()),
        "Index": ("0", "0", "0"),
        "Spacing": _words(reference.GetSpacing()),
        "Origin": _words(reference.GetOrigin()),
        "Direction": _words(np.reshape(reference.GetDirection(), (3, 3)).T.ravel().tolist()),
        "UseDirectionCosines": ("true",),
        "ResampleInterpolator": ("FinalLinearInterpolator",),
        "Resampler": ("DefaultResampler",),
        "DefaultPixelValue": ("0",),
        "ResultImageFormat": ("nii",),
        "ResultImagePixelType": ("float",),
        "CompressResultImage": ("false",),
    }
    own: list[ParameterMap] = []
    pending: list[Transform] = []
    for part in reversed(parts_of(transform.itk)):
        if part.IsLinear():
            pending.append(Transform(part))
            continue
        if not isinstance(part, sitk.BSplineTransform):
            raise OptionError(
                f"elastix's parameter files hold matrices and B-splines, not a {part.GetName()}; "
                "write a displacement field (.nii.gz) instead"
            )
        own += [_linear_map(pending)] if pending else []
        pending = []
        own.append(_bspline_map(part))
    own += [_linear_map(pending)] if pending or not own else []
    return [parameters | grid for parameters in own]


def _linear_map(parts: Sequence[Transform]) -> ParameterMap:
    matrix = matrix_between_frames(Transform.compose(parts).matrix) if parts else np.eye(4)
    return {
        "Transform": ("AffineTransform",),
        "NumberOfParameters": ("12",),
        "TransformParameters": _words([*matrix[:3, :3].ravel().tolist(), *matrix[:3, 3].tolist()]),
        "CenterOfRotationPoint": ("0", "0", "0"),
    }


def _bspline_map(transform: sitk.BSplineTransform) -> ParameterMap:
    grid = transform.GetCoefficientImages()[0]
    parameters = transform.GetParameters()
    return {
        "Transform": ("BSplineTransform",),
        "NumberOfParameters": (str(len(parameters)),),
        "TransformParameters": _words(parameters),
        "GridSize": _words(grid.GetSize()),
        "GridIndex": ("0", "0", "0"),
        "GridSpacing": _words(grid.GetSpacing()),
        "GridOrigin": _words(grid.GetOrigin()),
        "GridDirection": _words(np.reshape(grid.GetDirection(), (3, 3)).T.ravel().tolist()),
        "BSplineTransformSplineOrder": (str(transform.GetOrder()),),
        "UseCyclicTransform": ("false",),
    }


def _words(values: Sequence[float]) -> tuple[str, ...]:
    return tuple(repr(v) for v in values)
