"""The stream of batches: repeatable, resumable, fair to all cases, with patches inside them."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from atlaseg.pipeline.planning.plan import Augmentation
from atlaseg.pipeline.training.patch_sampling import (
    CENTRES_PER_STRUCTURE,
    PatchBatches,
    PatchSampling,
    TrainingCases,
    foreground_voxels,
)
from atlaseg.pipeline.transforms.deformation import PatchDeformer
from atlaseg.pipeline.transforms.random_intensity import intensity_augmentation

PATCH = (8, 8, 8)


def cases(
    count: int = 5, shape: Sequence[int] = (14, 12, 10), foreground: bool = True
) -> list[dict[str, Any]]:
    """Case ``n`` has the intensity ``n`` everywhere and a structure of some voxels in one corner."""
    label = torch.zeros((1, *shape), dtype=torch.uint8)
    if foreground:
        label[0, :3, :3, :3] = 1
        label[0, -1, -1, -1] = 2
    image = torch.ones((1, *shape))
    return [{"image": MetaTensor(image * n), "label": MetaTensor(label)} for n in range(count)]


class Centres:
    """A cutter that notes where it was asked to cut and returns an undeformed patch's mean."""

    def __init__(self, log: list[tuple[float, tuple[int, ...]]]) -> None:
        self.log = log

    def __deepcopy__(self, memo: dict[int, Any]) -> Centres:
        return Centres(self.log)  # copies for threads share the log

    def set_random_state(self, seed: int) -> Any:
        return self

    def sample(self, image: torch.Tensor, label: torch.Tensor, centre: Sequence[int]) -> Any:
        self.log.append((float(image.mean()), tuple(centre)))
        return torch.zeros(1, *PATCH), torch.zeros(1, *PATCH)


def stream(data: list[dict[str, Any]], cutter: Any = None, **options: Any) -> PatchBatches:
    parts = {name: options.pop(name) for name in ("sources", "certainties") if name in options}
    running = {name: options.pop(name) for name in ("workers", "rank", "world_size") if name in options}
    sampling = PatchSampling(
        **{"patch_size": PATCH, "batch_size": 2, "iterations_per_epoch": 3, "seed": 7} | options
    )
    deformer = PatchDeformer(
        patch_size=PATCH,
        spacing=(1, 1, 1),
        probability=0.8,
        rotation_degrees=15,
        scaling=0.1,
        elastic_mm=1,
        elastic_grid_mm=6,
    )
    intensity = None if cutter else intensity_augmentation(Augmentation(flip_axes=(0, 1)))
    return PatchBatches(TrainingCases(data, **parts), cutter or deformer, intensity, sampling, **running)


def noisy(count: int = 5) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {"image": c["image"] + torch.randn(c["image"].shape, generator=generator), "label": c["label"]}
        for c in cases(count)
    ]


def take(batches: PatchBatches, count: int) -> list[dict[str, torch.Tensor]]:
    iterator = iter(batches)
    taken = list(itertools.islice(iterator, count))
    iterator.close()  # type: ignore[attr-defined]
    return taken


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[key], b[key]) for key in ("image", "label"))


@pytest.fixture(scope="module")
def first_batches() -> list[dict[str, torch.Tensor]]:
    return take(stream(noisy()), 6)


def test_plain_tensors(first_batches: list[dict[str, torch.Tensor]]) -> None:
    batch = first_batches[0]
    assert batch.keys() == {"image", "label"}
    assert type(batch["image"]) is type(batch["label"]) is torch.Tensor
    assert batch["image"].shape == batch["label"].shape == (2, 1, *PATCH)
    assert batch["image"].dtype == torch.float32
    assert set(batch["label"].unique().tolist()) <= {0, 1, 2}


def test_batches_differ_from_each_other(first_batches: list[dict[str, torch.Tensor]]) -> None:
    assert not any(same(a, b) for a, b in itertools.combinations(first_batches, 2))


@pytest.mark.parametrize("workers", [1, 2])
def test_threads_change_nothing(first_batches: list[dict[str, torch.Tensor]], workers: int) -> None:
    assert all(map(same, take(stream(noisy(), workers=workers), 6), first_batches))


@pytest.mark.parametrize("workers", [0, 2])
def test_resumes_with_the_next_batch(first_batches: list[dict[str, torch.Tensor]], workers: int) -> None:
    batches = stream(noisy(), workers=workers)
    assert all(map(same, take(batches, 2), first_batches[:2]))
    assert batches.next_batch == 2  # though workers had prepared more
    assert all(map(same, take(batches, 2), first_batches[2:4]))
    resumed = stream(noisy(), workers=workers)
    resumed.next_batch = 4
    assert all(map(same, take(resumed, 2), first_batches[4:]))


def test_any_batch_at_any_time(first_batches: list[dict[str, torch.Tensor]]) -> None:
    batches = stream(noisy())
    assert all(same(batches.batch(i), first_batches[i]) for i in (5, 0, 3))


def test_another_seed_gives_other_batches(first_batches: list[dict[str, torch.Tensor]]) -> None:
    assert not same(stream(noisy(), seed=8).batch(0), first_batches[0])


def test_every_case_once_per_pass() -> None:
    log: list[tuple[float, tuple[int, ...]]] = []
    batches = stream(cases(5), Centres(log), batch_size=2)
    take(batches, 10)
    drawn = [round(value) for value, _ in log]
    passes = [drawn[start : start + 5] for start in range(0, 20, 5)]
    assert all(sorted(p) == [0, 1, 2, 3, 4] for p in passes)
    assert len({tuple(p) for p in passes}) > 1  # in its own order each


def test_processes_share_out_the_samples_of_one() -> None:
    def drawn(rank: int, world_size: int) -> list[list[tuple[float, tuple[int, ...]]]]:
        log: list[tuple[float, tuple[int, ...]]] = []
        take(stream(cases(5), Centres(log), rank=rank, world_size=world_size), 4 // world_size)
        return [log[i : i + 2] for i in range(0, len(log), 2)]

    alone, first, second = drawn(0, 1), drawn(0, 2), drawn(1, 2)
    assert [first[0], second[0], first[1], second[1]] == alone


def labelled_share(fraction: float) -> float:
    log: list[tuple[float, tuple[int, ...]]] = []
    # so large that clipping into the case moves no centre of the structures, and that chance rarely hits them
    data = cases(1, (40, 40, 40))
    label = data[0]["label"]
    label.zero_()
    label[0, 18:22, 18:22, 18:22] = 1
    label[0, 30, 30, 30] = 2
    take(stream(data, Centres(log), batch_size=100, foreground_fraction=fraction), 10)
    found = Counter(int(label[(0, *centre)]) for _, centre in log)
    if fraction:
        # both structures alike, although one is 64 times larger: 4 standard deviations of a binomial
        total = found[1] + found[2]
        assert abs(found[2] - total / 2) < 4 * np.sqrt(total / 4) + 2
    return (found[1] + found[2]) / 1000


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_foreground_fraction(fraction: float) -> None:
    by_chance = 65 / 32**3
    expected = fraction + (1 - fraction) * by_chance
    spread = np.sqrt(max(expected * (1 - expected), 1e-4) / 1000)
    assert abs(labelled_share(fraction) - expected) <= 4 * spread


def test_patches_lie_inside_the_case() -> None:
    log: list[tuple[float, tuple[int, ...]]] = []
    shape = (14, 8, 9)
    take(stream(cases(2, shape), Centres(log), batch_size=100), 2)
    centres = np.array([centre for _, centre in log])
    starts = centres - np.asarray(PATCH) // 2
    assert (starts >= 0).all()
    assert (starts + PATCH <= shape).all()
    assert set(starts[:, 0]) == set(range(7))  # every place where the patch fits
    assert set(starts[:, 1]) == {0}


def test_a_smaller_case_lies_inside_the_patch() -> None:
    log: list[tuple[float, tuple[int, ...]]] = []
    shape = np.array((5, 12, 3))
    take(stream(cases(1, tuple(shape)), Centres(log), batch_size=50), 2)
    starts = np.array([centre for _, centre in log]) - np.asarray(PATCH) // 2
    assert (starts[:, [0, 2]] <= 0).all()
    assert ((starts + PATCH)[:, [0, 2]] >= shape[[0, 2]]).all()


def test_cases_without_structures() -> None:
    log: list[tuple[float, tuple[int, ...]]] = []
    take(stream(cases(2, foreground=False), Centres(log), foreground_fraction=1.0), 2)
    assert len(log) == 4


def test_few_cases_stay_at_hand_and_centres_do_not_change() -> None:
    def centres(at_hand: int) -> list[tuple[float, tuple[int, ...]]]:
        log: list[tuple[float, tuple[int, ...]]] = []
        batches = stream(cases(6), Centres(log))
        batches.CASES_AT_HAND = at_hand
        take(batches, 9)
        assert len(batches._cache) <= at_hand
        return log

    assert centres(1) == centres(16)


def test_cases_are_not_changed() -> None:
    data = noisy(2)
    before = [{k: v.clone() for k, v in c.items()} for c in data]
    take(stream(data), 4)
    assert all(torch.equal(a[k], b[k]) for a, b in zip(data, before, strict=True) for k in a)


def test_an_error_in_a_thread_reaches_the_trainer() -> None:
    class Broken(Centres):
        def sample(self, image: torch.Tensor, label: torch.Tensor, centre: Sequence[int]) -> Any:
            raise MemoryError("no room")

        def __deepcopy__(self, memo: dict[int, Any]) -> Broken:
            return self

    with pytest.raises(MemoryError, match="no room"):
        take(stream(cases(), Broken([]), workers=2), 1)


def test_foreground_voxels() -> None:
    label = np.zeros((30, 20, 10), np.uint8)
    label[:, :, 5:] = 2
    label[3, 4, 0] = 1
    one, two = foreground_voxels(label, np.random.default_rng(0))
    assert one.tolist() == [[3, 4, 0]]
    assert len(two) == CENTRES_PER_STRUCTURE
    assert len(np.unique(two, axis=0)) == CENTRES_PER_STRUCTURE
    assert (label[tuple(two.T)] == 2).all()
    assert foreground_voxels(np.zeros((3, 3, 3)), np.random.default_rng(0)) == []


def with_prior(count: int = 4) -> list[dict[str, Any]]:
    """Cases whose prior, two further channels, is the label and what it is not."""
    data = noisy(count)
    for case in data:
        inside = (case["label"] > 0).float()
        case["image"] = torch.cat([torch.as_tensor(case["image"]), inside, 1 - inside])
    return data


def test_a_prior_is_deformed_and_mirrored_but_has_no_intensities() -> None:
    everything = {f.name: 1.0 for f in dataclasses.fields(Augmentation) if f.name.endswith("_probability")}
    augment = intensity_augmentation(Augmentation(**everything, flip_axes=(0, 1, 2)))
    batches = stream(with_prior(), prior_channels=2)
    batches.intensity = augment
    for batch in take(batches, 6):
        prior = batch["image"][:, -2:]
        assert batch["image"].shape[1] == 3
        torch.testing.assert_close(prior.sum(dim=1), torch.ones_like(prior[:, 0]), atol=1e-4, rtol=0)
        # the label is of the nearest voxel and the prior interpolated: they agree but for half a voxel
        assert (((prior[:, :1] > 0.5) == (batch["label"] > 0)).float().mean()) > 0.9


@pytest.mark.thorough
def test_a_prior_is_dropped_as_often_as_was_asked_for() -> None:
    def dropped(share: float) -> float:
        batches = take(stream(with_prior(), prior_channels=2, prior_dropout=share), 60)
        return float(np.mean([not patch[-2:].any() for batch in batches for patch in batch["image"]]))

    assert dropped(0.0) == 0
    assert 0.3 < dropped(0.5) < 0.7
    assert dropped(1.0) == 1


def test_warped_versions_stand_in_for_their_case() -> None:
    log: list[tuple[float, tuple[int, ...]]] = []
    # items 3, 4 and 5 were made of the cases 0, 0 and 2
    batches = stream(cases(6), Centres(log), sources=(0, 0, 2), warped_probability=0.5)
    take(batches, 300)
    seen = Counter(round(mean) for mean, _ in log)
    passes = len(log) / 3
    assert seen[0] + seen[3] + seen[4] == pytest.approx(passes, abs=1)
    assert seen[2] + seen[5] == pytest.approx(passes, abs=1)
    assert seen[1] == pytest.approx(passes, abs=1)
    assert 0.4 < (seen[3] + seen[4]) / passes < 0.6
    assert 0.3 < seen[3] / (seen[3] + seen[4]) < 0.7


def test_scans_labelled_by_atlases_are_drawn_by_their_certainty() -> None:
    log: list[tuple[float, tuple[int, ...]]] = []
    # three cases, a warped one, and three scans of which one is hopeless
    batches = stream(
        cases(7),
        Centres(log),
        sources=(0,),
        warped_probability=0.5,
        certainties=(0.9, 0.3, 0.0),
        unlabelled_share=0.4,
    )
    take(batches, 500)
    seen = Counter(round(mean) for mean, _ in log)
    assert seen[6] == 0
    assert 0.35 < (seen[4] + seen[5]) / len(log) < 0.45
    assert 2.2 < seen[4] / seen[5] < 4
    assert 0.4 < seen[3] / (seen[0] + seen[3]) < 0.6
