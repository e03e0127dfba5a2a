"""A pair of images as torch tensors, and the levels of its pyramid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from atlaseg.atlases.registration.engines.torch.torch_lattice import Lattice, gaussian, sample, smooth
from atlaseg.atlases.registration.presets import axis_shrink
from atlaseg.atlases.registration.transforms.frames import affine_of, from_itk

if TYPE_CHECKING:
    import SimpleITK as sitk

    from atlaseg.atlases.registration.engine import Problem
    from atlaseg.atlases.registration.stage import Stage

__all__ = ["Level", "Volume", "levels", "mapped"]


@dataclass(frozen=True, eq=False)
class Volume:
    """An image on a device.

    Args:
        voxels: ``(x, y, z)`` float32.
        affine: ``(4, 4)``, voxel index -> RAS+ mm.
        mask: like ``voxels``, 1 where it counts and 0 elsewhere, or ``None``.
    """

    voxels: torch.Tensor
    affine: npt.NDArray[np.float64]
    mask: torch.Tensor | None

    @classmethod
    def of(cls, image: sitk.Image, mask: sitk.Image | None, device: torch.device) -> Volume:
        """From ITK."""
        return cls(_tensor(image, device), affine_of(image), None if mask is None else _tensor(mask, device))

    @property
    def spacing(self) -> tuple[float, ...]:
        """Size of a voxel along each axis, mm."""
        return tuple(np.linalg.norm(self.affine[:3, :3], axis=0).tolist())

    def smoothed(self, sigma_mm: float) -> torch.Tensor:
        """The voxels behind a Gaussian; standard deviation in mm."""
        if sigma_mm == 0:
            return self.voxels
        shape, device = self.voxels.shape, self.voxels.device
        return smooth(self.voxels, gaussian(shape, [sigma_mm / s for s in self.spacing], device))


def _tensor(image: sitk.Image, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(from_itk(image)[0].astype(np.float32)).to(device)


def mapped(matrix: npt.NDArray[np.float64] | torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Points ``(3, *shape)`` through an affine matrix ``(4, 4)``."""
    matrix = torch.as_tensor(matrix, dtype=points.dtype, device=points.device)
    moved = matrix[:3, :3] @ points.reshape(3, -1) + matrix[:3, 3:]
    return moved.reshape(points.shape)


@dataclass(frozen=True, eq=False)
class Level:
    """One level of a pyramid: the fixed image on a lattice of its voxels, the moving one on its own grid, smoothed.

    Args:
        lattice: where the images are compared.
        fixed: ``(x, y, z)`` on the lattice.
        fixed_mask: like ``fixed``, in [0, 1], or ``None``.
        moving: ``(x, y, z)`` on its own grid.
        moving_mask: like ``moving``, or ``None``.
        iterations: at most.
    """

    lattice: Lattice
    fixed: torch.Tensor
    fixed_mask: torch.Tensor | None
    moving: torch.Tensor
    moving_mask: torch.Tensor | None
    iterations: int

    def moved(self, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The moving image at places ``(3, x, y, z)`` in its voxels, and how much each of them counts."""
        moved = sample(self.moving[None], places)[0]
        if self.moving_mask is None:
            return moved, self.fixed_mask
        weight = sample(self.moving_mask[None], places)[0]
        return moved, weight if self.fixed_mask is None else weight * self.fixed_mask


def levels(problem: Problem, stage: Stage, device: torch.device) -> Iterator[Level]:
    """Levels of a stage, coarse to fine.

    Args:
        problem: the pair.
        stage: complete.
        device: of the tensors.
    """
    fixed = Volume.of(problem.fixed, problem.fixed_mask, device)
    moving = Volume.of(problem.moving, problem.moving_mask, device)
    shape, spacing = fixed.voxels.shape, fixed.spacing
    for shrink, smoothing_mm, iterations in zip(
        stage.shrink or (), stage.smoothing_mm or (), stage.iterations or (), strict=True
    ):
        lattice = Lattice.shrunk(shape, axis_shrink(shrink, spacing, shape))
        yield Level(
            lattice,
            _on(lattice, fixed.smoothed(smoothing_mm), shape),
            None if fixed.mask is None else _on(lattice, fixed.mask, shape),
            moving.smoothed(smoothing_mm),
            moving.mask,
            iterations,
        )


def _on(lattice: Lattice, voxels: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    if lattice.shape == tuple(shape):
        return voxels
    return sample(voxels[None], lattice.points(voxels.device))[0]
