"""Options of region growing from seeds, without a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

__all__ = ["Seeds"]


@dataclass(frozen=True)
class Seeds:
    """Without RUN, for a method that grows regions from seeds."""

    repeated: ClassVar[tuple[str, ...]] = ("seed", "option")

    method: str | None = None
    """Method that grows regions from seeds, see `atlaseg methods`."""
    seed: tuple[str, ...] = ()
    """Seed, x,y,z in voxels from 0, or x,y,zmm in RAS+ millimetres; VALUE:x,y,z gives the region another
    label value than 1. May be repeated."""
    option: tuple[str, ...] = ()
    """An option of the method, name=value; may be repeated."""
