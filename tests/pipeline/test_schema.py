"""Plain data against type hints, and the ranges of numbers."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from atlaseg.pipeline.errors import OptionError, PlanError
from atlaseg.pipeline.schema import Count, Positive, Range, Seed, Share, build_checked, check_ranges, convert


@dataclass(frozen=True)
class Job:
    minutes: Positive | None = None
    seed: Seed = 0
    share: Share = 0.5
    sizes: tuple[Count, ...] = ()
    free: float = 0.0
    kind: Literal["a", 1] = "a"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"minutes": 0}, "minutes must be greater than 0, found 0"),
        ({"seed": 2**70}, "seed must be at least 0 and at most 4294967295, found 1180591620717411303424"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"seed": 10**5000}, "found a whole number of more than 40 digits"),
        ({"share": 1.5}, "share must be at least 0 and at most 1, found 1.5"),
        ({"sizes": [4, 0]}, "sizes[1] must be at least 1"),
        ({"free": 10**400}, "free: expected a finite number, found a whole number of more than 40 digits"),
        ({"free": float("nan")}, "free: expected a finite number, found nan"),
        ({"kind": True}, "kind: expected one of a, 1, found True"),
        ({"kind": []}, "kind: expected one of a, 1, found []"),
        ({"sizes": "x" * 1000}, "..."),
    ],
)
def test_values_out_of_range_are_refused(content: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError) as raised:
        build_checked(Job, content, "")
    assert message in str(raised.value)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    ("job", "option"),
    [
        (Job(minutes=float("nan")), "--minutes"),
        (Job(minutes=-1.0), "--minutes"),
        (Job(seed=2**32), "--seed"),
        (Job(share=2.0), "--share"),
        (Job(sizes=(1, -1)), "--sizes"),
        (Job(free=float("inf")), "--free"),
    ],
)
def test_options_out_of_range_are_refused(job: Job, option: str) -> None:
    with pytest.raises(OptionError, match=f"^{option} must be "):
        check_ranges(job)


def test_what_is_in_range_passes() -> None:
    check_ranges(Job(minutes=1e-9, seed=2**32 - 1, share=1.0, sizes=(1,), free=-5.0))
    assert convert(Annotated[int, Range(at_most=3)] | None, None, "x") is None
    assert build_checked(Job, {"sizes": [1, 2]}, "") == Job(sizes=(1, 2))
