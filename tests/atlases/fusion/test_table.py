"""The table of rules, and what it says of mistakes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import is_dataclass

import pytest

from atlases.fusion.candidates import FusionRule
from atlases.fusion.table import FUSION_RULES, make_rule
from pipeline.errors import OptionError


@pytest.mark.parametrize("name", FUSION_RULES)
def test_every_rule_is_made_with_its_defaults(name: str) -> None:
    rule = make_rule(name)
    assert isinstance(rule, FusionRule)
    assert is_dataclass(rule)


def test_options_are_handed_on() -> None:
    assert make_rule("local-weighted", sigma=1.5).sigma == 1.5  # type: ignore[attr-defined]


def test_unknown_rule_lists_the_rules() -> None:
    with pytest.raises(OptionError, match=r"'bayes'; choose one of majority, global-weighted, .*generative"):
        make_rule("bayes")


def test_unknown_option_lists_the_options() -> None:
    with pytest.raises(OptionError, match=r"no option 'simga'; its options are metric, sigma, power"):
        make_rule("local-weighted", simga=1)
    with pytest.raises(OptionError, match=r"no option 'sigma'; it has none"):
        make_rule("majority", sigma=1)


def test_the_table_loads_no_heavy_library() -> None:
    code = (
        "import sys, atlases.fusion.table\n"
        "print([m for m in ('torch', 'monai', 'scipy', 'SimpleITK', 'itk', 'ants') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
