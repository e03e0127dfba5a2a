"""Combine the label probabilities of a network and of fused atlases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.errors import GeometryError, OptionError

__all__ = ["DEFAULT_WEIGHT", "KINDS", "Combination", "Kind", "checked_weight"]

Floats = npt.NDArray[np.floating[Any]]
Kind = Literal["none", "bayes", "ensemble"]

KINDS: tuple[Kind, ...] = ("none", "bayes", "ensemble")
#: Without validation cases: equal weights of network and atlases, or the atlases as a weak prior.
DEFAULT_WEIGHT: dict[Kind, float] = {"none": 0.0, "bayes": 0.3, "ensemble": 0.5}
#: No atlas is so certain that a network could not say otherwise.
_FLOOR = 1e-3
_SLAB = 1 << 20


@dataclass(frozen=True)
class Combination:
    """Rule that combines the probabilities of a network and of atlases.

    With ``w`` the weight, ``p`` the network's and ``q`` the atlases' probability of a label at a voxel:

    - ``bayes``: proportional to ``p * max(q, 0.001) ** w``, the atlases being a prior. A network has learnt the labels'
      frequencies too, so that their full weight (1) counts them twice.
    - ``ensemble``: ``(1 - w) * p + w * q``, the atlases being a further member.
    - ``none``: ``p``.

    A weight of 0 gives the network's probabilities back, to the last bit.

    Args:
        kind: one of these.
        weight: at least 0, and of an ensemble at most 1.

    Raises:
        OptionError: there is no such kind, or the weight is not possible.

    >>> network, atlases = np.array([[0.6], [0.4]]), np.array([[0.2], [0.8]])
    >>> Combination("ensemble", 0.5).apply(network, atlases).ravel().astype(float).round(3).tolist()
    [0.4, 0.6]
    >>> Combination("bayes", 1.0).apply(network, atlases).ravel().astype(float).round(3).tolist()
    [0.273, 0.727]
    """

    kind: Kind = "none"
    weight: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise OptionError(f"no combination {self.kind!r}; choose one of {', '.join(KINDS)}")
        checked_weight(self.weight, np.inf if self.kind == "bayes" else 1.0)

    @property
    def needs_atlases(self) -> bool:
        """Whether the atlases have any weight."""
        return self.kind != "none" and self.weight > 0

    def apply(self, network: Floats, atlases: Floats) -> Floats:
        """Probabilities ``(K, *spatial)`` float32 that sum to one over ``K``; the network's own where it alone decides.

        Args:
            network: its probabilities ``(K, *spatial)``.
            atlases: theirs, of the same shape.

        Raises:
            GeometryError: the shapes differ.
        """
        if network.shape != atlases.shape:
            raise GeometryError(f"network {network.shape} and atlases {atlases.shape} differ in shape")
        if not self.needs_atlases:
            return network
        result = np.empty(network.shape, dtype=np.float32)
        K = len(network)
        flat, of_network, of_atlases = (a.reshape(K, -1) for a in (result, network, atlases))
        for start in range(0, flat.shape[1], _SLAB):
            part = np.s_[:, start : start + _SLAB]
            flat[part] = self._joined(of_network[part].astype(np.float32), of_atlases[part])
        return result

    def _joined(self, p: npt.NDArray[np.float32], q: Floats) -> npt.NDArray[np.float32]:
        if self.kind == "ensemble":
            return np.asarray((1 - self.weight) * p + self.weight * q, dtype=np.float32)
        joined = p * np.maximum(q, _FLOOR).astype(np.float32) ** np.float32(self.weight)
        return np.asarray(joined / joined.sum(axis=0), dtype=np.float32)


def checked_weight(weight: float, largest: float = 1.0) -> float:
    """The weight of the atlases.

    Args:
        weight: to be checked.
        largest: that is possible; infinity for no bound.

    Raises:
        OptionError: it is less than 0, more than the largest, or not a finite number.
    """
    if not 0 <= weight <= largest or weight == np.inf:
        raise OptionError(
            f"the weight of the atlases must be at least 0{'' if largest > 1 else ' and at most 1'}, found {weight}"
        )
    return weight
