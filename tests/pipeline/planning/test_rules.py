"""Each rule of planning on fingerprints made by hand, and invariants over random ones."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.datasets import read_dataset
from atlaseg.pipeline.datasets.modality import modality_of
from atlaseg.pipeline.errors import OptionError, PlanError, UnsafeModelError
from atlaseg.pipeline.networks.registry import NETWORKS, divisor
from atlaseg.pipeline.planning.augmentation import mirrored_pair
from atlaseg.pipeline.planning.fingerprint import ChannelIntensities, Fingerprint, StructureSize
from atlaseg.pipeline.planning.memory import estimate_training_memory
from atlaseg.pipeline.planning.patch_size import choose_strides, patch_candidates
from atlaseg.pipeline.planning.plan import Plan
from atlaseg.pipeline.planning.plan_file import load_plan, plan_from_dict, plan_to_dict, save_plan
from atlaseg.pipeline.planning.rules import check_plan, make_plan, plan_for

Triple = tuple[float, float, float]


def structure(name: str, value: int, **changes: Any) -> StructureSize:
    made = StructureSize(name, value, 10, 5.0, (20.0, 20.0, 20.0), (0.5, 0.5, 0.5))
    return dataclasses.replace(made, **changes)


def fingerprint(
    shape: tuple[int, int, int] = (128, 128, 128),
    spacing: Triple | list[Triple] = (1.0, 1.0, 1.0),
    channels: tuple[str, ...] = ("T1",),
    structures: tuple[StructureSize, ...] = (structure("organ", 1),),
    **changes: Any,
) -> Fingerprint:
    spacings = tuple(spacing) if isinstance(spacing, list) else (spacing,) * 10
    made = Fingerprint(
        dataset="made",
        cases=len(spacings),
        channels=channels,
        labels=LabelTable.from_names({s.name: s.value for s in structures}),
        modality=modality_of(channels),
        modality_reason="named by channels.json",
        modality_doubts=(),
        orientations={"RAS": len(spacings)},
        spacings=spacings,
        shapes=(shape,) * len(spacings),
        box_shapes=(shape,) * len(spacings),
        intensities=tuple(ChannelIntensities(c, -120.0, 40.0, 260.0, 50.0, 80.0) for c in channels),
        nonzero_share=1.0,
        box_share=1.0,
        labels_in_box=1.0,
        foreground_share=0.05,
        structures=structures,
    )
    return dataclasses.replace(made, **changes)


def test_small_isotropic_crops_are_covered_whole() -> None:
    plan = make_plan(fingerprint((37, 52, 39)), bf16=True)
    assert plan.patch_size == (40, 56, 40)
    assert plan.training.batch_size == 2
    assert plan.network.depth == "standard"
    assert plan.network.channels == (32, 64, 128, 256)
    assert plan.network.strides == ((2, 2, 2),) * 3
    assert plan.spacing == (1.0, 1.0, 1.0)
    assert (plan.normalisation.kind, plan.normalisation.nonzero) == ("zscore", False)
    assert plan.foreground_threshold is None
    assert plan.training.cache == "memory"


def test_cpu_patch_is_a_cube_in_mm_of_at_most_64_cubed_voxels() -> None:
    plan = make_plan(fingerprint((256, 256, 180), (1.0, 1.0, 1.0)), bf16=True)
    assert plan.patch_size == (64, 64, 64)
    assert "for speed" in plan.reasons["patch_size"]


def test_thick_slices_take_the_finer_spacing_and_wait_with_halving() -> None:
    spacings: list[Triple] = [(0.7, 0.7, 5.0)] * 8 + [(0.7, 0.7, 3.0)] * 2
    plan = make_plan(fingerprint((320, 320, 24), spacings), bf16=True)
    assert plan.spacing == (0.7, 0.7, 3.0)  # the 10th percentile of the long edge
    assert plan.network.strides == ((2, 2, 1), (2, 2, 1), (2, 2, 2))
    edges = [n * s for n, s in zip(plan.patch_size, plan.spacing, strict=True)]
    assert edges[1] == pytest.approx(edges[0], abs=0.7 * 8 + 1e-6)
    assert edges[2] == pytest.approx(edges[0], abs=3 * 2)  # a cube in mm as far as multiples allow
    assert plan.augmentation.rotation_degrees < 15
    assert "4.3 times" in plan.reasons["augmentation.rotation_degrees"]


def test_strides_by_the_published_rule() -> None:
    assert choose_strides((200, 200, 24), (0.7, 0.7, 5.0), 3) == ((2, 2, 1), (2, 2, 1), (2, 2, 2))
    assert choose_strides((64, 64, 6), (1.0, 1.0, 1.0), 3) == ((2, 2, 1), (2, 2, 1), (2, 2, 1))
    assert choose_strides((7, 64, 64), (1.0, 1.0, 2.5), 2) == ((2, 2, 1), (1, 2, 2))
    assert choose_strides((5, 5, 5), (1.0, 1.0, 1.0), 3) == ()


def test_ct_is_clipped_at_foreground_percentiles() -> None:
    plan = make_plan(fingerprint(channels=("CT",), box_share=0.3, nonzero_share=0.1), bf16=True)
    assert plan.normalisation.kind == "clip-scale"
    assert (plan.normalisation.lower, plan.normalisation.upper) == (-120, 260)
    assert plan.foreground_threshold is None  # 0 HU is water, not nothing
    assert "-120 and 260" in plan.reasons["normalisation"]


def test_ct_with_mri_is_refused_with_a_remedy() -> None:
    with pytest.raises(PlanError, match=r"PET, CT are of CT and of other kinds.*rename the CT channel"):
        make_plan(fingerprint(channels=("PET", "CT")))


@pytest.mark.thorough
def test_skull_stripped_mri_is_cropped_unless_labels_would_go() -> None:
    stripped = fingerprint(box_share=0.4, nonzero_share=0.2, box_shapes=((64, 64, 64),) * 10)
    plan = make_plan(stripped, bf16=True)
    assert plan.foreground_threshold == 0
    assert plan.normalisation.nonzero
    assert plan.patch_size == (64, 64, 64)
    kept = make_plan(dataclasses.replace(stripped, labels_in_box=0.9), bf16=True)
    assert kept.foreground_threshold is None
    assert "lose 10.0 percent" in kept.reasons["foreground_threshold"]


def test_mice_are_deformed_by_fractions_of_a_millimetre() -> None:
    spacing = (0.15, 0.15, 0.15)
    mice = fingerprint((75, 123, 52), spacing, structures=(structure("organ", 1, extent_mm=(4.0, 4.0, 4.0)),))
    plan = make_plan(mice, bf16=True)
    assert plan.spacing == spacing
    assert plan.augmentation.elastic_mm == pytest.approx(0.225)
    assert plan.augmentation.elastic_grid_mm == pytest.approx(1.8)
    tiny = make_plan(
        fingerprint((75, 123, 52), spacing, structures=(structure("organ", 1, extent_mm=(1.0, 1.0, 1.0)),)),
        bf16=True,
    )
    assert tiny.augmentation.elastic_mm == pytest.approx(0.1)


@pytest.mark.parametrize("method", ["unet", "dynunet"])
def test_huge_ct_fits_4_gb(method: str) -> None:
    huge = fingerprint((512, 512, 512), (0.8, 0.8, 0.8), channels=("CT",))
    plan = make_plan(huge, method=method, memory_gb=4, bf16=False)
    assert estimate_training_memory(plan) <= 4e9
    assert plan.training.cache == "disk"
    assert len(set(plan.patch_size)) == 1


@pytest.mark.thorough
def test_memory_shrinks_the_patch_and_then_the_batch() -> None:
    scans = fingerprint((96, 96, 96))
    roomy, tight = (make_plan(scans, memory_gb=gb, bf16=False) for gb in (8, 0.9))
    assert math.prod(tight.patch_size) < math.prod(roomy.patch_size)
    assert "the memory of 0.9 GB" in tight.reasons["patch_size"]
    with pytest.raises(PlanError, match=r"needs 0\.\d GB for its smallest patch 32x32x32.*raise --memory"):
        make_plan(scans, memory_gb=0.5)


@pytest.mark.thorough
def test_gpu_takes_deeper_networks_larger_patches_and_batches() -> None:
    plan = make_plan(fingerprint((200, 200, 200)), memory_gb=40, device="cuda", bf16=True, cache_gb=16)
    assert plan.network.depth == "context"
    assert plan.patch_size == (160, 160, 160)
    assert plan.training.iterations_per_epoch == 250
    assert (
        make_plan(fingerprint((48, 48, 48)), memory_gb=40, device="cuda", bf16=True).training.batch_size == 2
    )
    many = fingerprint((64, 64, 64), [(1.0, 1.0, 1.0)] * 200)
    assert make_plan(many, memory_gb=40, device="cuda", bf16=True).training.batch_size == 8


@pytest.mark.parametrize("depth", ["context", "standard", "precision"])
def test_depth_on_request(depth: str) -> None:
    plan = make_plan(fingerprint((96, 96, 96)), depth=depth, bf16=True)
    levels = {"context": 4, "standard": 3, "precision": 2}[depth]
    assert (plan.network.depth, len(plan.network.strides)) == (depth, levels)
    assert plan.reasons["network.depth"] == "set by the user"


def test_scans_too_small_for_the_depth_are_refused() -> None:
    with pytest.raises(PlanError, match=r"depth context halves 4 times.*choose a lower depth"):
        make_plan(fingerprint((30, 30, 30)), depth="context")
    assert make_plan(fingerprint((16, 16, 16)), bf16=True).network.depth == "precision"
    with pytest.raises(PlanError, match="6 x 6 x 6 are too small"):
        make_plan(fingerprint((6, 6, 6)))


def test_unknown_names_and_double_budgets_are_refused() -> None:
    with pytest.raises(OptionError, match="choose one of unet"):
        make_plan(fingerprint(), method="vnet")
    with pytest.raises(OptionError, match="choose one of context"):
        make_plan(fingerprint(), depth="deep")
    with pytest.raises(PlanError, match="either epochs or minutes"):
        make_plan(fingerprint(), epochs=3, minutes=2)
    with pytest.raises(PlanError, match="more than 0"):
        make_plan(fingerprint(), memory_gb=0)
    assert make_plan(fingerprint((32, 32, 32)), minutes=12, bf16=True).training.epochs is None


@pytest.mark.thorough
def test_flips_only_where_labels_survive_them() -> None:
    free = make_plan(fingerprint((32, 32, 32)), bf16=True)
    assert free.augmentation.flip_axes == free.inference.mirror_axes == (0,)
    named = (structure("Left-Kidney", 1), structure("spleen", 2))
    plan = make_plan(fingerprint((32, 32, 32), structures=named), bf16=True)
    assert plan.augmentation.flip_axes == plan.inference.mirror_axes == ()
    assert "Left-Kidney" in plan.reasons["augmentation.flip_axes"]
    many = make_plan(fingerprint((32, 32, 32), cases=50), bf16=True)
    assert many.augmentation.flip_axes == many.inference.mirror_axes == ()


@pytest.mark.parametrize(
    ("second", "paired"),
    [
        ({"centre": (0.8, 0.5, 0.5)}, True),
        ({"centre": (0.8, 0.2, 0.5)}, False),  # behind, not beside: front and back of one organ
        ({"centre": (0.8, 0.5, 0.5), "volume_ml": 50.0}, False),
        ({"centre": (0.2, 0.5, 0.5)}, False),
    ],
)
def test_mirror_images_are_known_by_their_places(second: dict[str, Any], paired: bool) -> None:
    both = (structure("label 1", 1, centre=(0.2, 0.5, 0.5)), structure("label 2", 2, **second))
    assert (mirrored_pair(fingerprint(structures=both)) is not None) == paired


def test_every_choice_has_a_reason() -> None:
    plan = make_plan(fingerprint((32, 32, 32)), bf16=True)
    content = plan_to_dict(plan)
    given_by_the_data = {"dataset", "channels", "labels", "reasons"}
    for key, value in content.items():
        if key in given_by_the_data:
            continue
        leaves = [f"{key}.{leaf}" for leaf in value] if isinstance(value, dict) else [key]
        assert key in plan.reasons or all(leaf in plan.reasons for leaf in leaves), key
    known = set(content) | {f"{k}.{leaf}" for k, v in content.items() if isinstance(v, dict) for leaf in v}
    assert set(plan.reasons) <= known


def test_names_that_no_plan_may_hold_are_refused_at_once() -> None:
    with pytest.raises(UnsafeModelError, match="50%"):
        make_plan(fingerprint((32, 32, 32), structures=(structure("50% isodose", 1),)))


def test_candidates_end_at_four_voxels_at_the_bottom() -> None:
    candidates = patch_candidates((100, 90, 30), (1.0, 1.0, 3.0), (8, 8, 2))
    assert candidates[0] == (104, 96, 30)
    assert candidates[-1] == (32, 32, 8)


@pytest.mark.thorough
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    shape=st.tuples(*[st.integers(13, 400)] * 3),
    spacing=st.tuples(*[st.floats(0.1, 6.0)] * 3),
    method=st.sampled_from(sorted(NETWORKS)),
    memory_gb=st.floats(1.5, 64),
    structures=st.integers(1, 40),
    device=st.sampled_from(["cpu", "cuda"]),
)
def test_planned_patches_divide_and_fit(
    shape: tuple[int, int, int], spacing: Triple, method: str, memory_gb: float, structures: int, device: str
) -> None:
    made = tuple(structure(f"label {i}", i) for i in range(1, structures + 1))
    try:
        plan = make_plan(
            fingerprint(shape, spacing, structures=made),
            method=method,
            memory_gb=memory_gb,
            device=device,
            bf16=True,
            cache_gb=1.0,
        )
    except PlanError as error:  # thin slabs may be too small for two levels, small budgets for many labels
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert "too small" in refusal or "raise --memory" in refusal
        return
    assert all(p % d == 0 for p, d in zip(plan.patch_size, divisor(plan.network), strict=True))
    assert estimate_training_memory(plan, device) <= memory_gb * 1e9
    assert plan_from_dict(plan_to_dict(plan)) == plan
    check_plan(plan, device)


def test_toy_scans_are_too_small(build: Any) -> None:
    dataset = read_dataset(build.decathlon())
    with pytest.raises(PlanError, match="too small"):  # 6 x 7 x 8 voxels
        plan_for(dataset)


@pytest.mark.thorough
@pytest.mark.real
def test_hippocampus_and_mice(real_data: Path, tmp_path: Path) -> None:
    for folder, patch, flips in (
        ("Task04_Hippocampus", (40, 56, 40), ()),
        ("mouse_brain_fvb", (64, 72, 56), ()),
    ):
        plan = plan_for(read_dataset(real_data / folder), overrides=["training.learning_rate=5e-4"])
        assert plan.patch_size == patch
        assert plan.augmentation.flip_axes == flips
        assert plan.training.learning_rate == 5e-4
        assert plan.reasons["training.learning_rate"] == "set by the user instead of 0.001"
        save_plan(plan, tmp_path / "plan.yaml")
        assert load_plan(tmp_path / "plan.yaml") == plan


def test_check_plan_refuses_what_cannot_be_trained() -> None:
    plan: Plan = make_plan(fingerprint((64, 64, 64)), bf16=False)
    with pytest.raises(PlanError, match="needs multiples of"):
        check_plan(dataclasses.replace(plan, patch_size=(60, 64, 64)))
    with pytest.raises(PlanError, match=r"need about .* GB, memory_gb is 0.7"):
        check_plan(dataclasses.replace(plan, memory_gb=0.7))
