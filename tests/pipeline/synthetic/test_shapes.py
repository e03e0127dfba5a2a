"""Shapes: volumes by formula, labels by construction, files by reading them again."""

import math

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.io.volume import read_header, read_image, read_label_map
from atlaseg.pipeline.synthetic.shapes import (
    SHAPE_LABELS,
    box_mask,
    ellipsoid_mask,
    ellipsoids_and_boxes,
    noisy_spheres,
    write_shapes,
)

MAKERS = [ellipsoids_and_boxes, noisy_spheres]
TURN = Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix()


@pytest.mark.parametrize("rotation", [None, TURN])
def test_ellipsoid_has_its_volume_centre_and_moments(rotation):
    centre, axes = np.array([31.2, 29.7, 30.4]), np.array([22.0, 13.0, 8.0])
    mask = ellipsoid_mask((62, 60, 61), centre, axes, rotation)
    assert mask.sum() == pytest.approx(4 / 3 * math.pi * axes.prod(), rel=0.01)
    voxels = np.argwhere(mask)
    np.testing.assert_allclose(voxels.mean(axis=0), centre, atol=0.1)
    # Second moments of a solid ellipsoid along its own axes are a^2 / 5: this fails for the inverse rotation.
    frame = np.eye(3) if rotation is None else rotation
    np.testing.assert_allclose(
        np.cov(voxels.T), frame @ np.diag(axes**2 / 5) @ frame.T, atol=0.02 * axes.max() ** 2 / 5
    )


@pytest.mark.parametrize("rotation", [None, TURN])
def test_box_has_its_volume_and_moments(rotation):
    half = np.array([15.5, 9.5, 6.5])
    mask = box_mask((64, 64, 64), (32.1, 31.9, 32.2), half, rotation)
    frame = np.eye(3) if rotation is None else rotation
    assert mask.sum() == pytest.approx((2 * half).prod(), rel=0.01)
    np.testing.assert_allclose(
        np.cov(np.argwhere(mask).T), frame @ np.diag(half**2 / 3) @ frame.T, atol=0.02 * half.max() ** 2 / 3
    )


def test_masks_work_in_the_plane():
    turn = np.array([[math.cos(1), -math.sin(1)], [math.sin(1), math.cos(1)]])
    assert ellipsoid_mask((90, 90), (45, 44), (30, 12), turn).sum() == pytest.approx(
        math.pi * 30 * 12, rel=0.01
    )
    assert box_mask((90, 90), (45, 44), (30.3, 10.2), turn).sum() == pytest.approx(4 * 30.3 * 10.2, rel=0.02)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("shape", [(48, 40), (32, 36, 40)])
def test_same_seed_same_arrays_other_seed_others(make, shape):
    first, again, other = make(shape, 5), make(shape, 5), make(shape, 6)
    assert first.image.shape == first.label.shape == shape
    assert first.image.dtype == np.float32
    assert first.label.dtype == np.uint8
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.label, again.label)
    assert not np.array_equal(first.label, other.label)


@pytest.mark.thorough
@pytest.mark.parametrize("make", MAKERS)
def test_noise_has_the_stated_deviation_and_objects_stand_out(make):
    image, label = make((64, 64, 64), 2, noise=0.2)
    clean = make((64, 64, 64), 2, noise=0.0).image
    assert (image - clean).std() == pytest.approx(0.2, rel=0.02)
    assert (clean[label == 0] == 0).all()
    np.testing.assert_array_less(0.39, clean[label > 0])


@pytest.mark.thorough
def test_shapes_are_apart_and_of_many_sizes_in_both_classes():
    sizes = {1: [], 2: []}
    for seed in range(4):
        _, label = ellipsoids_and_boxes((64, 64, 64), seed)
        pieces, count = ndimage.label(label > 0, np.ones((3, 3, 3)))
        for piece in range(1, count + 1):
            values = np.unique(label[pieces == piece])
            assert len(values) == 1, "an ellipsoid touches a box"
            sizes[int(values[0])].append(int((pieces == piece).sum()))
        border = label.copy()
        border[1:-1, 1:-1, 1:-1] = 0
        assert not border.any()
    for found in sizes.values():
        assert min(found) < 400 < 2500 < max(found)


def test_spheres_touch():
    pieces = [ndimage.label(noisy_spheres((64, 64, 64), seed).label)[1] for seed in range(5)]
    assert all(1 <= count <= 10 for count in pieces)  # of 12 spheres


@pytest.mark.parametrize("kind", list(SHAPE_LABELS))
@pytest.mark.parametrize("shape", [(24, 20), (20, 24, 28)])
def test_written_set_reads_back(tmp_path, kind, shape):
    dataset = write_shapes(tmp_path / "set", 3, shape, seed=4, kind=kind)
    assert [case.name for case in dataset.labelled] == ["shapes_000", "shapes_001", "shapes_002"]
    assert dataset.labels == SHAPE_LABELS[kind]
    for case in dataset.cases:
        image, label = read_image(case.images), read_label_map(case.label)
        assert image.shape == (1, *shape, 1)[: 1 + 3]
        assert label.shape == image.shape[1:]
        assert not dataset.labels.unknown(label)
        assert read_header(case.label).dtype == np.uint8
        # objects are at least 400 grey levels above a background of 2000
        assert image[0].numpy()[label > 0].mean() > image[0].numpy()[label == 0].mean() + 350


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda f: write_shapes(f, 1, (20, 20, 20), kind="cubes"), "ellipsoids-and-boxes, noisy-spheres"),
        (lambda f: write_shapes(f, 0), "at least 1, found 0"),
        (lambda f: write_shapes(f, 1, (20, 20, 20), seed=-1), "seed"),
        (lambda f: write_shapes(f, 1, (20,)), "two or three sides"),
        (lambda f: noisy_spheres((8, 64, 64), 0), "at least 16"),
        (lambda f: ellipsoids_and_boxes((32, 32), 0, noise=-1), "noise"),
        (lambda f: ellipsoids_and_boxes((32, 32), 0, objects=-1), "objects"),
    ],
)
def test_impossible_options_are_refused_and_leave_nothing(tmp_path, call, words):
    with pytest.raises(OptionError, match=words):
        call(tmp_path / "set")
    assert not list(tmp_path.iterdir())
