"""Options of networks with atlases: how many cases become atlases, and what follows from it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from atlaseg.atlases.network_training.joined_training import JoinedOptions
from atlaseg.pipeline.case import Case
from atlaseg.pipeline.errors import OptionError


def cases(number: int) -> list[Case]:
    return [Case(f"case_{n:03}", (Path(f"{n}.nii.gz"),), Path(f"label_{n}.nii.gz")) for n in range(number)]


@pytest.mark.parametrize(
    ("number", "asked", "found"), [(5, None, 5), (20, None, 20), (140, None, 20), (140, 35, 35), (4, 9, 4)]
)
def test_number_of_atlases(number: int, asked: int | None, found: int) -> None:
    everything = cases(number)
    chosen = JoinedOptions(atlases=asked).atlases_among(everything)
    assert len({case.name for case in chosen}) == found
    assert chosen == [case for case in everything if case in chosen]  # in their order
    gaps = {everything.index(b) - everything.index(a) for a, b in pairwise(chosen)}
    assert max(gaps) - min(gaps) <= 1  # evenly


@pytest.mark.parametrize("number", [-1, 0, 1])
def test_too_few_atlases(number: int) -> None:
    with pytest.raises(OptionError, match="at least 2"):
        JoinedOptions(atlases=number)
