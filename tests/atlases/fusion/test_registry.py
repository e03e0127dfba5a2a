"""The table of rules, and what it says of mistakes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import is_dataclass

import numpy as np
import pytest

from atlaseg.atlases.fusion.candidates import Candidates, FusionRule
from atlaseg.atlases.fusion.registry import (
    DEFAULT_FUSION,
    DEFAULT_WITHOUT_IMAGES,
    FUSION_RULES,
    fuse,
    make_rule,
    read_options,
)
from atlaseg.pipeline.errors import OptionError


@pytest.mark.parametrize("name", FUSION_RULES.names())
def test_every_rule_is_made_with_its_defaults(name: str) -> None:
    rule = make_rule(name)
    assert isinstance(rule, FusionRule)
    assert is_dataclass(rule)


def test_rows_say_what_rules_need() -> None:
    rng = np.random.default_rng(0)
    votes = Candidates(rng.integers(0, 2, (3, 5, 6, 7)).astype(np.uint8), classes=2)
    for row in FUSION_RULES.rows():
        assert row.summary
        assert row.source
        if row.needs_images:
            with pytest.raises(OptionError, match=f"{row.name} fusion compares intensities"):
                make_rule(row.name).fuse(votes)
        else:
            assert make_rule(row.name).fuse(votes).labels.shape == votes.spatial_shape
    assert FUSION_RULES.find(DEFAULT_FUSION).needs_images
    assert not FUSION_RULES.find(DEFAULT_WITHOUT_IMAGES).needs_images


def test_joint_fusion_is_another_name_of_joint() -> None:
    assert FUSION_RULES.find("joint-fusion").name == "joint"
    assert make_rule("joint-fusion", alpha=0.2) == make_rule("joint", alpha=0.2)


def test_options_are_handed_on() -> None:
    assert make_rule("local-weighted", sigma=1.5).sigma == 1.5  # type: ignore[attr-defined]


def test_unknown_rule_lists_the_rules() -> None:
    with pytest.raises(
        OptionError, match=r"'bayes'; choose one of joint, majority, global-weighted, .*generative"
    ):
        make_rule("bayes")


def test_unknown_option_lists_the_options() -> None:
    with pytest.raises(OptionError, match=r"no option 'simga'; its options are metric, sigma, power"):
        make_rule("local-weighted", simga=1)
    with pytest.raises(OptionError, match=r"no option 'sigma'; it has none"):
        make_rule("majority", sigma=1)


def test_the_table_loads_no_heavy_library() -> None:
    code = (
        "import sys, atlaseg.atlases.fusion.registry\n"
        "print([m for m in ('torch', 'monai', 'scipy', 'SimpleITK', 'itk', 'ants') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("rule", "words", "options"),
    [
        ("majority", [], {}),
        ("joint", ["alpha=1e-3", "patch_radius=2,2,1"], {"alpha": 0.001, "patch_radius": (2, 2, 1)}),
        (
            "joint",
            ["vote_radius=none", "search_metric=correlation"],
            {"vote_radius": None, "search_metric": "correlation"},
        ),
        ("generative", ["sigma=1", "spacing=0.8,0.8,2"], {"sigma": 1, "spacing": (0.8, 0.8, 2)}),
        ("staple", ["region=all"], {"region": "all"}),
    ],
)
def test_options_as_people_write_them(rule, words, options):
    assert read_options(rule, words) == options
    assert make_rule(rule, **options) == make_rule(rule, **read_options(rule, words))


@pytest.mark.parametrize(
    ("rule", "word", "message"),
    [
        ("vote", "a=1", "no fusion rule 'vote'"),
        ("majority", "a=1", "majority fusion has no option 'a'; it has none"),
        ("joint", "alpha", "'alpha' is not an option of joint fusion: write it as name=value"),
        ("joint", "=1", "'=1' is not an option"),
        ("joint", "alpha=much", "option alpha: expected a number, found 'much'"),
        ("joint", "alpha=1,2", "option alpha: expected a number, found '1,2'"),
        (
            "joint",
            "patch_radius=1,2",
            "patch_radius: expected a whole number, or a list of 3 x a whole number, or none, found '1,2'",
        ),
        ("joint", "vote_radius=x", "vote_radius: expected a whole number, or a list of 3 x a whole number"),
        ("staple", "max_iterations=2.5", "expected a whole number"),
        ("staple", "region=here", "option region: expected one of disagreement, all, found 'here'"),
    ],
)
def test_words_that_are_no_options(rule, word, message):
    with pytest.raises(OptionError) as caught:
        read_options(rule, [word])
    assert message in str(caught.value)


def test_an_option_is_given_once():
    with pytest.raises(OptionError, match="given twice"):
        read_options("joint", ["alpha=1", "alpha=2"])


def test_an_installed_package_adds_a_rule(installed) -> None:
    installed.add(
        "their-rule",
        {"atlaseg.fusion_rules": {"first": "first_rule:ROW"}},
        first_rule="""
from dataclasses import dataclass
from atlaseg.atlases.fusion.candidates import Fused
from atlaseg.atlases.fusion.registry import FusionRow

@dataclass(frozen=True)
class First:
    number: int = 0

    def fuse(self, candidates, *, probabilities=True):
        return Fused(candidates.labels[self.number])

ROW = FusionRow("first", "one atlas decides", "first_rule:First", needs_images=False)
""",
    )
    votes = Candidates(np.array([[[[0, 1]]], [[[1, 1]]]]), classes=2)
    assert fuse(votes, "first", **read_options("first", ["number=1"])).labels.tolist() == [[[1, 1]]]
    assert FUSION_RULES.names()[-1] == "first"
    with pytest.raises(OptionError, match="first fusion has no option 'count'; its options are number"):
        make_rule("first", count=1)
