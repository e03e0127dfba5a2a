"""Classical methods by name, with their options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from atlaseg.pipeline import options
from atlaseg.pipeline.errors import OptionError, PlanError
from atlaseg.pipeline.options import option_hints, refuse_unknown
from atlaseg.pipeline.registry import MethodRow, Registry
from atlaseg.pipeline.schema import build_checked

__all__ = [
    "CLASSICAL_METHODS",
    "ClassicalRow",
    "Kind",
    "kind_of",
    "make_method",
    "option_names",
    "read_options",
]

#: Finds unnamed classes; learns from labels by itself; smooths named probabilities; grows from seeds.
Kind = Literal["unsupervised", "supervised", "smoothing", "seeded"]


@dataclass(frozen=True)
class ClassicalRow(MethodRow):
    """A classical method; ``target`` is the dataclass of its options, which knows how to run it.

    What the class must have follows from ``kind``; :mod:`atlaseg.pipeline.classical.learning` calls it.

    Args:
        kind: what the method does with a scan.
        takes_prior: it is told where structures lie; otherwise the place is among its own features.
    """

    kind: Kind
    takes_prior: bool = field(default=True, kw_only=True)


_METHODS = "atlaseg.pipeline.classical.methods"

CLASSICAL_METHODS: Registry[ClassicalRow] = Registry(
    "classical method",
    ClassicalRow,
    (
        ClassicalRow(
            "region-growing",
            "regions grown from seeds, given or learnt",
            f"{_METHODS}.region_growing:RegionGrowingOptions",
            "seeded",
            source="Adams and Bischof, IEEE TPAMI 16(6), 1994, https://doi.org/10.1109/34.295913",
        ),
        ClassicalRow(
            "watershed",
            "basins of the gradient, flooded from its minima",
            f"{_METHODS}.watershed:WatershedOptions",
            "unsupervised",
            source="Vincent and Soille, IEEE TPAMI 13(6), 1991, https://doi.org/10.1109/34.87344",
        ),
        ClassicalRow(
            "split-merge",
            "octree of homogeneous blocks, merged where similar",
            f"{_METHODS}.split_merge:SplitMergeOptions",
            "unsupervised",
            source="Horowitz and Pavlidis, Journal of the ACM 23(2), 1976, https://doi.org/10.1145/321941.321956",
        ),
        ClassicalRow(
            "region-graph",
            "supervoxels, merged where similar",
            f"{_METHODS}.region_graph:RegionGraphOptions",
            "unsupervised",
            source="Achanta et al., IEEE TPAMI 34(11), 2012, https://doi.org/10.1109/TPAMI.2012.120",
        ),
        ClassicalRow(
            "kmeans",
            "clusters of voxels with similar features",
            f"{_METHODS}.kmeans:KMeansOptions",
            "unsupervised",
            source="Lloyd, IEEE Transactions on Information Theory 28(2), 1982, https://doi.org/10.1109/TIT.1982.1056489",
        ),
        ClassicalRow(
            "knn",
            "classification of each voxel by the most similar labelled voxels",
            f"{_METHODS}.knn:KnnOptions",
            "supervised",
            takes_prior=False,
            source="Cover and Hart, IEEE Transactions on Information Theory 13(1), 1967, https://doi.org/10.1109/TIT.1967.1053964",
        ),
        ClassicalRow(
            "gmm",
            "a Gaussian for each tissue, by expectation-maximisation",
            f"{_METHODS}.gmm:GmmOptions",
            "unsupervised",
            source="Van Leemput et al., IEEE TMI 18(10), 1999, https://doi.org/10.1109/42.811268",
        ),
        ClassicalRow(
            "mrf",
            "gmm, smoothed by a Markov random field",
            f"{_METHODS}.mrf:MrfOptions",
            "smoothing",
            source="Geman and Geman, IEEE TPAMI 6(6), 1984, https://doi.org/10.1109/TPAMI.1984.4767596",
        ),
        ClassicalRow(
            "markov-chain",
            "a hidden Markov chain along a space-filling curve",
            f"{_METHODS}.markov_chain:MarkovChainOptions",
            "unsupervised",
            source="Baum et al., Annals of Mathematical Statistics 41(1), 1970, https://doi.org/10.1214/aoms/1177697196",
        ),
    ),
    group="atlaseg.classical_methods",
)


def kind_of(name: str) -> Kind:
    """Kind of the method with this name.

    Raises:
        OptionError: there is no such method.
    """
    return CLASSICAL_METHODS.find(name).kind


def option_names(name: str) -> tuple[str, ...]:
    """Names of the options that a method has."""
    return tuple(option_hints(CLASSICAL_METHODS.load(name)))


def make_method(name: str, given: Mapping[str, Any] | None = None) -> Any:
    """The options of a method, which know how to run it; those that are not given keep their defaults.

    Raises:
        OptionError: there is no such method or option, or a value is not possible.
    """
    kind = CLASSICAL_METHODS.load(name)
    refuse_unknown(given or {}, option_hints(kind), name)
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
    return options.read_options(words, option_hints(CLASSICAL_METHODS.load(name)), name)
