"""What growing from seeds, without a run, can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

__all__ = ["Seeds"]


@dataclass(frozen=True)
class Seeds:
    """Without RUN, for a method that grows regions from seeds."""

    repeated: ClassVar[tuple[str, ...]] = ("seed", "option")

    method: str | None = None
    """The method, one that `atlaseg methods` says to grow from seeds."""
    seed: tuple[str, ...] = ()
    """Where to begin, x,y,z in voxels from 0, or x,y,zmm in RAS+ millimetres; VALUE:x,y,z gives the region another
    label value than 1. May be repeated."""
    option: tuple[str, ...] = ()
    """An option of the method, name=value; may be repeated."""
