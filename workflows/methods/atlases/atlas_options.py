"""What training and labelling by atlases can be asked for, also beside a network or a classical method."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from atlaseg.pipeline.schema import Count

__all__ = ["AtlasLabelling", "AtlasTraining"]

Linear = Literal["auto", "rigid", "affine"]


@dataclass(frozen=True)
class AtlasTraining:
    """For atlases, also with a network or a classical method."""

    free: ClassVar[tuple[str, ...]] = ("work",)

    transform: str | None = None
    """rigid, similarity, affine, bspline, syn or deformable (the default)."""
    engine: str | None = None
    """What registers, as `atlaseg methods --kind engine` lists; by default the one that suits the transform."""
    linear: Linear | None = None
    """Where the bending begins; by default the better of several is found (auto)."""
    keep: Count | None = None
    """How many atlases to register in full to each scan, the most similar to it; by default all."""
    correct: Literal["auto", "yes", "no"] = "auto"
    """Also learn what fusion gets wrong every time, from each atlas labelled by the others; the best labels, for
    n (n - 1) registrations of n atlases, 20 (n - 1) of more than 20. By default (auto) the default fusion rule does so
    with 4 to 20 atlases."""
    borders: Literal["yes", "no"] = "yes"
    """Where the raters of all atlases changed from one structure to the next along a slice, do so too."""
    work: Path | None = None
    """Folder for finished registrations of the atlases to each other, which is kept; by default in OUT, and removed in
    the end."""


@dataclass(frozen=True)
class AtlasLabelling:
    """For atlases, also with a network or a classical method."""

    benchmark_decides: ClassVar[tuple[str, ...]] = ("fusion", "workers", "threads", "work")

    fusion: str | None = None
    """How labels are fused, as `atlaseg methods --kind atlas` lists; by default as the run has it."""
    transform: str | None = None
    """rigid, similarity, affine, bspline, syn or deformable (the default)."""
    engine: str | None = None
    """What registers, as `atlaseg methods --kind engine` lists; by default the one that suits the transform."""
    linear: Linear | None = None
    """Where the bending begins; by default the better of several is found (auto)."""
    different_modality: bool = False
    """The atlases come from another kind of scan (CT for MRI, T2 for T1)."""
    keep: Count | None = None
    """How many atlases to register in full to each scan, the most similar to it; by default all."""
    workers: Count | None = None
    """Registrations at the same time, each in a process of its own; by default one for each core."""
    threads: Count | None = None
    """Threads of each registration; by default 1."""
    work: Path | None = None
    """Folder for finished registrations, which is kept, for example to fuse them in another way; by default
    OUT/.registrations, which is removed once every scan is labelled."""
