"""Options of ``atlaseg train``: data set, output folder, method, and the options of each family."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from atlaseg.pipeline.schema import Count, Seed, Whole
from atlaseg.workflows.methods.atlases.atlas_options import AtlasTraining
from atlaseg.workflows.methods.combined.combined_options import CombinedTraining, NetworkBesideAtlases
from atlaseg.workflows.methods.networks.network_options import NetworkTraining

if TYPE_CHECKING:
    from atlaseg.pipeline.case import Case, Dataset

__all__ = ["TrainingJob"]


@dataclass(frozen=True)
class TrainingJob:
    """The options of ``atlaseg train``; a family takes some of the groups, and what it does not take is refused."""

    positional: ClassVar[tuple[str, ...]] = ("dataset",)
    repeated: ClassVar[tuple[str, ...]] = ("option",)
    #: Options that do not change the result: a run goes on with others, and a benchmark decides them.
    free: ClassVar[tuple[str, ...]] = ("out",)

    dataset: Path
    """Folder of the data set: Medical Segmentation Decathlon, nnU-Net raw, or images/ and labels/."""
    out: Path
    """Folder of the run; created if it does not exist."""
    method: str | None = None
    """Method, one of those that `atlaseg methods` lists: a network, a fusion rule for atlases, a classical method, or
    atlas- before one of them to combine it with atlases. Default: the first network (that of --plan)."""
    fold: Whole = 0
    """Index of the validation fold, from 0."""
    folds: Count = 5
    """Number of cross-validation folds; with 1 (not for networks) no case is kept for validation."""
    split_seed: Seed = 0
    """Seed of the split; the same for all folds of an ensemble."""
    channels: tuple[str, ...] = ()
    """Names of the channels, such as CT or T1 T2, instead of those in the data set (not with --plan); for networks CT
    is clipped and scaled, others get mean 0 and standard deviation 1."""
    seed: Seed | None = None
    """Random seed of training and registration; by default 0, or that of --plan."""
    option: tuple[str, ...] = ()
    """Option of the method as name=value, see `atlaseg methods NAME`; may be repeated. Not for networks and
    fusion rules."""
    network: NetworkTraining = field(default_factory=NetworkTraining)
    atlas: AtlasTraining = field(default_factory=AtlasTraining)
    with_atlases: CombinedTraining = field(default_factory=CombinedTraining)
    network_with_atlases: NetworkBesideAtlases = field(default_factory=NetworkBesideAtlases)

    @classmethod
    def of(cls, dataset: Path, out: Path, **options: Any) -> Self:
        """A job from options by their plain names, as on the command line, whatever groups they stand in.

        Raises:
            TypeError: there is no such option.

        >>> TrainingJob.of(Path("DATA"), Path("RUN"), epochs=3, keep=5).network.epochs
        3
        """
        from atlaseg.workflows.methods.option_groups import fill

        return fill(cls, dataset, out, **options)

    def split(self, dataset: Dataset, *, of_all: str = "") -> tuple[list[Case], list[Case]]:
        """Labelled cases of the fold: to train on (or to be atlases), and to validate on.

        Args:
            dataset: with all labelled cases.
            of_all: what a method makes of all labelled cases, for messages; empty where it needs some for validation.

        Raises:
            OptionError: there is no such fold, or too few cases for the folds.
        """
        from atlaseg.pipeline.datasets.splits import split_folds
        from atlaseg.pipeline.errors import OptionError

        if not 0 <= self.fold < self.folds:
            raise OptionError(f"fold {self.fold}: with --folds {self.folds} choose 0 to {self.folds - 1}")
        if self.folds == 1 and of_all:
            return list(dataset.labelled), []
        if of_all and self.folds > len(dataset.labelled):
            raise OptionError(
                f"--folds {self.folds}: only {len(dataset.labelled)} labelled case(s); use fewer, or --folds 1 to "
                f"{of_all}"
            )
        cases = {case.name: case for case in dataset.labelled}
        training, validation = split_folds(list(cases), self.folds, self.split_seed)[self.fold]
        return [cases[n] for n in training], [cases[n] for n in validation]
