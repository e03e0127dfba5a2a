"""Validate the parameters of ITK transforms: their number, finite values, a valid grid, an invertible matrix.

ITK checks little of it: grids of 1e9 control points or of -5 voxels end the process, a singular matrix flattens the
scan, and a spline without enough control points moves nothing, all without a word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.registration.transforms.transform import Transform

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["COMPOSITE", "Kind", "Record", "is_invertible", "problem_of", "problem_of_part"]

COMPOSITE = "CompositeTransform"

_TYPE = re.compile(r"^(\w+?)_(?:double|float)_(\d+)_(\d+)(?:_(\d+))?$", re.ASCII)

#: Parameters and fixed parameters (centre of rotation) of transforms in three dimensions, by ITK's names.
_COUNTS: dict[str, tuple[int, tuple[int, ...]]] = {
    "AffineTransform": (12, (3,)),
    "CenteredAffineTransform": (15, (3,)),
    "ComposeScaleSkewVersor3DTransform": (12, (3,)),
    "Euler3DTransform": (6, (3, 4)),  # the fourth: the order of its angles
    "FixedCenterOfRotationAffineTransform": (12, (3,)),
    "IdentityTransform": (0, (0,)),
    "MatrixOffsetTransformBase": (12, (3,)),
    "QuaternionRigidTransform": (7, (3,)),
    "Rigid3DTransform": (12, (3,)),
    "ScalableAffineTransform": (12, (3,)),
    "ScaleLogarithmicTransform": (3, (3,)),
    "ScaleSkewVersor3DTransform": (15, (3,)),
    "ScaleTransform": (3, (3,)),
    "ScaleVersor3DTransform": (9, (3,)),
    "Similarity3DTransform": (7, (3,)),
    "TranslationTransform": (3, (0, 3)),  # some programs write a centre, which does nothing
    "VersorRigid3DTransform": (6, (3,)),
    "VersorTransform": (3, (3,)),
}
#: Their first three parameters are the axis of a rotation times the sine of half its angle.
_VERSORS = {name for name in _COUNTS if "Versor" in name or name == "Similarity3DTransform"}
#: Size, origin, spacing and direction of a grid.
_GRID_PARAMETERS = 18
_CUBIC = 3


@dataclass(frozen=True)
class Kind:
    """Type of a transform, from ITK's name of it (``BSplineTransform_double_3_3``).

    Args:
        name: without the numbers behind it.
        dimension: of the space it moves.
        order: of a B-spline.

    >>> Kind.parse("BSplineTransform_double_3_3_2")
    Kind(name='BSplineTransform', dimension=3, order=2)
    """

    name: str
    dimension: int = 3
    order: int = _CUBIC

    @classmethod
    def parse(cls, text: str) -> Kind | None:
        """``None`` where it is no name of a transform, or one between spaces of different dimensions."""
        match = _TYPE.match(text.strip())
        if match is None or match[2] != match[3]:
            return None
        return cls(match[1], int(match[2]), int(match[4] or _CUBIC))


@dataclass(frozen=True, eq=False)
class Record:
    """One transform of a file, as it is written there."""

    kind: Kind
    parameters: npt.NDArray[np.float64]
    fixed: npt.NDArray[np.float64]


def problem_of(record: Record) -> str | None:
    """Problem of the parameters of a 3-D transform, in words, or ``None``; unknown types are accepted."""
    kind, parameters, fixed = record.kind, record.parameters, record.fixed
    if not (np.isfinite(parameters).all() and np.isfinite(fixed).all()):
        return f"the {kind.name} holds NaN or infinite parameters"
    if kind.name == "BSplineTransform" or kind.name.endswith("DisplacementFieldTransform"):
        return _grid_problem(record)
    return _count_problem(record) or _rotation_problem(kind.name, parameters)


def problem_of_part(part: sitk.Transform) -> str | None:
    """As :func:`problem_of`, of an ITK transform that is no composite; of a matrix also whether it has an inverse."""
    import SimpleITK as sitk

    name = part.GetName()
    if isinstance(part, sitk.DisplacementFieldTransform):
        # as an image: SimpleITK would make a Python number of each parameter
        parameters = sitk.GetArrayViewFromImage(part.GetDisplacementField()).ravel()
    else:
        parameters = np.array(part.GetParameters())
    kind = Kind(name, 3, part.GetOrder() if isinstance(part, sitk.BSplineTransform) else _CUBIC)
    problem = problem_of(Record(kind, parameters, np.array(part.GetFixedParameters())))
    if problem is None and part.IsLinear() and not is_invertible(Transform(part).matrix[:3, :3]):
        problem = (
            f"the matrix of the {name} is singular: it flattens space, so nothing can be carried through it"
        )
    return problem


def is_invertible(matrix: npt.NDArray[np.float64]) -> bool:
    """Whether a ``(3, 3)`` matrix is invertible, in any unit of length.

    >>> is_invertible(np.eye(3) * 1e-3), is_invertible(np.diag([1., 1, 0]))
    (True, False)
    """
    if not np.isfinite(matrix).all():
        return False
    widths = np.linalg.svd(matrix, compute_uv=False)
    return bool(widths[2] > 1e-8 * widths[0])


def _count_problem(record: Record) -> str | None:
    """Whether a transform without a grid has as many parameters as its type asks for."""
    name = record.kind.name
    if name not in _COUNTS:
        return None
    count, centres = _COUNTS[name]
    if record.parameters.size != count:
        return f"{name} takes {count} parameters, found {record.parameters.size}"
    if record.fixed.size not in centres:
        wanted = " or ".join(str(n) for n in centres)
        return f"{name} takes {wanted} fixed parameters, found {record.fixed.size}"
    return None


def _rotation_problem(name: str, parameters: npt.NDArray[np.float64]) -> str | None:
    """Whether the first parameters are a rotation."""
    if name in _VERSORS and (length := float(np.linalg.norm(parameters[:3]))) > 1 + 1e-6:
        return (
            f"the rotation of {name} is a vector no longer than 1 (an axis times the sine of half the angle), found "
            f"{length:.4g}"
        )
    if name == "QuaternionRigidTransform" and abs(float(np.linalg.norm(parameters[:4])) - 1) > 1e-4:
        return f"the quaternion must have length 1, found {np.linalg.norm(parameters[:4]):.4g}"
    return None


def _grid_problem(record: Record) -> str | None:
    """What is wrong with a B-spline or a displacement field."""
    kind, fixed = record.kind, record.fixed
    if fixed.size < _GRID_PARAMETERS:
        return (
            f"{kind.name} takes {_GRID_PARAMETERS} fixed parameters (size, origin, spacing and direction of its grid), "
            f"found {fixed.size}"
        )
    size, spacing, direction = fixed[:3], fixed[6:9], fixed[9:18].reshape(3, 3)
    spline = kind.name == "BSplineTransform"
    nodes, least = ("control points", kind.order + 1) if spline else ("voxels", 1)
    shown = " x ".join(f"{n:g}" for n in size)
    if (size != np.rint(size)).any() or size.min() < least:
        return f"the grid of {kind.name} has at least {least} {nodes} along each axis, found {shown}"
    if spacing.min() <= 0:
        return f"the spacing of its grid must be above 0 mm, found {' x '.join(f'{s:g}' for s in spacing)}"
    if not is_invertible(direction):
        return "the axes of its grid lie in a plane (its direction matrix is singular)"
    if record.parameters.size != 3 * size.prod():
        return f"{kind.name} on {shown} {nodes} takes {3 * size.prod():.0f} parameters, found {record.parameters.size}"
    return None
