"""Options of training and segmentation with atlases, also in combination with a network or a classical method."""

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
    """Type of transform: rigid, similarity, affine, bspline, syn or deformable (the default)."""
    engine: str | None = None
    """Registration engine, as `atlaseg methods --kind engine` lists; by default the one that suits the transform."""
    linear: Linear | None = None
    """Linear initialisation of the deformable registration; by default the best of several (auto)."""
    keep: Count | None = None
    """Number of atlases, the most similar ones, to register in full to each scan; by default all."""
    correct: Literal["auto", "yes", "no"] = "auto"
    """Also learn a correction of systematic fusion errors, from each atlas segmented by the others; most accurate, for
    n (n - 1) registrations of n atlases, 20 (n - 1) of more than 20. By default (auto) the default fusion rule does so
    with 4 to 20 atlases."""
    borders: Literal["yes", "no"] = "yes"
    """Place borders between structures along a slice where the raters of all atlases did so."""
    work: Path | None = None
    """Folder for finished registrations of the atlases to each other, which is kept; by default in OUT, and removed in
    the end."""


@dataclass(frozen=True)
class AtlasLabelling:
    """For atlases, also with a network or a classical method."""

    benchmark_decides: ClassVar[tuple[str, ...]] = ("fusion", "workers", "threads", "work")

    fusion: str | None = None
    """Fusion rule, as `atlaseg methods --kind atlas` lists; by default that of the run."""
    transform: str | None = None
    """Type of transform: rigid, similarity, affine, bspline, syn or deformable (the default)."""
    engine: str | None = None
    """Registration engine, as `atlaseg methods --kind engine` lists; by default the one that suits the transform."""
    linear: Linear | None = None
    """Linear initialisation of the deformable registration; by default the best of several (auto)."""
    different_modality: bool = False
    """The atlases are of another modality or sequence than the scans (CT for MRI, T2 for T1)."""
    keep: Count | None = None
    """Number of atlases, the most similar ones, to register in full to each scan; by default all."""
    workers: Count | None = None
    """Number of parallel registrations, each in a separate process; by default one per core."""
    threads: Count | None = None
    """Number of threads of each registration; by default 1."""
    work: Path | None = None
    """Folder for finished registrations, which is kept, for example to fuse them in another way; by default
    OUT/.registrations, which is removed once every scan is labelled."""
