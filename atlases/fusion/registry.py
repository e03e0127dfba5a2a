"""The fusion rules by name.

To add a rule: write a frozen dataclass of its options in a file of this folder
(:class:`atlaseg.atlases.fusion.candidates.FusionRule`), and add its row to :data:`FUSION_RULES`. The commands offer it
then, and ``tests/contracts/test_fusion.py`` tests it. An installed package adds one by an entry point of the group
``atlaseg.fusion_rules`` that names a :class:`FusionRow`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from atlaseg.atlases.fusion.candidates import Candidates, Fused, FusionRule
from atlaseg.pipeline import options
from atlaseg.pipeline.options import option_hints, refuse_unknown
from atlaseg.pipeline.registry import MethodRow, Registry

__all__ = [
    "DEFAULT_FUSION",
    "DEFAULT_WITHOUT_IMAGES",
    "FUSION_RULES",
    "FusionRow",
    "fuse",
    "make_rule",
    "option_names",
    "read_options",
]

#: The most Dice of all rules on hippocampi and mouse brains, by every registration (docs/reference/benchmarks.md).
DEFAULT_FUSION = "joint"
#: Where there are label maps alone: it needs no images and no iterations, and staple has had no more Dice.
DEFAULT_WITHOUT_IMAGES = "majority"


@dataclass(frozen=True)
class FusionRow(MethodRow):
    """A fusion rule; ``target`` is the dataclass of its options, which fuses.

    Commands that know the shape of the voxels pass it to a rule that has an option ``spacing``.

    Args:
        needs_images: the rule compares the scan with the warped images of the atlases.
        gains_by_correction: a correction that is learnt from the atlases improves it so much that it is learnt
            by default (:mod:`atlaseg.atlases.correction.learn_correction`).
    """

    needs_images: bool = field(default=True, kw_only=True)
    gains_by_correction: bool = field(default=False, kw_only=True)


_HERE = "atlaseg.atlases.fusion"

FUSION_RULES: Registry[FusionRow] = Registry(
    "fusion rule",
    FusionRow,
    (
        FusionRow(
            "joint",
            "votes weighted by patch likeness and shared errors; the best",
            f"{_HERE}.joint:JointFusion",
            aliases=("joint-fusion",),
            gains_by_correction=True,
            source="Wang et al., IEEE TPAMI 35(3), 2013, https://doi.org/10.1109/TPAMI.2012.143",
        ),
        FusionRow(
            "majority",
            "each atlas has one vote",
            f"{_HERE}.majority:Majority",
            needs_images=False,
            source="Heckemann et al., NeuroImage 33(1), 2006, https://doi.org/10.1016/j.neuroimage.2006.05.061",
        ),
        FusionRow(
            "global-weighted",
            "votes weighted by how well the whole image fits",
            f"{_HERE}.global_weighted:GlobalWeighted",
            source="Artaechevarria et al., IEEE TMI 28(8), 2009, https://doi.org/10.1109/TMI.2009.2014372",
        ),
        FusionRow(
            "local-weighted",
            "votes weighted by how well the surroundings fit",
            f"{_HERE}.local_weighted:LocalWeighted",
            source="Isgum et al., IEEE TMI 28(7), 2009, https://doi.org/10.1109/TMI.2008.2011480",
        ),
        FusionRow(
            "staple",
            "votes weighted by an estimate of each atlas' performance",
            f"{_HERE}.staple:Staple",
            needs_images=False,
            source="Warfield et al., IEEE TMI 23(7), 2004, https://doi.org/10.1109/TMI.2004.828354",
        ),
        FusionRow(
            "generative",
            "a generative model of labels and intensities",
            f"{_HERE}.generative:GenerativeFusion",
            source="Sabuncu et al., IEEE TMI 29(10), 2010, https://doi.org/10.1109/TMI.2010.2050897",
        ),
    ),
    group="atlaseg.fusion_rules",
)


def make_rule(name: str, **given: Any) -> FusionRule:
    """Fusion rule by name; options that are not given keep their defaults.

    >>> make_rule("majority")
    Majority()

    Raises:
        OptionError: there is no such rule, it has no such option, or an option's value is not possible.
        PackageError: the package that adds the rule is broken.
    """
    kind = FUSION_RULES.load(name)
    refuse_unknown(given, option_hints(kind), f"{name} fusion")
    made: FusionRule = kind(**given)
    return made


def option_names(name: str) -> tuple[str, ...]:
    """Names of the options that a rule has.

    >>> option_names("local-weighted")
    ('metric', 'sigma', 'power')

    Raises:
        OptionError, PackageError: as :func:`make_rule`.
    """
    return tuple(option_hints(FUSION_RULES.load(name)))


def read_options(name: str, words: Sequence[str]) -> dict[str, Any]:
    """Options of a rule from words as people write them, ``option=value``; see :mod:`atlaseg.pipeline.options`.

    >>> read_options("staple", ["region=all", "max_iterations=50"])
    {'region': 'all', 'max_iterations': 50}
    >>> read_options("joint", ["search_radius=2,2,0"])
    {'search_radius': (2, 2, 0)}

    Raises:
        OptionError: there is no such rule, a word is not of this form or given twice, the rule has no such option, or
            the value is of another type.
        PackageError: as :func:`make_rule`.
    """
    return options.read_options(words, option_hints(FUSION_RULES.load(name)), f"{name} fusion")


def fuse(
    candidates: Candidates, rule: str = DEFAULT_FUSION, *, probabilities: bool = True, **given: Any
) -> Fused:
    """One segmentation out of many, by the name of a rule.

    Args:
        candidates: label maps (and images, where the rule compares them) on the grid of one scan.
        rule: one of :data:`FUSION_RULES`.
        probabilities: also return them, ``(K, *spatial)``.
        given: options of the rule.

    Raises:
        OptionError: there is no such rule, it has no such option, or it needs images that are not there.
        PackageError: as :func:`make_rule`.

    >>> import numpy as np
    >>> votes = np.array([[[[0, 1]]], [[[1, 1]]], [[[1, 0]]]])
    >>> fuse(Candidates(votes, classes=2), "majority").labels.tolist()
    [[[1, 1]]]
    """
    return make_rule(rule, **given).fuse(candidates, probabilities=probabilities)
