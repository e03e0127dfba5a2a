"""The fusion rules by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from importlib import import_module
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from atlases.fusion.candidates import Candidates, Fused, FusionRule
from pipeline.errors import OptionError

__all__ = ["FUSION_RULES", "fuse", "make_rule", "read_options"]

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
    rule = _rule(name)
    _types(name, rule, options)
    made: FusionRule = rule(**options)
    return made


def read_options(name: str, words: Sequence[str]) -> dict[str, Any]:
    """Options of a rule from words as people write them, ``option=value``; several numbers are joined by commas.

    >>> read_options("staple", ["region=all", "max_iterations=50"])
    {'region': 'all', 'max_iterations': 50}
    >>> read_options("joint", ["search_radius=2,2,0"])
    {'search_radius': (2, 2, 0)}

    Raises:
        OptionError: there is no such rule, a word is not of this form or said twice, the rule has no such option, or
            the value is of another type.
    """
    options: dict[str, Any] = {}
    for word in words:
        option, equals, text = word.partition("=")
        if not equals or not option or option in options:
            raise OptionError(f"{word!r} is not an option of a fusion rule: write each once, as name=value")
        parts = tuple(_value(part.strip()) for part in text.split(","))
        options[option] = parts if len(parts) > 1 else parts[0]
    types = _types(name, _rule(name), options)
    for option, value in options.items():
        if not _is_of(value, types[option]):
            raise OptionError(
                f"{name} fusion: option {option} must be {_named(types[option])}, found "
                f"{next(word for word in words if word.startswith(f'{option}='))}"
            )
    return options


def _rule(name: str) -> Any:
    if name not in FUSION_RULES:
        raise OptionError(f"no fusion rule {name!r}; choose one of {', '.join(FUSION_RULES)}")
    module, kind = FUSION_RULES[name].split(":")
    return getattr(import_module(module), kind)


def _types(name: str, rule: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Type of each option that the rule offers; those asked for are among them."""
    offered = [field.name for field in fields(rule) if field.init]
    unknown = [option for option in options if option not in offered]
    if unknown:
        having = f"its options are {', '.join(offered)}" if offered else "it has none"
        raise OptionError(f"{name} fusion has no option {unknown[0]!r}; {having}")
    hints = get_type_hints(rule)
    return {option: hints[option] for option in offered}


def _value(text: str) -> int | float | str | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None if text == "none" else text


def _is_of(value: object, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        return (
            isinstance(value, tuple)
            and len(value) == len(get_args(hint))
            and all(map(_is_of, value, get_args(hint)))
        )
    if get_args(hint):  # a union
        return any(_is_of(value, one) for one in get_args(hint))
    return isinstance(value, (int, float) if hint is float else hint)


def _named(hint: Any) -> str:
    """A type as a person would write its values."""
    if get_origin(hint) is Literal:
        return " or ".join(get_args(hint))
    if get_origin(hint) is tuple:
        return f"{len(get_args(hint))} numbers joined by commas"
    if get_args(hint):
        return ", or ".join(_named(one) for one in get_args(hint))
    return {int: "a whole number", float: "a number", NoneType: "none"}[hint]


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
