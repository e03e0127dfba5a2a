"""Conditions between the values of a plan."""

import dataclasses
from typing import Any

import pytest

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.errors import PlanError
from atlaseg.pipeline.planning.plan import (
    Augmentation,
    InferencePlan,
    NetworkPlan,
    Normalisation,
    Plan,
    TrainingPlan,
)

PLAN = Plan("made", ("T1",), LabelTable.from_values([1]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": TrainingPlan(epochs=None)}, "either epochs or minutes"),
        ({"training": TrainingPlan(epochs=3, minutes=2)}, "either epochs or minutes"),
        (
            {"training": TrainingPlan(epochs=0)},
            r"training.epochs must be at least 1 and at most 1000000000, found 0",
        ),
        (
            {"training": TrainingPlan(warmup=1.5)},
            r"training.warmup must be at least 0 and at most 1, found 1.5",
        ),
        ({"network": NetworkPlan(channels=(8, 16))}, "2 channels need 1 strides, found 3"),
        (
            {"network": NetworkPlan(channels=(8, 16), strides=((2, 0, 2),))},
            "network.strides must be at least 1 and at most 16, found 0",
        ),
        ({"orientation": "RAX"}, "one letter each of L/R, A/P and I/S"),
        ({"spacing": (1.0, -1.0, 1.0)}, "spacing must be at least 0.001 and at most 1000, found -1.0"),
        ({"patch_size": (0, 8, 8)}, "patch_size must be at least 1"),
        ({"memory_gb": float("nan")}, "memory_gb must be greater than 0"),
        ({"augmentation": Augmentation(flip_axes=(3,))}, "the axes are 0, 1 and 2, found"),
        (
            {"augmentation": Augmentation(noise_probability=2.0)},
            "noise_probability must be at least 0 and at most 1",
        ),
        ({"inference": InferencePlan(mirror_axes=(-1,))}, "the axes are 0, 1 and 2, found"),
        ({"inference": InferencePlan(overlap=1.0)}, "at least 0 and less than 1"),
        ({"channels": ()}, "channels: name at least one input channel"),
        ({"training": TrainingPlan(seed=2**70)}, "training.seed must be at least 0 and at most 4294967295"),
        ({"training": TrainingPlan(batch_size=10**30)}, "training.batch_size must be at least 1 and at most"),
        ({"training": TrainingPlan(learning_rate=float("inf"))}, "training.learning_rate must be"),
        ({"training": TrainingPlan(ema=1.0)}, "training.ema must be at least 0 and less than 1"),
        ({"network": NetworkPlan(dropout=5)}, "network.dropout must be at least 0 and less than 1, found 5"),
        ({"spacing": (1e-6, 1.0, 1.0)}, "spacing must be at least 0.001"),
        ({"normalisation": Normalisation("clip-scale", lower=5, upper=5)}, "lower < upper"),
    ],
)
def test_impossible_values_are_one_clear_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message) as raised:
        dataclasses.replace(PLAN, **changes)
    assert "\n" not in str(raised.value)
