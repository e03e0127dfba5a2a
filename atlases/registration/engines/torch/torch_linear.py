"""Rigid, similarity and affine mappings by the likeness' exact gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from atlaseg.atlases.registration.engines.torch.torch_metrics import likeness
from atlaseg.atlases.registration.engines.torch.torch_pyramid import Level, mapped

__all__ = ["linear_mapping"]

#: Numbers that describe each kind of mapping.
_FREEDOM = {"rigid": 6, "similarity": 7, "affine": 12}


def linear_mapping(
    levels: Iterable[Level],
    kind: str,
    before: npt.NDArray[np.float64],
    fixed_affine: npt.NDArray[np.float64],
    moving_affine: npt.NDArray[np.float64],
    shape: tuple[int, int, int],
    metric: str,
    radius: int | None,
) -> npt.NDArray[np.float64]:
    """Mapping of fixed points that, before another one, makes the moving image most like the fixed one.

    Every voxel of a level counts. Its parameters turn, stretch and shift around the centre of the fixed image; all
    are in mm at half the image's extent, so that one step of each moves voxels about equally far. L-BFGS
    (:func:`scipy.optimize.minimize`) climbs by the exact gradient.

    Args:
        levels: of the pyramid, coarse to fine.
        kind: ``rigid``, ``similarity`` or ``affine``.
        before: ``(4, 4)``, fixed -> moving points, RAS+ mm, where it begins.
        fixed_affine: ``(4, 4)``, voxel index -> RAS+ mm.
        moving_affine: the same of the moving image.
        shape: of the fixed image.
        metric: ``ssd``, ``ncc`` or ``lncc``.
        radius: of the window of ``lncc``, voxels of the level.

    Returns:
        ``(4, 4)``, fixed -> fixed points, RAS+ mm: the whole mapping is ``before`` after it.
    """
    from scipy.optimize import minimize

    corner = fixed_affine[:3, :3] @ (np.array(shape) - 1)
    centre = fixed_affine[:3, 3] + corner / 2
    parametrised = _parametrised(kind, centre, float(np.linalg.norm(corner)) / 4)
    into_moving = np.linalg.inv(moving_affine) @ before
    found = np.zeros(_FREEDOM[kind])
    for level in levels:
        climb = _objective(level, parametrised, fixed_affine, into_moving, metric, radius)
        found = minimize(
            climb, found, jac=True, method="L-BFGS-B", options={"maxiter": level.iterations, "ftol": 1e-7}
        ).x
    matrix: npt.NDArray[np.float64] = parametrised(torch.from_numpy(found)).numpy()
    return matrix


def _parametrised(
    kind: str, centre: npt.NDArray[np.float64], radius_mm: float
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Numbers to a matrix ``(4, 4)`` that turns around a centre; zeros are the identity."""
    middle = torch.from_numpy(centre)

    def matrix(numbers: torch.Tensor) -> torch.Tensor:
        shift, rest = numbers[:3], numbers[3:] / radius_mm
        if kind == "affine":
            linear = torch.eye(3, dtype=torch.float64) + rest.reshape(3, 3)
        else:
            zero = torch.zeros((), dtype=torch.float64)
            x, y, z = rest[:3]
            skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3)
            linear = torch.linalg.matrix_exp(skew)
            if kind == "similarity":
                linear = linear * torch.exp(rest[3])
        moved = middle + shift - linear @ middle
        last = torch.tensor([[0.0, 0, 0, 1]], dtype=torch.float64)
        return torch.cat([torch.cat([linear, moved[:, None]], dim=1), last])

    return matrix


def _objective(
    level: Level,
    parametrised: Callable[[torch.Tensor], torch.Tensor],
    fixed_affine: npt.NDArray[np.float64],
    into_moving: npt.NDArray[np.float64],
    metric: str,
    radius: int | None,
) -> Callable[[npt.NDArray[np.float64]], tuple[float, npt.NDArray[np.float64]]]:
    """What L-BFGS makes small, with its gradient.

    Points beyond the moving image do not count: the repeated edge there would be most similar to
    a mapping that is off. The gradient is that of the linear interpolation itself, since line searches of L-BFGS give
    up where value and gradient do not agree; only that weights change with the mapping is left out of it.
    """
    alike = likeness(metric, level.fixed, radius)
    device = level.fixed.device
    points = mapped(fixed_affine, level.lattice.points(device))
    ones = torch.ones(1, points[0].numel(), dtype=points.dtype, device=device)
    flat = torch.cat([points.reshape(3, -1), ones])

    def objective(numbers: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        with torch.enable_grad():
            free = torch.from_numpy(numbers.copy()).requires_grad_(True)
            matrix = torch.from_numpy(into_moving) @ parametrised(free)
            places = mapped(matrix.detach(), points).requires_grad_(True)
            moved, weight = level.moved(places)
        inside = _inside(places.detach(), level.moving.shape)
        value, pull = alike(moved.detach(), inside if weight is None else inside * weight.detach())
        (force,) = torch.autograd.grad(moved, places, pull)
        # the derivative by the matrix' entries, from which torch goes on to the parameters
        by_matrix = (force.reshape(3, -1) @ flat.T / pull.numel()).double().cpu()
        (gradient,) = torch.autograd.grad(matrix[:3], free, by_matrix)
        return -float(value), -gradient.numpy()

    return objective


def _inside(places: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """1 at places among the voxels of an image, down to 0 one voxel beyond the outermost."""
    last = torch.tensor([n - 1 for n in shape], dtype=places.dtype, device=places.device)[:, None, None, None]
    beyond = torch.maximum(-places, places - last).clamp_min(0)
    return (1 - beyond).clamp_min(0).prod(dim=0)
