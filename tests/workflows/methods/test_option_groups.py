"""Groups of options, opened into plain names and filled from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from atlaseg.workflows.methods.option_groups import (
    default_values,
    fill,
    groups_of,
    marked,
    names_in,
    option_types,
    values_of,
)


@dataclass(frozen=True)
class Engine:
    free: ClassVar[tuple[str, ...]] = ("threads",)

    threads: int = 1
    speed: float | None = None


@dataclass(frozen=True)
class Job:
    free: ClassVar[tuple[str, ...]] = ("out",)

    out: str
    seed: int = 0
    engine: Engine = field(default_factory=Engine)


def test_groups_are_opened() -> None:
    job = Job("a", engine=Engine(threads=3))
    assert values_of(job) == {"out": "a", "seed": 0, "threads": 3, "speed": None}
    assert default_values(Job) == {"seed": 0, "threads": 1, "speed": None}
    assert option_types(Job) == {"out": str, "seed": int, "threads": int, "speed": float | None}
    assert groups_of(Job) == {"engine": Engine}
    assert names_in(Engine) == ("threads", "speed")
    assert marked(Job, "free") == {"out", "threads"}


def test_groups_are_filled() -> None:
    assert fill(Job, "a", threads=4, seed=2) == Job("a", 2, Engine(4))
    assert fill(Job, "a", engine=Engine(2, 0.5), threads=4) == Job("a", engine=Engine(4, 0.5))
    with pytest.raises(TypeError, match="colour"):
        fill(Job, "a", colour="red")
