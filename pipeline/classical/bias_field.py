"""Bias field: a smooth gain over a volume, 1 plus polynomials of low degree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["field_at", "fit_field", "polynomial_basis"]

Floats = npt.NDArray[np.float64]


def polynomial_basis(at: npt.NDArray[np.intp], shape: Sequence[int], order: int) -> Floats:
    """Products of Legendre polynomials along the axes, of total degree 1 to ``order``, at some voxels.

    The constant is left out: it cannot be distinguished from the scale of the classes' means.

    Args:
        at: ``(N,)`` flat indices into the volume.
        shape: ``(x, y, z)`` of the volume, which spans -1 to 1 along each axis.
        order: highest total degree.

    Returns:
        ``(N, B)``.

    >>> polynomial_basis(np.array([0, 26]), (3, 3, 3), 1).tolist()
    [[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]
    """
    from numpy.polynomial.legendre import legvander

    along = [
        legvander(2 * index / max(size - 1, 1) - 1, order)
        for index, size in zip(np.unravel_index(at, tuple(shape)), shape, strict=True)
    ]
    degrees = [
        (i, j, total - i - j)
        for total in range(1, order + 1)
        for i in range(total, -1, -1)
        for j in range(total - i, -1, -1)
    ]
    return np.stack([along[0][:, i] * along[1][:, j] * along[2][:, k] for i, j, k in degrees], axis=1)


def field_at(basis: Floats, coefficients: Floats) -> Floats:
    """The gain ``(N, C)`` from polynomials ``(N, B)`` and their coefficients ``(C, B)``."""
    return 1 + basis @ coefficients.T


def fit_field(basis: Floats, weight: Floats, target: Floats) -> Floats:
    """Coefficients ``(B,)`` for which ``sum(weight / 2 * gain ** 2 - target * gain)`` is smallest.

    Args:
        basis: ``(N, B)``.
        weight: ``(N,)``, not negative.
        target: ``(N,)``.
    """
    normal = (basis * weight[:, None]).T @ basis
    return np.asarray(np.linalg.lstsq(normal, basis.T @ (target - weight), rcond=None)[0], dtype=np.float64)
