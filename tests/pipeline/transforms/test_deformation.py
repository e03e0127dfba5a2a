"""Deformed patches against exact crops, known motions and scipy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import Compose
from scipy.ndimage import map_coordinates

from atlaseg.pipeline.errors import GeometryError, OptionError
from atlaseg.pipeline.transforms.deformation import Deformation, PatchDeformer, RandDeform, RandDeformd

CUBE, UNIT = (16, 16, 16), (1.0, 1.0, 1.0)


def phantom(shape=(24, 28, 20)):
    """A smooth image and the label where it exceeds a threshold."""
    axes = [torch.linspace(-3, 3, n) for n in shape]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    image = (torch.sin(1.3 * x + y) + torch.cos(y * z / 2) + 0.3 * x)[None]
    return image, (image > 0.4).to(torch.uint8)


def fixed(deformer, matrix=None, displacement=None):
    """The deformer with a known deformation in place of drawn ones."""
    known = Deformation(
        torch.eye(3) if matrix is None else torch.as_tensor(matrix, dtype=torch.float32),
        torch.zeros(3, *deformer.lattice.shape) if displacement is None else displacement,
    )
    deformer.draw = lambda: known
    return deformer


@pytest.mark.parametrize("centre", [(12, 14, 10), (0, 3, 19), (-5, 40, 10)])
def test_a_patch_that_is_not_deformed_is_an_exact_crop(centre):
    image, label = phantom()
    patch, labels = PatchDeformer(CUBE, UNIT, probability=0.0).sample(image, label, centre)
    padded = np.pad(image[0].numpy(), 60, mode="reflect")
    box = tuple(slice(60 + c - 8, 60 + c + 8) for c in centre)
    np.testing.assert_array_equal(patch[0], padded[box])
    np.testing.assert_array_equal(labels[0], np.pad(label[0].numpy(), 60, mode="reflect")[box])
    assert patch.data_ptr() != image.data_ptr()


@pytest.mark.parametrize("size", [(16, 16, 16), (15, 13, 9)])
def test_resampling_without_motion_gives_the_same_crop(size):
    image, label = phantom()
    exact = PatchDeformer(size, UNIT, probability=0.0).sample(image, label, (12, 20, 3))
    resampled = fixed(PatchDeformer(size, UNIT)).sample(image, label, (12, 20, 3))
    assert torch.allclose(exact[0], resampled[0], atol=1e-4)
    assert torch.equal(exact[1], resampled[1])


@pytest.mark.parametrize(("axis", "dims"), [(0, (2, 3)), (1, (1, 3)), (2, (1, 2))])
def test_a_quarter_turn_is_rot90(axis, dims):
    image, label = phantom(CUBE)
    turn = np.eye(3)
    a, b = dims[0] - 1, dims[1] - 1
    turn[[a, a, b, b], [a, b, a, b]] = [0, -1, 1, 0]
    patch, labels = fixed(PatchDeformer(CUBE, UNIT), turn).sample(image, label, (8, 8, 8))
    assert any(torch.allclose(patch, torch.rot90(image, k, dims), atol=1e-4) for k in (1, 3))
    assert any(torch.equal(labels, torch.rot90(label, k, dims)) for k in (1, 3))


def test_drawn_rotations_stay_within_their_limit_and_scaling_too():
    deformer = RandDeform(CUBE, UNIT, probability=1.0, rotation_degrees=10.0, scaling=0.2)
    deformer.set_random_state(0)
    matrices = torch.stack([deformer.draw().matrix for _ in range(300)])
    factors = matrices.det() ** (-1 / 3)
    assert 0.8 <= factors.min() < 0.85
    assert 1.15 < factors.max() <= 1.2
    rotations = matrices * factors[:, None, None]
    assert torch.allclose(rotations @ rotations.mT, torch.eye(3).expand(300, 3, 3), atol=1e-5)
    angles = torch.rad2deg(torch.arccos(((rotations.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1)))
    assert 10 < angles.max() < 10 * 3**0.5 + 0.5


def test_scaling_by_two_shows_the_middle_half_twice_as_large():
    image, label = phantom((21, 23, 25))
    deformer = fixed(PatchDeformer((21, 21, 21), UNIT), np.eye(3) / 2)
    patch, labels = deformer.sample(image, label, (10, 11, 12))
    assert torch.allclose(patch[:, ::2, ::2, ::2], image[:, 5:16, 6:17, 7:18], atol=1e-4)
    assert torch.equal(labels[:, ::2, ::2, ::2], label[:, 5:16, 6:17, 7:18])
    between = (image[:, 5:15, 6:17, 7:18] + image[:, 6:16, 6:17, 7:18]) / 2
    assert torch.allclose(patch[:, 1::2, ::2, ::2], between, atol=1e-4)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_displacement_in_mm_moves_a_marker_by_so_many_voxels(axis):
    spacing = (0.5, 1.0, 3.0)
    image, label = torch.zeros(1, 32, 32, 32), torch.zeros(1, 32, 32, 32, dtype=torch.uint8)
    image[0, 16, 16, 16] = label[0, 16, 16, 16] = 1
    deformer = PatchDeformer((32, 32, 32), spacing, elastic_grid_mm=6.0)
    displacement = torch.zeros(3, *deformer.lattice.shape)
    displacement[axis] = 6.0  # patch voxels take what lies 6 mm further on: the marker moves back
    patch, labels = fixed(deformer, displacement=displacement).sample(image, label, (16, 16, 16))
    expected = [16, 16, 16]
    expected[axis] -= round(6.0 / spacing[axis])
    assert labels[0].nonzero().tolist() == [expected]
    assert patch[(0, *expected)].item() == pytest.approx(1.0, abs=1e-4)


def test_drawn_patches_are_scipys_at_the_same_places():
    image, label = phantom()
    deformer = PatchDeformer((12, 16, 10), (1.0, 0.8, 2.0), probability=1.0)
    places = deformer.set_random_state(3).coordinates([deformer.draw()], (9 + 5.5, 12 + 7.5, 5 + 4.5))[0]
    patch, labels = deformer.set_random_state(3).sample(image, label, (15, 20, 10))
    linear = map_coordinates(image[0].numpy(), places.numpy(), order=1, mode="mirror")
    nearest = map_coordinates(label[0].numpy(), places.numpy(), order=0, mode="mirror")
    np.testing.assert_allclose(patch[0], linear, atol=1e-4)
    np.testing.assert_array_equal(labels[0], nearest)


@given(seed=st.integers(0, 2**31), centre=st.tuples(*[st.integers(-5, 30)] * 3))
@settings(max_examples=25, deadline=None)
def test_no_label_appears_that_was_not_there(seed, centre):
    generator = np.random.default_rng(seed)
    values = np.array([0, 1, 4, 255, 1200], dtype=np.int16)
    label = torch.from_numpy(generator.choice(values, size=(1, 18, 20, 16)))
    deformer = PatchDeformer((10, 12, 8), UNIT, probability=1.0, elastic_mm=4.0)
    patch, labels = deformer.set_random_state(seed).sample(label.float(), label, centre)
    assert labels.dtype == torch.int16
    assert set(labels.unique().tolist()) <= set(values.tolist())
    assert patch.min() >= 0
    assert patch.max() <= 1200.001


def test_image_and_label_stay_aligned():
    image, label = phantom((40, 44, 36))
    deformer = PatchDeformer((24, 24, 24), UNIT, probability=1.0, elastic_mm=3.0).set_random_state(0)
    patch, labels = deformer.sample(image, label, (20, 22, 18))
    away_from_the_threshold = (patch - 0.4).abs() > 0.25
    assert away_from_the_threshold.float().mean() > 0.6
    assert torch.equal((patch > 0.4)[away_from_the_threshold], labels[away_from_the_threshold] == 1)


def test_the_default_deformation_does_not_fold():
    deformer = RandDeform((40, 40, 40), UNIT, probability=1.0, rotation_degrees=0, scaling=0)
    deformer.set_random_state(0)
    for _ in range(10):
        places = deformer.coordinates([deformer.draw()], (19.5, 19.5, 19.5))[0].numpy()
        jacobian = np.stack([np.stack(np.gradient(component)) for component in places])
        assert np.linalg.det(np.moveaxis(jacobian, (0, 1), (-2, -1))).min() > 0


def test_same_seed_same_patches_and_other_seed_others():
    image, label = phantom()

    def patches(seed):
        deformer = PatchDeformer(CUBE, UNIT).set_random_state(seed)
        return torch.stack([deformer.sample(image, label, (12, 14, 10))[0] for _ in range(5)])

    assert torch.equal(patches(1), patches(1))
    assert not torch.equal(patches(1), patches(2))


def test_the_stated_share_of_patches_is_deformed():
    deformer = RandDeform((4, 4, 4), UNIT, probability=0.3).set_random_state(0)
    assert sum(deformer.draw() is not None for _ in range(1000)) == pytest.approx(300, abs=45)


def test_nothing_to_change_is_no_deformation():
    deformer = RandDeform(CUBE, UNIT, probability=1.0, rotation_degrees=0, scaling=0, elastic_mm=0)
    assert deformer.draw() is None


def test_storage_in_half_precision_and_numpy_and_meta_tensors():
    image, label = phantom()
    expected = PatchDeformer(CUBE, UNIT).set_random_state(0).sample(image, label, (5, 5, 5))
    for scan, truth in ((image.numpy(), label.numpy()), (MetaTensor(image), MetaTensor(label))):
        patch, labels = PatchDeformer(CUBE, UNIT).set_random_state(0).sample(scan, truth, (5, 5, 5))
        assert type(patch) is torch.Tensor
        assert torch.equal(patch, expected[0])
        assert torch.equal(labels, expected[1])
    half = PatchDeformer(CUBE, UNIT).set_random_state(0).sample(image.half(), label, (5, 5, 5))[0]
    assert half.dtype == torch.float32
    assert torch.allclose(half, expected[0], atol=2e-3)


def transform(**options):
    return RandDeformd(("image", "label"), patch_size=(12, 10, 8), spacing=(1.0, 2.0, 1.0), **options)


def test_a_batch_is_deformed_like_its_samples_one_by_one():
    image, label = phantom()
    images = torch.stack([image, -image, image + 1, 2 * image])
    labels = torch.stack([label, 1 - label, label * 2, label])
    together = transform(probability=0.6).set_random_state(5)({"image": images, "label": labels})
    one = transform(probability=0.6).set_random_state(5)
    for i in range(4):
        sample = one({"image": images[i], "label": labels[i]})
        assert torch.allclose(sample["image"], together["image"][i], atol=1e-5)
        assert torch.equal(sample["label"], together["label"][i])
    assert together["image"].shape == (4, 1, 12, 10, 8)


def test_the_patch_is_the_central_part_and_keeps_its_place_in_the_world():
    image, label = phantom()
    affine = torch.tensor(
        [[2.0, 0, 0, 5], [0, 0, 3.0, 1], [0, 1.0, 0, -4], [0, 0, 0, 1]], dtype=torch.float64
    )
    data = {"image": MetaTensor(image, affine=affine), "label": label.numpy(), "name": "a"}
    result = transform(probability=0.0)(data)
    assert torch.equal(result["image"].as_tensor(), image[:, 6:18, 9:19, 6:14])
    expected = (affine @ torch.tensor([6.0, 9, 6, 1], dtype=torch.float64))[:3]
    assert torch.allclose(result["image"].affine[:3, 3], expected)
    assert isinstance(result["label"], np.ndarray)
    assert result["name"] == "a"
    assert torch.equal(data["image"].affine, affine)


@pytest.mark.thorough
def test_compose_seeds_the_transform():
    image, label = phantom()

    def run():
        return Compose([transform(probability=1.0)]).set_random_state(7)({"image": image, "label": label})

    assert torch.equal(run()["image"], run()["image"])


def test_missing_keys():
    image, _ = phantom()
    assert set(transform(allow_missing_keys=True)({"image": image})) == {"image"}
    assert transform(allow_missing_keys=True)({"name": "a"}) == {"name": "a"}
    with pytest.raises(KeyError):
        transform()({"image": image})


def test_grids_that_do_not_fit():
    image, label = phantom()
    with pytest.raises(GeometryError, match="share one grid"):
        PatchDeformer(CUBE, UNIT).sample(image, label[:, :-1], (5, 5, 5))
    with pytest.raises(GeometryError, match="on one grid"):
        transform()({"image": image, "label": label[:, :-1]})
    with pytest.raises(GeometryError, match="on one grid"):
        transform()({"image": image[0], "label": label[0]})


@pytest.mark.parametrize(
    "options", [{"probability": 1.2}, {"rotation_degrees": -1.0}, {"scaling": 1.0}, {"elastic_mm": -1.0}]
)
def test_values_outside_their_range(options):
    with pytest.raises(OptionError, match=next(iter(options))):
        RandDeform(CUBE, UNIT, **options)


def test_unknown_modes():
    with pytest.raises(OptionError, match="bilinear or nearest"):
        transform(mode=("bilinear", "cubic"))
