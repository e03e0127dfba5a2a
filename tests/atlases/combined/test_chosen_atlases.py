"""How many training cases become atlases, and which."""

from __future__ import annotations

from itertools import pairwise

import pytest

from atlaseg.atlases.combined.chosen_atlases import chosen_atlases, refuse_too_few
from atlaseg.pipeline.errors import OptionError


@pytest.mark.parametrize(
    ("number", "asked", "found"), [(5, None, 5), (20, None, 20), (140, None, 20), (140, 35, 35), (4, 9, 4)]
)
def test_number_of_atlases(number: int, asked: int | None, found: int) -> None:
    chosen = chosen_atlases(range(number), asked)
    assert len(set(chosen)) == found
    assert chosen == sorted(chosen)  # in their order
    gaps = {b - a for a, b in pairwise(chosen)}
    assert max(gaps) - min(gaps) <= 1  # evenly


@pytest.mark.parametrize("number", [-1, 0, 1])
def test_too_few_atlases(number: int) -> None:
    with pytest.raises(OptionError, match="at least 2"):
        refuse_too_few(number)
    refuse_too_few(None)
    refuse_too_few(2)
