"""Conditions between the values of a plan."""

import dataclasses
from typing import Any

import pytest

from pipeline.case import LabelTable
from pipeline.errors import PlanError
from pipeline.plan import Augmentation, InferencePlan, NetworkPlan, Normalisation, Plan, TrainingPlan

PLAN = Plan("made", ("T1",), LabelTable.from_values([1]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": TrainingPlan(epochs=None)}, "either epochs or minutes"),
        ({"training": TrainingPlan(epochs=3, minutes=2)}, "either epochs or minutes"),
        ({"training": TrainingPlan(epochs=0)}, r"training.epochs must be greater than 0, found 0"),
        ({"training": TrainingPlan(warmup=1.5)}, r"training.warmup must lie between 0 and 1, found 1.5"),
        ({"network": NetworkPlan(channels=(8, 16))}, "2 channels need 1 strides, found 3"),
        (
            {"network": NetworkPlan(channels=(8, 16), strides=((2, 0, 2),))},
            "network.strides must be greater than 0",
        ),
        ({"orientation": "RAX"}, "one letter each of L/R, A/P and I/S"),
        ({"spacing": (1.0, -1.0, 1.0)}, "spacing must be greater than 0"),
        ({"patch_size": (0, 8, 8)}, "patch_size must be greater than 0"),
        ({"memory_gb": float("nan")}, "memory_gb must be greater than 0"),
        ({"augmentation": Augmentation(flip_axes=(3,))}, "the axes are 0, 1 and 2, found"),
        ({"augmentation": Augmentation(noise_probability=2.0)}, "noise_probability must lie between 0 and 1"),
        ({"inference": InferencePlan(mirror_axes=(-1,))}, "the axes are 0, 1 and 2, found"),
        ({"inference": InferencePlan(overlap=1.0)}, "at least 0 and less than 1"),
        ({"normalisation": Normalisation("clip-scale", lower=5, upper=5)}, "lower < upper"),
    ],
)
def test_impossible_values_are_one_clear_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message) as raised:
        dataclasses.replace(PLAN, **changes)
    assert "\n" not in str(raised.value)
