"""Labels on the scan's own grid, against MONAI's plain pipeline and known answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import combinations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet
from monai.transforms import (
    Compose,
    CropForegroundd,
    Invertd,
    NormalizeIntensityd,
    Orientationd,
    Spacingd,
    SpatialPadd,
)
from nibabel.orientations import axcodes2ornt
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from atlaseg.pipeline.errors import GeometryError, OptionError, PlanError
from atlaseg.pipeline.inference.labelling import label_scan
from atlaseg.pipeline.inference.windows import SlidingWindow
from atlaseg.pipeline.io.grid import Grid

PATCH = (16, 12, 16)


@dataclass(frozen=True)
class Geometry:
    shape: tuple[int, int, int]
    codes: str = "RAS"
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    angles: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def affine(self) -> np.ndarray:
        """Voxel -> RAS+ mm of an array with these axes, turned by the angles (degrees)."""
        affine = np.eye(4)
        for axis, (world, sign) in enumerate(axcodes2ornt(self.codes)):
            affine[:3, axis] = sign * self.spacing[axis] * np.eye(3)[int(world)]
        affine[:3, :3] = Rotation.from_euler("xyz", self.angles, degrees=True).as_matrix() @ affine[:3, :3]
        affine[:3, 3] = (-31.4, 12.7, 5.3)
        return affine


GEOMETRIES = {
    "ras": (Geometry((30, 26, 22)), (1.5, 1.5, 1.5)),
    "lps-same-spacing": (Geometry((22, 30, 26), "LPS"), (1.0, 1.0, 1.0)),
    "pir": (Geometry((25, 21, 30), "PIR", (1.1, 0.9, 1.3)), (1.0, 1.2, 0.8)),
    "oblique": (Geometry((28, 24, 26), "LAS", (0.9, 1.0, 1.2), (13, -9, 21)), (1.3, 1.3, 1.3)),
    "oblique-permuted": (Geometry((24, 30, 20), "SPL", (1.2, 0.8, 1.0), (-8, 12, 5)), (1.0, 1.0, 1.5)),
    "anisotropic": (Geometry((48, 44, 9), "LPS", (0.7, 0.7, 5.0)), (1.5, 1.5, 1.5)),
    "anisotropic-in-plane-kept": (Geometry((36, 32, 8), "RAS", (0.7, 0.7, 5.0)), (0.7, 0.7, 1.5)),
    "finer-than-network": (Geometry((40, 44, 36), "RSA", (0.5, 0.5, 0.5)), (1.2, 1.2, 1.2)),
    "network-half-a-voxel-longer": (Geometry((35, 36, 20)), (0.8, 1.0, 2.0)),
    "single-slice": (Geometry((30, 26, 1), "RAS", (0.8, 0.8, 5.0)), (1.0, 1.0, 5.0)),
    "smaller-than-patch": (Geometry((9, 30, 7), "LPI", (1.0, 1.0, 1.4)), (1.0, 1.0, 1.0)),
}


def scan(geometry: Geometry, seed: int = 0, channels: int = 1, margin: int = 3) -> MetaTensor:
    """Smooth random intensities, zero in a margin on the low side so that the foreground crop cuts."""
    rng = np.random.default_rng(seed)
    voxels = gaussian_filter(rng.normal(size=(channels, *geometry.shape)), (0, 1, 1, 1))
    voxels = (voxels - voxels.min() + 0.1).astype(np.float32)
    for axis, size in enumerate(geometry.shape):
        if size > 4 * margin:
            voxels.swapaxes(0, axis + 1)[:margin] = 0
    return MetaTensor(torch.from_numpy(voxels), affine=torch.from_numpy(geometry.affine))


def preprocessing(spacing: tuple[float, float, float], codes: str = "RAS") -> Compose:
    return Compose(
        [
            Orientationd("image", axcodes=codes, labels=None),
            Spacingd("image", pixdim=spacing, mode="bilinear", padding_mode="border"),
            NormalizeIntensityd("image", nonzero=True),
            CropForegroundd("image", source_key="image", select_fn=lambda x: x != 0, allow_smaller=True),
        ]
    )


def monai_probabilities(
    data: dict[str, MetaTensor],
    transform: Compose,
    predictor: Callable[[torch.Tensor], torch.Tensor],
    patch: tuple[int, int, int],
    overlap: float = 0.5,
) -> torch.Tensor:
    """Probabilities ``(K, *scan)`` by MONAI's plain pipeline, zero outside the crop."""
    inferer = SlidingWindowInferer(patch, 1, overlap, mode="gaussian", padding_mode="replicate")
    with torch.inference_mode():
        logits = inferer(data["image"][None], predictor)[0]
    pred = MetaTensor(torch.softmax(logits.as_tensor(), dim=0), meta=data["image"].meta)
    back = Invertd("pred", transform, orig_keys="image", nearest_interp=False, to_tensor=True)
    return back({"image": data["image"], "pred": pred})["pred"].as_tensor()


def random_network(classes: int = 5, channels: int = 1, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    network = UNet(3, channels, classes, channels=(4, 8), strides=(2,), num_res_units=0, norm="batch").eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(3)  # decided labels, so that the map has structure
    return network


def label(image, networks, geometry, *, classes=5, patch=PATCH, **options):
    sliding = {name: options.pop(name) for name in [f.name for f in fields(SlidingWindow)] if name in options}
    window = SlidingWindow(patch, **sliding)
    grid = Grid(geometry.shape, geometry.affine)
    return label_scan(image, networks, window, classes=classes, grid=grid, **options)


def assert_same_labels(labels, monai):
    """Equal but for a few ties, and for MONAI's rounding beyond the crop: 1e-15 of the edge where 0 is meant."""
    top = monai.topk(2, dim=0).values
    different = torch.from_numpy(labels.astype(np.int64)) != monai.argmax(0)
    outside = monai.sum(0) < 1e-6
    assert (labels[outside.numpy()] == 0).all()
    gap = (top[0] - top[1])[different & ~outside]
    assert len(gap) <= 1e-4 * labels.size
    assert (gap < 1e-5).all()


@pytest.mark.parametrize("name", list(GEOMETRIES))
def test_equals_monai_pipeline(name):
    geometry, spacing = GEOMETRIES[name]
    transform = preprocessing(spacing)
    data = transform({"image": scan(geometry, channels=2)})
    patch = (16, 16, 4) if name == "single-slice" else PATCH
    network = random_network(channels=2)
    expected = monai_probabilities(data, transform, network, patch)
    labels, _ = label(data["image"], [network], geometry, patch=patch)
    assert len(np.unique(labels)) == 5
    assert_same_labels(labels, expected)


@pytest.mark.parametrize(("codes", "overlap"), [("LPS", 0.25), ("PSR", 0.625)])
def test_equals_monai_in_another_orientation_and_padded(codes, overlap):
    geometry, spacing = GEOMETRIES["oblique"]
    transform = Compose([preprocessing(spacing, codes), SpatialPadd("image", (32, 14, 40), mode="reflect")])
    data = transform({"image": scan(geometry)})
    padded = data["image"].applied_operations[-1]["extra_info"]["padded"][1:]
    content = [slice(a, n - b) for (a, b), n in zip(padded, data["image"].shape[1:], strict=True)]
    network = random_network()
    expected = monai_probabilities(data, transform, network, PATCH, overlap)
    labels, _ = label(data["image"], [network], geometry, overlap=overlap, batch_size=3, content=content)
    assert_same_labels(labels, expected)


class Threshold(torch.nn.Module):
    """Predicts class k where the intensity is near k."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("levels", torch.arange(classes, dtype=torch.float32).reshape(1, -1, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return -20 * (x - self.levels) ** 2


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "ASL", "IRP"])
@pytest.mark.parametrize("angles", [(0, 0, 0), (17, -11, 23)])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 0.7, 5.0)])
def test_labels_land_on_the_voxels_that_have_them(codes, angles, spacing):
    geometry = Geometry((20, 18, 12), codes, spacing, angles)
    truth = np.zeros(geometry.shape, dtype=np.uint8)
    truth[3:9, 4:14, 2:7] = 1
    truth[11:18, 2:9, 5:11] = 2
    truth[3, 4, 2] = 2  # a single voxel
    image = MetaTensor(
        torch.from_numpy(truth[None].astype(np.float32)), affine=torch.from_numpy(geometry.affine)
    )
    # the same voxels in RAS order, so that every voxel's label is known
    order = axcodes2ornt(codes)[:, 0].astype(int)
    target = tuple(spacing[int(a)] for a in np.argsort(order))
    data = Compose(preprocessing(target).transforms[:2])({"image": image})
    labels, _ = label(data["image"], [Threshold(3)], geometry, classes=3, patch=(8, 8, 8))
    np.testing.assert_array_equal(labels, truth)


def test_scan_coarser_than_network_gets_the_known_labels():
    geometry = Geometry((10, 12, 14), "LPS", (2.0, 2.0, 3.0))
    truth = np.zeros(geometry.shape, dtype=np.uint8)
    truth[2:6, 3:8, 4:9] = 1
    image = MetaTensor(
        torch.from_numpy(truth[None].astype(np.float32)), affine=torch.from_numpy(geometry.affine)
    )
    data = Compose(preprocessing((1.0, 1.0, 1.0)).transforms[:2])({"image": image})
    labels, _ = label(data["image"], [Threshold(2)], geometry, classes=2, patch=(8, 8, 8))
    np.testing.assert_array_equal(labels, truth)


def mean_of_members(networks, axes):
    """Logarithm of the plainly averaged softmax of all networks and mirrored copies of a window."""
    flips = [c for n in range(len(axes) + 1) for c in combinations([a + 2 for a in axes], n)]

    def predict(x):
        members = [torch.softmax(n(torch.flip(x, f)), 1).flip(f) for n in networks for f in flips]
        return torch.log(torch.stack(members).mean(0).double()).float()

    return predict


@pytest.mark.parametrize("axes", [(), (0,), (0, 1, 2)])
@pytest.mark.parametrize("count", [1, 2])
def test_members_equal_averaged_softmax(axes, count):
    geometry, spacing = GEOMETRIES["pir"]
    transform = preprocessing(spacing)
    data = transform({"image": scan(geometry)})
    networks = [random_network(seed=s) for s in range(count)]
    expected = monai_probabilities(data, transform, mean_of_members(networks, axes), PATCH)
    labels, _ = label(data["image"], networks, geometry, mirror_axes=axes)
    assert_same_labels(labels, expected)


def test_one_window_ensemble_is_the_mean_of_probabilities():
    geometry = Geometry((16, 12, 16))
    image = scan(geometry)
    networks = [random_network(seed=s) for s in range(2)]
    with torch.inference_mode():
        expected = torch.stack([torch.softmax(n(image[None].as_tensor()), 1)[0] for n in networks]).mean(0)
    into = np.empty((5, *geometry.shape), dtype=np.float32)
    labels, probabilities = label(image, networks, geometry, probabilities=into)
    assert probabilities is into
    np.testing.assert_allclose(into, expected, atol=1e-6)
    np.testing.assert_array_equal(labels, expected.argmax(0))


@pytest.mark.parametrize("name", ["oblique", "lps-same-spacing", "smaller-than-patch", "finer-than-network"])
def test_probabilities_equal_monai_and_sum_to_one(name, tmp_path):
    geometry, spacing = GEOMETRIES[name]
    transform = preprocessing(spacing)
    data = transform({"image": scan(geometry)})
    network = random_network()
    expected = monai_probabilities(data, transform, network, PATCH).numpy()
    into = np.memmap(tmp_path / "p.bin", dtype=np.float32, mode="w+", shape=(5, *geometry.shape))
    labels, probabilities = label(data["image"], [network], geometry, probabilities=into)
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-5)
    inside = expected.sum(0) > 1 - 1e-5
    assert inside.any()
    np.testing.assert_allclose(probabilities[:, inside], expected[:, inside], atol=1e-5)
    # where the crop ends within the voxel, MONAI's zeros take a share of every class alike
    edge = (expected.sum(0) > 1e-6) & ~inside
    np.testing.assert_allclose(
        probabilities[:, edge], (expected / np.maximum(expected.sum(0), 1e-6))[:, edge], atol=1e-5
    )
    outside = expected.sum(0) <= 1e-6
    assert (probabilities[0, outside] == 1).all()
    without, _ = label(data["image"], [network], geometry)
    np.testing.assert_array_equal(labels, without)


def test_probabilities_are_half_precision_by_default():
    geometry, spacing = GEOMETRIES["ras"]
    data = preprocessing(spacing)({"image": scan(geometry)})
    _, probabilities = label(data["image"], [random_network()], geometry, probabilities=True)
    assert probabilities.dtype == np.float16
    np.testing.assert_allclose(probabilities.astype(np.float32).sum(0), 1, atol=2e-3)


def test_many_classes_need_sixteen_bits():
    geometry = Geometry((20, 12, 16), "LPS")
    truth = np.random.default_rng(0).integers(0, 300, geometry.shape)
    image = MetaTensor(
        torch.from_numpy(truth[None].astype(np.float32)), affine=torch.from_numpy(geometry.affine)
    )
    labels, _ = label(image, [Threshold(300)], geometry, classes=300, patch=(8, 8, 8))
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels, truth)
    assert label(image.clamp(max=255), [Threshold(256)], geometry, classes=256)[0].dtype == np.uint8


@pytest.mark.parametrize("shape", [(40, 16, 12), (16, 44, 12), (16, 16, 37)])
def test_slab_along_any_axis(shape):
    geometry = Geometry(shape)
    image = scan(geometry)
    network = random_network()
    with torch.inference_mode():
        logits = SlidingWindowInferer(PATCH, 1, 0.5, mode="gaussian", padding_mode="replicate")(
            image[None].as_tensor(), network
        )[0]
    labels, _ = label(image, [network], geometry)
    assert_same_labels(labels, torch.softmax(logits, 0))


def test_input_and_networks_unchanged_and_same_answer_twice():
    geometry, spacing = GEOMETRIES["oblique"]
    data = preprocessing(spacing)({"image": scan(geometry)})
    before = data["image"].clone()
    network = random_network().train()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    first, _ = label(data["image"], [network], geometry, mirror_axes=(1,))
    second, _ = label(data["image"], [network], geometry, mirror_axes=(1,))
    np.testing.assert_array_equal(first, second)
    assert torch.equal(before.as_tensor(), data["image"].as_tensor())
    assert torch.equal(before.affine, data["image"].affine)
    assert network.training
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in state.items())


def test_bf16_gives_nearly_the_same_labels():
    geometry, spacing = GEOMETRIES["pir"]
    data = preprocessing(spacing)({"image": scan(geometry)})
    full, _ = label(data["image"], [random_network()], geometry)
    half, _ = label(data["image"], [random_network()], geometry, precision="bf16")
    assert 0 < (full != half).mean() < 0.05


def test_channels_last_network_gives_the_same_labels():
    geometry, spacing = GEOMETRIES["anisotropic"]
    data = preprocessing(spacing)({"image": scan(geometry)})
    network = random_network()
    contiguous, _ = label(data["image"], [network], geometry)
    last, _ = label(data["image"], [network.to(memory_format=torch.channels_last_3d)], geometry)
    assert (contiguous != last).mean() < 1e-4


@pytest.mark.real
def test_real_scan_equals_monai_pipeline(real_data):
    from atlaseg.pipeline.io.volume import read_image

    file = sorted((real_data / "Task04_Hippocampus" / "imagesTr").glob("*.nii.gz"))[0]
    image = read_image(file)
    transform = preprocessing((0.8, 1.1, 1.3))
    data = transform({"image": image.clone()})
    network = random_network()
    expected = monai_probabilities(data, transform, network, PATCH)
    labels, _ = label_scan(
        data["image"],
        [network],
        SlidingWindow(PATCH),
        classes=5,
        grid=Grid(tuple(image.shape[1:]), image.affine.numpy()),
    )
    assert_same_labels(labels, expected)


def test_progress_rises_to_one():
    geometry, spacing = GEOMETRIES["ras"]
    data = preprocessing(spacing)({"image": scan(geometry)})
    seen: list[float] = []
    label(
        data["image"],
        [random_network()],
        geometry,
        batch_size=2,
        progress=lambda done, total, what: seen.append(done / total),
    )
    assert seen == sorted(seen)
    assert seen[-1] == 1


class Constant(torch.nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.full((x.shape[0], 3, *x.shape[2:]), self.value)


@pytest.mark.parametrize("name", ["ras", "lps-same-spacing"])
def test_network_that_is_not_finite_is_named(name):
    geometry, spacing = GEOMETRIES[name]
    data = preprocessing(spacing)({"image": scan(geometry)})
    with pytest.raises(PlanError, match="not finite"):
        label(data["image"], [Constant(float("nan"))], geometry, classes=3)


def test_wrong_options_are_named():
    geometry = Geometry((20, 20, 20))
    image = scan(geometry)
    good = {"patch": (8, 8, 8), "classes": 3}
    for wrong, error in [
        ({"overlap": 1.0}, OptionError),
        ({"batch_size": 0}, OptionError),
        ({"classes": 1}, OptionError),
        ({"classes": 4}, GeometryError),
        ({"patch": (8, 8)}, GeometryError),
        ({"patch": (8, 0, 8)}, GeometryError),
        ({"probabilities": np.zeros((3, 20, 20, 19))}, GeometryError),
    ]:
        with pytest.raises(error):
            label(image, [Constant(0)], geometry, **(good | wrong))


def test_grid_that_is_turned_against_the_scan_is_refused():
    geometry = Geometry((20, 20, 20), angles=(5, 0, 0))
    with pytest.raises(GeometryError, match="parallel axes"):
        label(scan(Geometry((20, 20, 20))), [Constant(0)], geometry, classes=3)
