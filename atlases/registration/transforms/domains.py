"""Domain of deformable transforms: outside, ITK's displacement fields and B-splines move nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.registration.transforms.frames import affine_of, flip_points
from atlaseg.atlases.registration.transforms.transform import Transform, parts_of

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["Domain", "domain_of_part", "outside", "spline_cells"]

Points = npt.NDArray[np.float64]

#: Nodes of a domain that :meth:`Domain.nodes` gives at most.
MOST_NODES = 100_000


@dataclass(frozen=True, eq=False)
class Domain:
    """Where a displacement field or a B-spline moves points: voxel indices from 0 to ``last`` along each axis.

    Args:
        affine: index -> RAS+ mm.
        last: largest index, which need not be whole.
    """

    affine: Points
    last: Points

    @property
    def voxel(self) -> float:
        """Smallest side of a voxel in mm."""
        return float(np.linalg.norm(self.affine[:3, :3], axis=0).min())

    def clipped(self, points: Points) -> Points:
        """Closest places inside, along the axes of the grid."""
        inverse = np.linalg.inv(self.affine)
        indices = np.clip(points @ inverse[:3, :3].T + inverse[:3, 3], 0, self.last)
        inside: Points = indices @ self.affine[:3, :3].T + self.affine[:3, 3]
        return inside

    def beyond(self, points: Points) -> npt.NDArray[np.float64]:
        """How many voxels each point lies outside, along the axis on which it is most."""
        inverse = np.linalg.inv(self.affine)
        indices = points @ inverse[:3, :3].T + inverse[:3, 3]
        return np.asarray(np.maximum(-indices, indices - self.last).max(axis=1, initial=0.0))

    def nodes(self) -> tuple[Points, float]:
        """Places all over the domain, and the largest distance in mm between neighbours."""
        count = np.floor(self.last) + 1
        step = max(1.0, float((count.prod() / MOST_NODES) ** (1 / 3)))
        axes = [
            np.linspace(0, end, max(2, int(np.ceil(n / step))) if end > 0 else 1)
            for n, end in zip(count, self.last, strict=True)
        ]
        indices = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
        sizes = np.linalg.norm(self.affine[:3, :3], axis=0)
        apart = max(
            (axis[1] - axis[0]) * size if len(axis) > 1 else 0 for axis, size in zip(axes, sizes, strict=True)
        )
        return indices @ self.affine[:3, :3].T + self.affine[:3, 3], float(apart)


def domain_of_part(part: sitk.Transform) -> Domain | None:
    """Domain of a displacement field or a B-spline; other parts have none and move all of space."""
    import SimpleITK as sitk

    if isinstance(part, sitk.DisplacementFieldTransform):
        field = part.GetDisplacementField()
        return Domain(affine_of(field), np.array(field.GetSize(), float) - 1)
    if isinstance(part, sitk.BSplineTransform):
        affine, cells = spline_cells(part)
        # on the far border itself, ITK's splines move nothing
        return Domain(affine, cells - 1e-6)
    return None


def spline_cells(spline: sitk.BSplineTransform) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Where a B-spline moves points: an affine, cell -> RAS+ mm, and the number of cells along each axis."""
    cells = np.array(spline.GetTransformDomainMeshSize(), np.float64)
    spacing = np.array(spline.GetTransformDomainPhysicalDimensions()) / cells
    direction = np.reshape(spline.GetTransformDomainDirection(), (3, 3))
    affine = np.eye(4)
    affine[:3, :3] = flip_points((direction * spacing).T).T
    affine[:3, 3] = flip_points(np.array(spline.GetTransformDomainOrigin()))
    return affine, cells


def outside(transform: Transform, points: Points) -> npt.NDArray[np.bool_]:
    """Which points ``(n, 3)``, RAS+ mm, come to lie outside the domain of a part of the transform, and stay there."""
    result = np.zeros(len(points), bool)
    for part in reversed(parts_of(transform.itk)):
        domain, one = domain_of_part(part), Transform(part)
        if domain is not None:
            # voxels are boxes: ITK's fields extend half a voxel beyond the last centres
            margin = 0.5 if part.GetName() != "BSplineTransform" else 0.0
            result |= domain.beyond(points) > margin + 1e-6
        points = one.points(points)
    return result
