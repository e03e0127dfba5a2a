"""Classical methods by name, with their options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any, Literal, get_type_hints

from atlaseg.pipeline import options
from atlaseg.pipeline.errors import OptionError, PlanError
from atlaseg.pipeline.schema import build_checked

__all__ = ["CLASSICAL_METHODS", "Kind", "kind_of", "make_method", "option_names", "read_options"]

#: Finds unnamed classes; learns from labels by itself; smooths named probabilities; grows from seeds.
Kind = Literal["unsupervised", "supervised", "smoothing", "seeded"]


@dataclass(frozen=True)
class _Entry:
    kind: Kind
    options: str


#: Method by name; its options as module:class, imported when asked for.
CLASSICAL_METHODS: dict[str, _Entry] = {
    "region-growing": _Entry(
        "seeded", "atlaseg.pipeline.classical.methods.region_growing:RegionGrowingOptions"
    ),
    "watershed": _Entry("unsupervised", "atlaseg.pipeline.classical.methods.watershed:WatershedOptions"),
    "split-merge": _Entry("unsupervised", "atlaseg.pipeline.classical.methods.split_merge:SplitMergeOptions"),
    "region-graph": _Entry(
        "unsupervised", "atlaseg.pipeline.classical.methods.region_graph:RegionGraphOptions"
    ),
    "kmeans": _Entry("unsupervised", "atlaseg.pipeline.classical.methods.kmeans:KMeansOptions"),
    "knn": _Entry("supervised", "atlaseg.pipeline.classical.methods.knn:KnnOptions"),
    "gmm": _Entry("unsupervised", "atlaseg.pipeline.classical.methods.gmm:GmmOptions"),
    "mrf": _Entry("smoothing", "atlaseg.pipeline.classical.methods.mrf:MrfOptions"),
    "markov-chain": _Entry(
        "unsupervised", "atlaseg.pipeline.classical.methods.markov_chain:MarkovChainOptions"
    ),
}


def kind_of(name: str) -> Kind:
    """Kind of the method with this name.

    Raises:
        OptionError: there is no such method.
    """
    if name not in CLASSICAL_METHODS:
        raise OptionError(f"no classical method {name!r}; choose one of {', '.join(CLASSICAL_METHODS)}")
    return CLASSICAL_METHODS[name].kind


def _options_class(name: str) -> Any:
    kind_of(name)
    module, kind = CLASSICAL_METHODS[name].options.split(":")
    return getattr(import_module(module), kind)


def option_names(name: str) -> tuple[str, ...]:
    """Names of the options that a method has."""
    return tuple(field.name for field in fields(_options_class(name)) if field.init)


def make_method(name: str, given: Mapping[str, Any] | None = None) -> Any:
    """The options of a method, which know how to run it; those that are not given keep their defaults.

    Raises:
        OptionError: there is no such method or option, or a value is not possible.
    """
    kind = _options_class(name)
    _refuse_unknown(name, given or {})
    try:
        return build_checked(kind, dict(given or {}), "")
    except PlanError as error:
        raise OptionError(f"{name}: option {error}") from error


def read_options(name: str, words: Sequence[str]) -> dict[str, Any]:
    """Options from words as people write them, ``option=value``; see :mod:`atlaseg.pipeline.options`.

    >>> read_options("watershed", ["depth=5e-2"])
    {'depth': 0.05}

    Raises:
        OptionError: there is no such method or option, a word is not of this form or given twice, or a value is of
            another type.
    """
    hints = get_type_hints(_options_class(name), include_extras=True)
    return options.read_options(words, {option: hints[option] for option in option_names(name)}, name)


def _refuse_unknown(name: str, given: Mapping[str, Any]) -> None:
    offered = option_names(name)
    if unknown := [option for option in given if option not in offered]:
        raise OptionError(
            f"{name} has no option {unknown[0]!r}; its options are {', '.join(offered) or 'none'}"
        )
