"""The lattice against scipy's B-splines and known motions."""

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from atlaseg.pipeline.errors import GeometryError, OptionError
from atlaseg.pipeline.transforms.lattice import Lattice

PATCH, SPACING = (11, 8, 5), (1.0, 0.7, 3.0)
EYE = torch.eye(3)[None]


def grid(size, start=(0, 0, 0)):
    return torch.stack(
        torch.meshgrid(*(torch.arange(float(n)) + s for n, s in zip(size, start, strict=True)), indexing="ij")
    )


def middle(size):
    return [(n - 1) / 2 for n in size]


def test_no_motion_leaves_every_voxel_in_its_place():
    lattice = Lattice(PATCH, SPACING, 4.0)
    places = lattice.coordinates(EYE, torch.zeros(1, 3, *lattice.shape), middle(PATCH))
    assert torch.allclose(places[0], grid(PATCH), atol=1e-5)


def test_a_matrix_acts_in_millimetres_about_the_centre():
    lattice = Lattice(PATCH, SPACING, 4.0)
    matrix = torch.tensor([[[0.9, 0.2, 0.0], [-0.3, 1.1, 0.1], [0.0, 0.2, 1.0]]])
    places = lattice.coordinates(matrix, torch.zeros(1, 3, *lattice.shape), (20.0, 30.0, 40.0))[0]
    spacing = torch.tensor(SPACING).view(3, 1, 1, 1)
    offset = (grid(PATCH) - torch.tensor(middle(PATCH)).view(3, 1, 1, 1)) * spacing
    expected = torch.einsum("ij,jxyz->ixyz", matrix[0], offset) / spacing
    assert torch.allclose(places, expected + torch.tensor([20.0, 30.0, 40.0]).view(3, 1, 1, 1), atol=1e-4)


def test_equal_displacements_move_by_so_many_voxels():
    lattice = Lattice(PATCH, SPACING, 4.0)
    displacement = torch.tensor([2.0, 1.4, -6.0]).view(1, 3, 1, 1, 1).expand(1, 3, *lattice.shape)
    places = lattice.coordinates(EYE, displacement, middle(PATCH))[0]
    moved = (places - grid(PATCH)).mean(dim=(1, 2, 3))
    assert torch.allclose(moved, torch.tensor([2.0, 2.0, -2.0]), atol=1e-5)


def test_displacements_are_scipys_cubic_splines():
    lattice = Lattice(PATCH, SPACING, 4.0)
    control = torch.randn(1, 3, *lattice.shape, generator=torch.Generator().manual_seed(0))
    places = lattice.coordinates(EYE, control, middle(PATCH))[0]
    result = (places - grid(PATCH)) * torch.tensor(SPACING).view(3, 1, 1, 1)
    expected = control[0].numpy()
    for axis, (voxels, spacing, points) in enumerate(
        zip(PATCH, SPACING, lattice.shape, strict=True), start=1
    ):
        cells = points - 3
        where = (np.arange(voxels) - (voxels - 1) / 2) * spacing / 4.0 + cells / 2
        design = BSpline.design_matrix(where, np.arange(-3.0, cells + 4.0), 3).toarray()
        expected = np.moveaxis(np.tensordot(design, expected, (1, axis)), 0, axis)
    np.testing.assert_allclose(result, expected, atol=2e-5)


def test_the_stated_deviation_is_that_at_the_lattice_points():
    lattice = Lattice((9, 9, 9), (2.0, 2.0, 2.0), 8.0)  # two cells: voxels 0, 4 and 8 are lattice points
    noise = torch.randn(4000, 3, *lattice.shape, generator=torch.Generator().manual_seed(0))
    control = lattice.control_displacement(noise, 1.5)
    places = lattice.coordinates(EYE.expand(4000, 3, 3), control, (4.0, 4.0, 4.0))
    displacement = (places - grid((9, 9, 9)))[..., ::4, ::4, ::4] * 2.0
    assert displacement.std().item() == pytest.approx(1.5, rel=0.02)


def test_batch_is_one_by_one():
    lattice = Lattice(PATCH, SPACING, 4.0)
    control = torch.randn(3, 3, *lattice.shape, generator=torch.Generator().manual_seed(0))
    matrix = EYE + 0.1 * torch.randn(3, 3, 3, generator=torch.Generator().manual_seed(1))
    together = lattice.coordinates(matrix, control, (5.0, 4.0, 2.0))
    single = [lattice.coordinates(matrix[i, None], control[i, None], (5.0, 4.0, 2.0)) for i in range(3)]
    assert torch.allclose(together, torch.cat(single), atol=1e-6)


def test_a_lattice_wider_than_the_patch_still_has_all_its_points():
    assert Lattice((4, 4, 4), (1.0, 1.0, 1.0), 50.0).shape == (4, 4, 4)
    assert Lattice((1, 9, 10), (1.0, 1.0, 1.0), 4.0).shape == (4, 5, 6)


@pytest.mark.parametrize(
    ("patch", "spacing", "grid_mm"),
    [((4, 4, 4), (1.0, 1.0, 1.0), 0.0), ((4, 0, 4), (1.0, 1.0, 1.0), 1.0), ((4, 4), (1.0, 1.0), 1.0)],
)
def test_numbers_that_make_no_lattice(patch, spacing, grid_mm):
    with pytest.raises(OptionError, match="three numbers above 0"):
        Lattice(patch, spacing, grid_mm)


def test_displacements_of_another_lattice():
    lattice = Lattice(PATCH, SPACING, 4.0)
    with pytest.raises(GeometryError, match="expected matrices"):
        lattice.coordinates(EYE, torch.zeros(1, 3, 2, 2, 2), (0.0, 0.0, 0.0))
