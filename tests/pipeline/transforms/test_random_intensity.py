"""Intensity augmentation: what it may change, how often, and what it must leave alone."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from atlaseg.pipeline.planning.plan import Augmentation
from atlaseg.pipeline.transforms.random_intensity import BLUR_VOXELS, SCALE, SHIFT, intensity_augmentation

NOTHING = Augmentation(
    **{f.name: 0.0 for f in dataclasses.fields(Augmentation) if f.name.endswith("_probability")}
)
KINDS = ["noise", "blur", "bias_field", "gamma", "low_resolution", "intensity"]


def only(kind, probability=1.0, **more):
    return intensity_augmentation(
        dataclasses.replace(NOTHING, **{f"{kind}_probability": probability}, **more)
    )


def patch(channels=2):
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(channels, 12, 14, 10, generator=generator)
    return {"image": image, "label": (image[:1] > 0).to(torch.uint8)}


def test_nothing_asked_nothing_changed():
    before = patch()
    after = intensity_augmentation(NOTHING)(before)
    assert torch.equal(after["image"], before["image"])
    assert torch.equal(after["label"], before["label"])


@pytest.mark.parametrize("kind", KINDS)
def test_each_changes_the_image_and_neither_label_nor_input(kind):
    before, kept = patch(), patch()
    after = only(kind).set_random_state(0)(before)
    assert type(after["image"]) is torch.Tensor
    assert type(after["label"]) is torch.Tensor
    assert after["image"].dtype == torch.float32
    assert after["image"].isfinite().all()
    assert not torch.equal(after["image"], kept["image"])
    assert torch.equal(after["label"], kept["label"])
    assert torch.equal(before["image"], kept["image"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_stated_share_of_patches_is_changed(kind):
    augment = only(kind, 0.3).set_random_state(1)
    before = {"image": torch.randn(1, 12, 12, 12), "label": torch.zeros(1, 12, 12, 12)}
    changed = [not torch.allclose(augment(dict(before))["image"], before["image"]) for _ in range(300)]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.09)


@pytest.mark.parametrize("kind", KINDS)
def test_a_patch_without_contrast_stays_finite(kind):
    flat = {"image": torch.full((1, 8, 8, 8), 2.0), "label": torch.zeros(1, 8, 8, 8)}
    assert only(kind).set_random_state(0)(flat)["image"].isfinite().all()


def test_noise_has_at_most_the_stated_deviation():
    augment = only("noise", noise_std=0.2).set_random_state(0)
    deviations = [(augment(patch())["image"] - patch()["image"]).std().item() for _ in range(50)]
    assert max(deviations) < 0.21
    assert max(deviations) > 0.15


def test_gamma_keeps_order_mean_and_deviation():
    before = patch(1)["image"].flatten()
    augment = only("gamma").set_random_state(0)
    for _ in range(10):
        after = augment(patch(1))["image"].flatten()
        assert (after[before.argsort()].diff() >= -1e-5).all()  # but for rounding
        assert not torch.allclose(after, before, atol=1e-2)
        assert after.mean().item() == pytest.approx(before.mean().item(), abs=1e-3)
        assert after.std().item() == pytest.approx(before.std().item(), rel=1e-3)


def test_scale_and_shift_are_one_linear_map_within_their_ranges():
    before = patch(1)["image"].flatten().numpy()
    augment = only("intensity").set_random_state(0)
    for _ in range(20):
        scale, shift = np.polyfit(before, augment(patch(1))["image"].flatten().numpy(), 1)
        assert abs(scale - 1) <= SCALE + 1e-4
        assert abs(shift) <= SHIFT + 1e-4


def test_blur_lies_between_scipys_at_its_limits():
    inner = (slice(3, -3),) * 3  # MONAI takes zeros beyond the border, scipy reflects
    image = patch(1)["image"][0].numpy()
    low, high = (gaussian_filter(image, sigma)[inner].std() for sigma in BLUR_VOXELS)
    augment = only("blur").set_random_state(0)
    for _ in range(10):
        assert 0.95 * high < augment(patch(1))["image"][0][inner].std().item() < 1.05 * low


def test_the_bias_field_is_smooth_positive_and_on_average_one():
    ones = {"image": torch.ones(1, 24, 24, 24), "label": torch.zeros(1, 24, 24, 24)}
    augment = only("bias_field").set_random_state(0)
    fields = torch.stack([augment(dict(ones))["image"][0] for _ in range(100)])
    assert fields.min() > 0.3
    assert fields.log().mean().abs() < 0.03
    assert (fields[:, 1:] - fields[:, :-1]).abs().max() < 0.3


def test_mirroring_takes_image_and_label_along_the_stated_axes_only():
    augment = intensity_augmentation(dataclasses.replace(NOTHING, flip_axes=(0, 2))).set_random_state(0)
    before = patch()
    allowed = [(), (1,), (3,), (1, 3)]
    seen = set()
    for _ in range(40):
        after = augment(patch())
        which = [axes for axes in allowed if torch.equal(after["image"], before["image"].flip(axes))]
        assert len(which) == 1
        assert torch.equal(after["label"], before["label"].flip(which[0]))
        seen.add(which[0])
    assert seen == set(allowed)


def test_same_seed_same_patch():
    everything = Augmentation(flip_axes=(0,))
    runs = [
        [intensity_augmentation(everything).set_random_state(seed)(patch())["image"] for seed in range(8)]
        for _ in range(2)
    ]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
    assert len({float(image.sum()) for image in runs[0]}) > 3


def test_other_keys_and_entries():
    augment = intensity_augmentation(Augmentation(noise_probability=1.0), "scan", "truth")
    data = {"scan": torch.zeros(1, 6, 6, 6), "truth": torch.zeros(1, 6, 6, 6), "case": "a"}
    assert augment(data)["case"] == "a"
