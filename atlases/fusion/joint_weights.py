"""Weights of joint label fusion: from the atlases' errors, and how far they share them, to the best combination."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

__all__ = ["pairwise_errors", "solve_weights"]

Floats = npt.NDArray[np.float32]


def pairwise_errors(differences: Iterable[Floats], beta: float) -> npt.NDArray[np.float64]:
    """Expected joint errors of each two atlases: Wang's matrix ``M``.

    Args:
        differences: for each channel ``(n, N, P)``, absolute difference of each atlas' patch of ``P`` voxels from the
            target's.
        beta: exponent.

    Returns:
        ``(N, N, n)``: mean over patch and channels of the product of two atlases' differences, to the power of
        ``beta``.
    """
    channels = [np.matmul(d, d.swapaxes(1, 2)) / np.float32(d.shape[2]) for d in differences]
    mean = sum(channels[1:], start=channels[0]) / np.float32(len(channels))
    matrix = np.ascontiguousarray(np.moveaxis(mean, 0, -1), dtype=np.float64)
    if beta == 1:
        return matrix
    if beta == 2:
        return np.square(matrix, out=matrix)
    return np.power(matrix, beta, out=matrix)


def solve_weights(matrix: npt.NDArray[np.float64], alpha: float, usable: npt.NDArray[np.bool_]) -> Floats:
    """Weights ``w = (M + alpha I)^-1 1``, negative ones set to zero, scaled to sum to one.

    Gaussian elimination, one step for all voxels at once: for the few atlases there are, this is many times faster
    than a call of LAPACK for each voxel. It needs no pivoting, because the matrix is positive definite (by Schur's
    product theorem for whole ``beta``); pivots of ``alpha I`` plus a positive semi-definite matrix are at least
    ``alpha``, so smaller ones come from rounding, or from a broken ``beta``, and are put right.

    Args:
        matrix: ``(N, N, n)``, symmetric. Overwritten.
        alpha: greater than 0.
        usable: ``(N, n)``; atlases that are not have no weight and leave the others alone.

    Returns:
        ``(N, n)``; zero where no atlas is usable.
    """
    count = len(matrix)
    right = usable.astype(np.float64)
    if not usable.all():
        matrix *= right[:, None] * right[None, :]
    for k in range(count):
        matrix[k, k] += alpha
    for k in range(count):
        np.maximum(matrix[k, k], alpha, out=matrix[k, k])
        factors = matrix[k + 1 :, k] / matrix[k, k]
        matrix[k + 1 :, k + 1 :] -= factors[:, None] * matrix[k, k + 1 :]
        right[k + 1 :] -= factors * right[k]
    for k in reversed(range(count)):
        right[k] -= np.einsum("jn,jn->n", matrix[k, k + 1 :], right[k + 1 :])
        right[k] /= matrix[k, k]
    np.maximum(right, 0, out=right)
    total = right.sum(axis=0)
    np.divide(right, total, out=right, where=total > 0)
    return right.astype(np.float32)
