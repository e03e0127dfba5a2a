"""Classical methods, as the commands know them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlaseg.workflows.methods.family import Family, Method

if TYPE_CHECKING:
    from atlaseg.pipeline.registry import Registry
    from atlaseg.workflows.methods.labeller import Labeller
    from atlaseg.workflows.methods.labelling_job import LabellingJob
    from atlaseg.workflows.methods.training_job import TrainingJob

__all__ = ["CLASSICAL", "ClassicalFamily"]


class ClassicalFamily(Family):
    """Clustering, regions, random fields; they learn in minutes what structures look like and where they lie."""

    name = "classical"
    plural = "classical methods"
    run = "holds a classical method"
    training: tuple[str, ...] = ("option",)
    labelling: tuple[str, ...] = ("masks",)

    def table(self) -> Registry[Any]:
        """The classical methods."""
        from atlaseg.workflows.methods.interim_tables import classical_table

        return classical_table()

    def owns(self, folder: Path) -> bool:
        """Whether a folder has the settings of a classical method."""
        from atlaseg.pipeline.classical.classical_bundle import is_classical_bundle

        return is_classical_bundle(folder)

    def check(self, job: TrainingJob, method: Method) -> None:
        """Refuse options that the method lacks."""
        from atlaseg.pipeline.classical.registry import make_method
        from atlaseg.workflows.methods.classical.classical_training import options_of

        make_method(method.part.name, options_of(method.part.name, job))

    def train(self, job: TrainingJob, method: Method, request: dict[str, Any], *, begun: bool) -> None:  # noqa: ARG002
        """Learn from the labelled cases."""
        from atlaseg.workflows.methods.classical.classical_training import train_classical

        train_classical(job, method, request)

    def labeller(self, job: LabellingJob, folders: tuple[Path, ...]) -> Labeller:
        """The method that a run has learnt."""
        from atlaseg.workflows.methods.classical.classical_labelling import ClassicalLabeller

        return ClassicalLabeller(folders[0], masks=job.masks, probabilities=job.probabilities)

    def options(self, method: Method) -> Any:
        """What ``--option`` may say."""
        from atlaseg.pipeline.classical.registry import make_method

        return type(make_method(method.part.name))


CLASSICAL = ClassicalFamily()
