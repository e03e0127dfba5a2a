"""Options of ``atlaseg segment``: runs and scans, output folder, and the options of each family."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from atlaseg.workflows.methods.atlases.atlas_options import AtlasLabelling
from atlaseg.workflows.methods.classical.seed_options import Seeds
from atlaseg.workflows.methods.combined.combined_options import CombinedLabelling
from atlaseg.workflows.methods.networks.network_options import NetworkLabelling

__all__ = ["LabellingJob"]


@dataclass(frozen=True)
class LabellingJob:
    """The options of ``atlaseg segment``; those that a method does not take are refused."""

    positional: ClassVar[tuple[str, ...]] = ("paths",)
    benchmark_decides: ClassVar[tuple[str, ...]] = ("masks",)

    paths: tuple[Path, ...]
    """Runs, then scans (.nii, .nii.gz) or folders of scans; channels of a scan are NAME_0000, NAME_0001, ..."""
    out: Path
    """Folder for the label maps."""
    validation: bool = False
    """Segment the validation cases of the run; then give the run alone."""
    dataset: Path | None = None
    """With --validation: the data set of the run; by default RUN/dataset, or the folder near RUN, or below the current
    one, that has the run's cases."""
    probabilities: bool = False
    """Also write NAME_probabilities.nii.gz, 4-D, one volume per label, background first."""
    masks: Path | None = None
    """Mask of the scan, or folder of masks with the names of the scans. Atlases are registered inside only, classical
    methods label inside only; networks take none."""
    network: NetworkLabelling = field(default_factory=NetworkLabelling)
    atlas: AtlasLabelling = field(default_factory=AtlasLabelling)
    with_atlases: CombinedLabelling = field(default_factory=CombinedLabelling)
    seeds: Seeds = field(default_factory=Seeds)

    @classmethod
    def of(cls, paths: tuple[Path, ...], out: Path, **options: Any) -> Self:
        """A job from options by their plain names, as on the command line, whatever groups they stand in.

        Raises:
            TypeError: there is no such option.

        >>> LabellingJob.of((Path("RUN"), Path("scan.nii.gz")), Path("LABELS"), tta=True).network.tta
        True
        """
        from atlaseg.workflows.methods.option_groups import fill

        return fill(cls, paths, out, **options)
