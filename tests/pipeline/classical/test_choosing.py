"""Unset options: held-out scans decide, and the time stays bounded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.classical import Classes, Scan
from atlaseg.pipeline.classical.choosing import MOST_HELD_OUT, MOST_SCANS, choose_options, settled
from atlaseg.pipeline.classical.methods.gmm import COMPONENTS, GmmOptions
from atlaseg.pipeline.classical.methods.mrf import STRENGTHS, MrfOptions

SHAPE = (16, 16, 16)


def tissue(seed: int, noise: float = 0.05) -> tuple[Scan, npt.NDArray[np.int64]]:
    """Three slabs that lie elsewhere in every scan, so that only intensity tells which is which."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(SHAPE, dtype=np.int64)
    first, second = sorted(rng.choice(np.arange(3, 14), 2, replace=False))
    labels[first:second] = 1
    labels[second:] = 2
    return Scan.of(labels + noise * rng.standard_normal(SHAPE)), labels


def many(number: int, noise: float = 0.05) -> tuple[list[Scan], list[npt.NDArray[np.int64]]]:
    made = [tissue(seed, noise) for seed in range(number)]
    return [scan for scan, _ in made], [labels for _, labels in made]


@dataclass(frozen=True)
class Steps:
    """Classes by equal steps of intensity; the sign changes nothing."""

    steps: int | None = None

    def choices(self) -> dict[str, tuple[int, ...]]:
        return {"steps": (1, 2, 3, -3)} if self.steps is None else {}

    def classes(self, scan: Scan) -> Classes:
        steps = 1 if self.steps is None else abs(self.steps)
        which = np.clip((scan.voxels[0] * steps).astype(int), 0, steps - 1)
        return Classes(posteriors=(which[None] == np.arange(steps)[:, None, None, None]).astype(np.float32))


def test_the_best_on_scans_held_out_is_chosen_and_of_equals_the_first() -> None:
    assert choose_options(Steps(), *many(6), 3) == Steps(3)


def test_what_is_set_stays() -> None:
    assert choose_options(Steps(2), *many(4), 3) == Steps(2)
    options = MrfOptions(strength=0.4, components=3)
    assert choose_options(options, *many(4), 3) == options


def test_one_scan_leaves_the_first_choice() -> None:
    assert choose_options(Steps(), *many(1), 3) == Steps(1) == settled(Steps())
    assert settled(GmmOptions()) == GmmOptions(COMPONENTS[0])


def test_a_prior_needs_no_number_of_classes() -> None:
    options = GmmOptions(use_prior=True)
    assert choose_options(options, *many(4), 3) == options


def test_strength_is_none_where_smoothing_harms_and_some_where_it_helps() -> None:
    """Noise wants smoothing; a chequerboard without noise does not."""
    base = MrfOptions(components=3, contrast=0.0, max_iterations=20)
    noisy = choose_options(base, *many(4, noise=0.5), 3)
    assert noisy.strength > 0
    scans, labels = many(4)
    board = np.indices(SHAPE).sum(axis=0) % 2
    scans = [Scan.of(np.where(board, scan.voxels[0], 1 - scan.voxels[0])) for scan in scans]
    labels = [np.where(board, label, 2 - label) for label in labels]
    assert choose_options(base, scans, labels, 3).strength < noisy.strength
    assert choose_options(base, scans, labels, 3).strength in STRENGTHS


def test_few_scans_are_looked_at() -> None:
    seen: list[Any] = []

    class Counted(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            seen.append(index)
            return super().__getitem__(index)

    scans, labels = many(20)
    choose_options(Steps(), Counted(scans), labels, 3)
    assert len(set(seen)) == MOST_SCANS
    assert MOST_HELD_OUT < MOST_SCANS


def test_inside_masks_only() -> None:
    scans, labels = many(4)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[:, 2:14, 2:14] = True
    masked = [replace(scan, mask=mask) for scan in scans]
    inside = [np.where(mask, label, 0) for label in labels]
    assert choose_options(Steps(), masked, inside, 3, masked=True) == Steps(3)
