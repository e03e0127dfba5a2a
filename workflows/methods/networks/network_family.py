"""Family of networks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlaseg.workflows.methods.family import Family, Method
from atlaseg.workflows.methods.networks.network_options import NetworkLabelling, NetworkTraining
from atlaseg.workflows.methods.option_groups import names_in

if TYPE_CHECKING:
    from atlaseg.pipeline.case import Dataset
    from atlaseg.pipeline.network_segmenter import NetworkSegmenter
    from atlaseg.pipeline.registry import Registry
    from atlaseg.pipeline.segmenter import Segmenter
    from atlaseg.workflows.methods.labeller import Labeller
    from atlaseg.workflows.methods.labelling_job import LabellingJob
    from atlaseg.workflows.methods.training_job import TrainingJob

__all__ = ["NETWORKS", "NetworkFamily"]

#: Each of these says for how long a network trains.
_BUDGETS = ("minutes", "epochs", "plan")


class NetworkFamily(Family):
    """Networks, which are trained."""

    name = "network"
    plural = "networks"
    run = "is a network"
    ensembles = True
    training: tuple[str, ...] = names_in(NetworkTraining)
    labelling: tuple[str, ...] = names_in(NetworkLabelling)

    def table(self) -> Registry[Any]:
        """The networks."""
        from atlaseg.pipeline.networks.registry import NETWORKS as TABLE

        return TABLE

    def owns(self, folder: Path) -> bool:
        """Whether a folder has a plan."""
        return (folder / "configs" / "plan.yaml").is_file()

    def check_dataset(self, job: TrainingJob, dataset: Dataset) -> None:
        """Refuse a plan of other labels or channels."""
        from atlaseg.pipeline.datasets.dataset_identity import plan_difference
        from atlaseg.pipeline.errors import PlanError
        from atlaseg.pipeline.planning.plan_file import load_plan

        path = job.network.plan
        if path is None:
            return
        plan = load_plan(path)
        named = dataset.channels if dataset.channels_named_by is not None else plan.channels
        if problem := plan_difference(plan, dataset.labels, named):
            raise PlanError(f"{path}: not a plan of this data set: {problem}; make one by `atlaseg plan`")

    def with_minutes(self, options: Mapping[str, Any], minutes: float) -> dict[str, Any]:
        """Options with the budget, unless they say another one."""
        said = any(name in options for name in _BUDGETS)
        return dict(options) if said else {**options, "minutes": minutes}

    def train(self, job: TrainingJob, method: Method, request: dict[str, Any], *, begun: bool) -> None:
        """Train, or go on."""
        from atlaseg.workflows.methods.networks.network_training import train_network

        train_network(job, method.part.name, request, begun=begun)

    def labeller(self, job: LabellingJob, folders: tuple[Path, ...]) -> Labeller:
        """The network, or the ensemble."""
        from atlaseg.workflows.methods.segmenter_labelling import SegmenterLabeller

        segmenter = self._network(folders, job.network.device)
        return SegmenterLabeller(
            segmenter,
            len(segmenter.fitted_plan.channels),
            probabilities=job.probabilities,
            tta=True if job.network.tta else None,
        )

    def load(self, folders: tuple[Path, ...], *, device: str = "auto") -> Segmenter:
        """The network, or the ensemble."""
        return self._network(folders, device)

    def _network(self, folders: tuple[Path, ...], device: str) -> NetworkSegmenter:
        from atlaseg.pipeline.network_segmenter import NetworkSegmenter

        return NetworkSegmenter.load(*folders, device=device)


NETWORKS = NetworkFamily()
