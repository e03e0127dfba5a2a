"""The weight of the atlases: it goes to who is right, the smallest of equals is taken, and nobody teaches himself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from atlaseg.atlases.combined.combination import Combination, Kind
from atlaseg.atlases.combined.weight_learning import WEIGHTS, Example, learn_weight
from atlaseg.pipeline.errors import DatasetError


def example(kind: Kind, own: npt.NDArray[Any], votes: npt.NDArray[Any], truth: npt.NDArray[Any]) -> Example:
    return Example(lambda w: Combination(kind, w).apply(own, votes).argmax(axis=0), truth, len(own))


def examples(kind: Kind, method_is_right: bool, cases: int = 3) -> Iterator[Example]:
    """One of the two knows the truth, the other guesses."""
    for case in range(cases):
        truth = np.random.default_rng(case).integers(0, 3, (6, 6, 6))
        right = 0.9 * np.eye(3)[truth].transpose(3, 0, 1, 2) + 0.1 / 3
        guess = np.random.default_rng(case + 10).dirichlet(np.ones(3), (6, 6, 6)).transpose(3, 0, 1, 2)
        yield example(kind, *((right, guess) if method_is_right else (guess, right)), truth)


@pytest.mark.parametrize("kind", ["bayes", "ensemble"])
def test_the_weight_goes_to_who_is_right(kind: Kind) -> None:
    found = learn_weight(examples(kind, method_is_right=True), WEIGHTS[kind])
    assert found.weight == 0.0
    assert found.dice[0.0] == pytest.approx(1)
    found = learn_weight(examples(kind, method_is_right=False), WEIGHTS[kind])
    assert found.weight >= 0.5
    assert found.dice[found.weight] == max(found.dice.values())
    assert tuple(found.dice) == WEIGHTS[kind]


def test_equal_weights_give_the_smallest() -> None:
    truth = np.zeros((4, 4, 4), dtype=int)
    truth[:2] = 1
    agreed = np.eye(2)[truth].transpose(3, 0, 1, 2)
    assert learn_weight([example("ensemble", agreed, agreed, truth)], WEIGHTS["ensemble"]).weight == 0


def test_the_mean_is_over_structures_and_then_over_cases() -> None:
    truth = np.array([[[0, 1, 1, 2]]])
    half = np.array([[[0, 1, 0, 2]]])  # Dice 2/3 of the first structure, 1 of the second
    found = learn_weight([Example(lambda w: half if w else truth, truth, 3)] * 2, (1.0, 0.0), "two cases")
    assert found.about == {"weight_from": "two cases", "dice_of_weights": {"1.0": 0.83333, "0.0": 1.0}}


def test_without_a_case_there_is_nothing_to_learn() -> None:
    with pytest.raises(DatasetError, match="no held-out case to learn the weight of the atlases from"):
        learn_weight([], WEIGHTS["ensemble"])
