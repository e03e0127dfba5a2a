"""Options of networks with atlases: which cases become atlases, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from atlaseg.atlases.network_training.joined_training import JoinedOptions
from atlaseg.pipeline.case import Case
from atlaseg.pipeline.errors import OptionError


def test_atlases_are_spread_over_the_training_cases() -> None:
    cases = [Case(f"case_{n}", (Path(f"{n}.nii.gz"),), Path(f"label_{n}.nii.gz")) for n in range(6)]
    assert JoinedOptions(atlases=3).atlases_among(cases) == [cases[1], cases[3], cases[5]]


def test_too_few_atlases() -> None:
    with pytest.raises(OptionError, match="at least 2"):
        JoinedOptions(atlases=1)
