"""Families of networks and classical methods that are combined with atlases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlaseg.workflows.methods.atlases.atlas_family import ATLASES
from atlaseg.workflows.methods.classical.classical_family import CLASSICAL, ClassicalFamily
from atlaseg.workflows.methods.combined.combined_options import (
    CombinedLabelling,
    CombinedTraining,
    NetworkBesideAtlases,
)
from atlaseg.workflows.methods.family import Method
from atlaseg.workflows.methods.networks.network_family import NETWORKS, NetworkFamily
from atlaseg.workflows.methods.option_groups import names_in

if TYPE_CHECKING:
    from atlaseg.atlases.combined.combination import Combination
    from atlaseg.pipeline.segmenter import Segmenter
    from atlaseg.workflows.methods.labeller import Labeller
    from atlaseg.workflows.methods.labelling_job import LabellingJob
    from atlaseg.workflows.methods.training_job import TrainingJob

__all__ = ["CLASSICAL_WITH_ATLASES", "NETWORKS_WITH_ATLASES"]

#: What registers atlases to a scan can be told, where a run says how.
_WORK = ("masks", "workers", "threads", "work")


class NetworksWithAtlases(NetworkFamily):
    """A network combined with atlases: for few labels."""

    name = "joined"
    plural = "networks with atlases"
    run = "is a network with atlases"
    ensembles = False
    prefix = "atlas-"
    training = (
        *NETWORKS.training,
        *ATLASES.training,
        *names_in(CombinedTraining),
        *names_in(NetworkBesideAtlases),
    )
    labelling = (*NETWORKS.labelling, *_WORK, *names_in(CombinedLabelling))

    def summary(self, row: Any) -> str:
        """One line on the network and the atlases."""
        return f"atlases and {row.name} combined: for few labels"

    def owns(self, folder: Path) -> bool:
        """Whether a folder has atlases in it."""
        from atlaseg.atlases.combined.combined_bundle import ATLASES as FOLDER
        from atlaseg.atlases.multi_atlas_bundle import is_atlas_bundle

        return is_atlas_bundle(folder / FOLDER)

    def check(self, job: TrainingJob, method: Method) -> None:  # noqa: ARG002
        """Refuse what no engine has, and what cannot be combined."""
        from atlaseg.workflows.methods.combined.network_atlas_training import joined_options

        joined_options(job).propagation.steps()

    def further_scans(self, job: TrainingJob) -> Path | None:
        """Scans without labels, which the atlases label for the network."""
        return job.network_with_atlases.unlabelled

    def train(self, job: TrainingJob, method: Method, request: dict[str, Any], *, begun: bool) -> None:  # noqa: ARG002
        """Register, train, and learn the combination of network and atlases."""
        from atlaseg.workflows.methods.combined.network_atlas_training import train_network_with_atlases

        train_network_with_atlases(job, method, request)

    def labeller(self, job: LabellingJob, folders: tuple[Path, ...]) -> Labeller:
        """The network and its atlases."""
        from atlaseg.atlases.combined.atlas_network_segmenter import AtlasNetworkSegmenter
        from atlaseg.workflows.methods.combined.combined_labelling import CombinedLabeller

        tta = True if job.network.tta else None
        combined = AtlasNetworkSegmenter.load(folders[0], device=job.network.device, tta=tta)
        combined.combination = _chosen(combined.combination, job.with_atlases)
        return CombinedLabeller(folders[0], combined, job)

    def load(self, folders: tuple[Path, ...], *, device: str = "auto") -> Segmenter:
        """The network and its atlases."""
        from atlaseg.atlases.combined.atlas_network_segmenter import AtlasNetworkSegmenter

        return AtlasNetworkSegmenter.load(folders[0], device=device)


class ClassicalWithAtlases(ClassicalFamily):
    """A classical method with a location prior from atlases."""

    name = "atlas-classical"
    plural = "classical methods with atlases"
    run = "holds a classical method with atlases"
    prefix = "atlas-"
    training = (*ATLASES.training, *names_in(CombinedTraining), *CLASSICAL.training)
    labelling = (*_WORK, "weight")

    def takes(self, row: Any) -> bool:
        """All but those that have no prior of where structures lie, but places among their features."""
        return bool(row.takes_prior)

    def summary(self, row: Any) -> str:
        """One line on the method and the atlases."""
        return f"{row.name}, with a location prior from registered atlases"

    def owns(self, folder: Path) -> bool:
        """Whether a folder has a classical method, atlases and their weight."""
        from atlaseg.atlases.combined.combined_bundle import is_atlas_classical_bundle

        return is_atlas_classical_bundle(folder)

    def check(self, job: TrainingJob, method: Method) -> None:
        """Refuse options that the method or the engines lack."""
        super().check(job, method)
        ATLASES.check(job, method)

    def train(self, job: TrainingJob, method: Method, request: dict[str, Any], *, begun: bool) -> None:  # noqa: ARG002
        """Learn from the labelled cases, and how much the atlases weigh."""
        from atlaseg.workflows.methods.combined.classical_atlas_training import train_classical_with_atlases

        train_classical_with_atlases(job, method, request)

    def labeller(self, job: LabellingJob, folders: tuple[Path, ...]) -> Labeller:
        """The method and its atlases."""
        from atlaseg.atlases.combined.atlas_classical_segmenter import AtlasClassicalSegmenter
        from atlaseg.workflows.methods.combined.combined_labelling import CombinedLabeller

        combined = AtlasClassicalSegmenter.load(folders[0])
        if job.with_atlases.weight is not None:
            combined.weight = job.with_atlases.weight
        return CombinedLabeller(folders[0], combined, job)

    def load(self, folders: tuple[Path, ...], *, device: str = "auto") -> Segmenter:  # noqa: ARG002
        """The method and its atlases."""
        from atlaseg.atlases.combined.atlas_classical_segmenter import AtlasClassicalSegmenter

        return AtlasClassicalSegmenter.load(folders[0])


def _chosen(of_run: Combination, options: CombinedLabelling) -> Combination:
    """The combination that was asked for, filled up by the run's own."""
    from atlaseg.atlases.combined.combination import DEFAULT_WEIGHT, Combination

    kind, weight = options.combine or of_run.kind, options.weight
    if weight is None:
        weight = of_run.weight if kind == of_run.kind else DEFAULT_WEIGHT[kind]
    return Combination(kind, weight)


NETWORKS_WITH_ATLASES = NetworksWithAtlases()
CLASSICAL_WITH_ATLASES = ClassicalWithAtlases()
