"""The fusion rules by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from importlib import import_module
from typing import Any, get_type_hints

from atlaseg.atlases.fusion.candidates import Candidates, Fused, FusionRule
from atlaseg.pipeline import options
from atlaseg.pipeline.errors import OptionError

__all__ = ["FUSION_RULES", "fuse", "make_rule", "read_options"]

#: Rule by name, as module:class, imported when asked for.
FUSION_RULES: dict[str, str] = {
    "majority": "atlaseg.atlases.fusion.majority:Majority",
    "global-weighted": "atlaseg.atlases.fusion.global_weighted:GlobalWeighted",
    "local-weighted": "atlaseg.atlases.fusion.local_weighted:LocalWeighted",
    "joint": "atlaseg.atlases.fusion.joint:JointFusion",
    "staple": "atlaseg.atlases.fusion.staple:Staple",
    "generative": "atlaseg.atlases.fusion.generative:GenerativeFusion",
}


def make_rule(name: str, **given: Any) -> FusionRule:
    """Fusion rule by name; options that are not given keep their defaults.

    >>> make_rule("majority")
    Majority()

    Raises:
        OptionError: there is no such rule, it has no such option, or an option's value is not possible.
    """
    rule = _rule(name)
    _types(name, rule, given)
    made: FusionRule = rule(**given)
    return made


def read_options(name: str, words: Sequence[str]) -> dict[str, Any]:
    """Options of a rule from words as people write them, ``option=value``; see :mod:`atlaseg.pipeline.options`.

    >>> read_options("staple", ["region=all", "max_iterations=50"])
    {'region': 'all', 'max_iterations': 50}
    >>> read_options("joint", ["search_radius=2,2,0"])
    {'search_radius': (2, 2, 0)}

    Raises:
        OptionError: there is no such rule, a word is not of this form or said twice, the rule has no such option, or
            the value is of another type.
    """
    rule = _rule(name)
    return options.read_options(words, _types(name, rule, {}), f"{name} fusion")


def _rule(name: str) -> Any:
    if name not in FUSION_RULES:
        raise OptionError(f"no fusion rule {name!r}; choose one of {', '.join(FUSION_RULES)}")
    module, kind = FUSION_RULES[name].split(":")
    return getattr(import_module(module), kind)


def _types(name: str, rule: Any, given: dict[str, Any]) -> dict[str, Any]:
    """Type of each option that the rule offers; those asked for are among them."""
    offered = [field.name for field in fields(rule) if field.init]
    unknown = [option for option in given if option not in offered]
    if unknown:
        having = f"its options are {', '.join(offered)}" if offered else "it has none"
        raise OptionError(f"{name} fusion has no option {unknown[0]!r}; {having}")
    hints = get_type_hints(rule, include_extras=True)
    return {option: hints[option] for option in offered}


def fuse(candidates: Candidates, rule: str = "joint", *, probabilities: bool = True, **given: Any) -> Fused:
    """One segmentation out of many, by the name of a rule.

    Args:
        candidates: label maps (and images, where the rule compares them) on the grid of one scan.
        rule: one of :data:`FUSION_RULES`.
        probabilities: also return them, ``(K, *spatial)``.
        given: options of the rule.

    Raises:
        OptionError: there is no such rule, it has no such option, or it needs images that are not there.

    >>> import numpy as np
    >>> votes = np.array([[[[0, 1]]], [[[1, 1]]], [[[1, 0]]]])
    >>> fuse(Candidates(votes, classes=2), "majority").labels.tolist()
    [[[1, 1]]]
    """
    return make_rule(rule, **given).fuse(candidates, probabilities=probabilities)
