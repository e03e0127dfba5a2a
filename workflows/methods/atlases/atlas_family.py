"""Family of atlas methods: their runs, and folders of labelled scans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlaseg.workflows.methods.atlases.atlas_options import AtlasLabelling, AtlasTraining
from atlaseg.workflows.methods.family import Family, Method, Source
from atlaseg.workflows.methods.option_groups import names_in

if TYPE_CHECKING:
    from atlaseg.pipeline.registry import Registry
    from atlaseg.pipeline.segmenter import Segmenter
    from atlaseg.workflows.methods.labeller import Labeller
    from atlaseg.workflows.methods.labelling_job import LabellingJob
    from atlaseg.workflows.methods.training_job import TrainingJob

__all__ = ["ATLASES", "LABELLED_SCANS", "AtlasFamily", "LabelledScans"]


class AtlasFamily(Family):
    """Registration and label fusion; a method is called as its fusion rule. Nothing is trained."""

    name = "atlas"
    plural = "atlases"
    run = "holds atlases"
    training = names_in(AtlasTraining)
    labelling = ("masks", *names_in(AtlasLabelling))

    def table(self) -> Registry[Any]:
        """The fusion rules."""
        from atlaseg.atlases.fusion.registry import FUSION_RULES

        return FUSION_RULES

    def owns(self, folder: Path) -> bool:
        """Whether a folder has atlases and their settings."""
        from atlaseg.atlases.multi_atlas_bundle import is_atlas_bundle

        return is_atlas_bundle(folder)

    def check(self, job: TrainingJob, method: Method) -> None:  # noqa: ARG002
        """Refuse what no engine has."""
        from atlaseg.workflows.methods.atlases.atlas_training import propagation_of

        propagation_of(job).steps()

    def train(self, job: TrainingJob, method: Method, request: dict[str, Any], *, begun: bool) -> None:  # noqa: ARG002
        """Copy the atlases; with few of them, or if asked for, learn a correction."""
        from atlaseg.workflows.methods.atlases.atlas_training import train_atlases

        train_atlases(job, method, request)

    def labeller(self, job: LabellingJob, folders: tuple[Path, ...]) -> Labeller:
        """The atlases of a run, or of a folder of labelled scans."""
        from atlaseg.workflows.inputs.scan_masks import refuse_missing_masks
        from atlaseg.workflows.methods.atlases.atlas_labelling import AtlasLabeller, open_atlases

        refuse_missing_masks(job.masks)  # before all atlases are read
        return AtlasLabeller(open_atlases(folders[0], job), job)

    def load(self, folders: tuple[Path, ...], *, device: str = "auto") -> Segmenter:  # noqa: ARG002
        """The atlases of a run."""
        from atlaseg.atlases.multi_atlas_segmenter import MultiAtlasSegmenter

        return MultiAtlasSegmenter.load(folders[0])

    def options(self, method: Method) -> Any:
        """The fusion rule."""
        return method.part.load()


class LabelledScans(Source):
    """A folder of labelled scans, which become atlases as they are."""

    plural = AtlasFamily.plural
    labelling = AtlasFamily.labelling

    def labeller(self, job: LabellingJob, folders: tuple[Path, ...]) -> Labeller:
        """The labelled scans as atlases."""
        return ATLASES.labeller(job, folders)

    def load(self, folders: tuple[Path, ...], *, device: str = "auto") -> Segmenter:  # noqa: ARG002
        """The labelled scans as atlases, with masks and landmarks if they have any."""
        from atlaseg.atlases.atlas_set import AtlasSet
        from atlaseg.atlases.multi_atlas_segmenter import MultiAtlasSegmenter

        return MultiAtlasSegmenter().fit_atlases(AtlasSet.read(folders[0]))

    def keeps_no_cases(self, folders: tuple[Path, ...]) -> str:
        """All are atlases."""
        return f"{folders[0]} is a folder of labelled scans, which keeps none back; name scans"


ATLASES = AtlasFamily()
LABELLED_SCANS = LabelledScans()
