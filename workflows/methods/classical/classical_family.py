"""Family of classical methods."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlaseg.workflows.methods.family import Family, Method

if TYPE_CHECKING:
    from atlaseg.pipeline.registry import Registry
    from atlaseg.pipeline.segmenter import Segmenter
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
        from atlaseg.pipeline.classical.registry import CLASSICAL_METHODS

        return CLASSICAL_METHODS

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
        from atlaseg.pipeline.classical.classical_segmenter import ClassicalSegmenter
        from atlaseg.workflows.inputs.scan_masks import refuse_without_masks
        from atlaseg.workflows.methods.segmenter_labelling import SegmenterLabeller

        segmenter = ClassicalSegmenter.load(folders[0])
        refuse_without_masks(folders[0], job.masks, needed=segmenter.needs_masks)
        return SegmenterLabeller(
            segmenter, len(segmenter.channels), masks=job.masks, probabilities=job.probabilities
        )

    def load(self, folders: tuple[Path, ...], *, device: str = "auto") -> Segmenter:  # noqa: ARG002
        """The method that a run has learnt."""
        from atlaseg.pipeline.classical.classical_segmenter import ClassicalSegmenter

        return ClassicalSegmenter.load(folders[0])

    def options(self, method: Method) -> Any:
        """What ``--option`` may say."""
        return method.part.load()


CLASSICAL = ClassicalFamily()
