"""Choose the training cases that become atlases of a network or a classical method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from atlaseg.atlases.propagation.selection import spread
from atlaseg.pipeline.errors import OptionError

__all__ = ["MOST_ATLASES", "chosen_atlases", "refuse_too_few"]

T = TypeVar("T")

#: Of many training cases, at most so many become atlases by themselves. More of them hardly help: P. Aljabar et
#: al., NeuroImage 46 (2009) 726-738, doi:10.1016/j.neuroimage.2009.02.018, fused 10 to 20 of 275.
MOST_ATLASES = 20


def refuse_too_few(number: int | None) -> None:
    """Refuse a number of atlases that cannot be registered to each other.

    Args:
        number: that was asked for, ``None`` where nobody did.

    Raises:
        OptionError: it is less than 2.
    """
    if number is not None and number < 2:
        raise OptionError(f"atlases: at least 2, found {number}; they are registered to each other")


def chosen_atlases(cases: Sequence[T], number: int | None) -> list[T]:
    """Training cases that become atlases, spread evenly over all, in their order.

    Args:
        cases: of training.
        number: at most so many; ``None``: all, but at most :data:`MOST_ATLASES` of many.
    """
    return spread(cases, MOST_ATLASES if number is None else number)
