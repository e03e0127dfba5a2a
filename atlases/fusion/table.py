"""The fusion rules by name."""

from __future__ import annotations

from dataclasses import fields
from importlib import import_module
from typing import Any

from atlases.fusion.candidates import Candidates, Fused, FusionRule
from pipeline.errors import OptionError

__all__ = ["FUSION_RULES", "fuse", "make_rule"]

#: Rule by name, as module:class, imported when asked for.
FUSION_RULES: dict[str, str] = {
    "majority": "atlases.fusion.majority:Majority",
    "global-weighted": "atlases.fusion.global_weighted:GlobalWeighted",
    "local-weighted": "atlases.fusion.local_weighted:LocalWeighted",
    "joint": "atlases.fusion.joint:JointFusion",
    "staple": "atlases.fusion.staple:Staple",
    "generative": "atlases.fusion.generative:GenerativeFusion",
}


def make_rule(name: str, **options: Any) -> FusionRule:
    """Fusion rule by name; options that are not given keep their defaults.

    >>> make_rule("majority")
    Majority()

    Raises:
        OptionError: there is no such rule, it has no such option, or an option's value is not possible.
    """
    if name not in FUSION_RULES:
        raise OptionError(f"no fusion rule {name!r}; choose one of {', '.join(FUSION_RULES)}")
    module, kind = FUSION_RULES[name].split(":")
    rule = getattr(import_module(module), kind)
    offered = [field.name for field in fields(rule) if field.init]
    unknown = [option for option in options if option not in offered]
    if unknown:
        having = f"its options are {', '.join(offered)}" if offered else "it has none"
        raise OptionError(f"{name} fusion has no option {unknown[0]!r}; {having}")
    made: FusionRule = rule(**options)
    return made


def fuse(candidates: Candidates, rule: str = "joint", *, probabilities: bool = True, **options: Any) -> Fused:
    """One segmentation out of many, by the name of a rule.

    Args:
        candidates: label maps (and images, where the rule compares them) on the grid of one scan.
        rule: one of :data:`FUSION_RULES`.
        probabilities: also return them, ``(K, *spatial)``.
        options: of the rule.

    Raises:
        OptionError: there is no such rule, it has no such option, or it needs images that are not there.

    >>> import numpy as np
    >>> votes = np.array([[[[0, 1]]], [[[1, 1]]], [[[1, 0]]]])
    >>> fuse(Candidates(votes, classes=2), "majority").labels.tolist()
    [[[1, 1]]]
    """
    return make_rule(rule, **options).fuse(candidates, probabilities=probabilities)
