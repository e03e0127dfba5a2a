"""Mixed deformations: the affine part as it was, what bends in the share that was asked for."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from atlaseg.atlases.network_training.warped_case import Part, mixed_transform
from atlaseg.atlases.registration.transforms.displacement import (
    displacement_transform,
    empty_grid,
    grid_points,
)
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.atlases.registration.transforms.transform_files import write_transform

SHAPE = (12, 14, 10)
#: A turned grid with voxels of unlike size, millimetres.
AFFINE = np.array([[-1.2, 0.0, 0, 30], [0, 0.96, -0.42, -20], [0, 0.28, 1.44, 5], [0, 0, 0, 1]])
PLACED = np.array([[1.1, 0.2, 0, 4], [-0.1, 0.9, 0.1, -2], [0, 0.1, 1.2, 1], [0, 0, 0, 1]])


def registration(
    folder: Path,
    name: str,
    bend: tuple[float, float, float],
    placed: np.ndarray = PLACED,
    grid: np.ndarray = AFFINE,
) -> Part:
    """A registration made of an affine mapping and a wave that has none, whose whole share is asked for."""
    x, y, z = (2 * np.pi * axis / n for axis, n in zip(np.indices(SHAPE, float), SHAPE, strict=True))
    # of mean 0 and without a slope along any axis
    wave = np.cos(2 * x) * np.cos(2 * y) * np.cos(z)
    points = grid_points(empty_grid(SHAPE, grid))
    moved = points @ placed[:3, :3].T + placed[:3, 3] + wave.reshape(-1, 1) * bend
    field = (moved - points).T.reshape(3, *SHAPE)
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), grid), folder / f"{name}.nii")
    write_transform(folder / f"{name}.h5", displacement_transform(field, grid))
    return Part(folder / f"{name}.nii", folder / f"{name}.h5", 1.0)


def shared(part: Part, share: float) -> Part:
    return Part(part.like, part.transform, share)


GRID_POINTS = AFFINE[:3, :3] @ np.indices(SHAPE).reshape(3, -1) + AFFINE[:3, 3:]


def moved(*parts: Part) -> np.ndarray:
    return mixed_transform(parts, empty_grid(SHAPE, AFFINE)).points(GRID_POINTS.T)


def placed() -> np.ndarray:
    return Transform.from_matrix(PLACED).points(GRID_POINTS.T)


def test_a_share_of_what_bends(tmp_path):
    part = registration(tmp_path, "a", (0.8, -0.5, 0.3))
    whole = moved(part)
    assert np.linalg.norm(whole - placed(), axis=1).max() > 0.8
    for share in (0.0, 0.3, 0.999999):
        expected = placed() + share * (whole - placed())
        np.testing.assert_allclose(moved(shared(part, share)), expected, atol=1e-5)


def test_a_mix_is_between_both(tmp_path):
    one = registration(tmp_path, "a", (0.8, -0.5, 0.3))
    # another pose: what bends is the same where both place their voxels, as it is a displacement in the source
    other = registration(tmp_path, "b", (-0.2, 0.6, 0.0), PLACED @ np.linalg.inv(TURN), TURN @ AFFINE)
    mix = moved(shared(one, 0.25), shared(other, 0.75))
    wave = (moved(one) - placed()) @ np.array([0.8, -0.5, 0.3]) / 0.98
    expected = placed() + wave[:, None] * (
        0.25 * np.array([0.8, -0.5, 0.3]) + 0.75 * np.array([-0.2, 0.6, 0.0])
    )
    np.testing.assert_allclose(mix, expected, atol=1e-5)
    # a registration mixed with itself is itself
    np.testing.assert_allclose(moved(shared(one, 0.4), shared(one, 0.6)), moved(one), atol=1e-9)


TURN = np.array([[0, -1.0, 0, 3], [1, 0, 0, 40], [0, 0, 1, -7], [0, 0, 0, 1]])


def test_beyond_the_other_grid_it_bends_as_at_its_border(tmp_path):
    one = registration(tmp_path, "a", (0.8, -0.5, 0.3))
    shift = np.eye(4)
    shift[0, 3] = 5
    other = registration(tmp_path, "b", (0.5, 0.5, 0.5), PLACED, AFFINE @ shift)
    bent = (moved(shared(one, 0.0), shared(other, 1.0)) - placed()).reshape(*SHAPE, 3)
    for x in range(5):
        np.testing.assert_allclose(bent[x], bent[5], atol=1e-5)
    assert np.abs(bent[5]).max() == pytest.approx(0.5, abs=0.01)
