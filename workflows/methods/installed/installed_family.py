"""Family of the methods of installed packages."""

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

__all__ = ["INSTALLED", "InstalledFamily"]


class InstalledFamily(Family):
    """Classes that satisfy :class:`atlaseg.pipeline.segmenter.Segmenter`; ``--option`` sets their keywords."""

    name = "installed"
    plural = "methods of installed packages"
    run = "holds a method of an installed package"
    training = ("option",)
    labelling = ("masks",)

    def table(self) -> Registry[Any]:
        """What packages add by the entry-point group ``atlaseg.methods``."""
        from atlaseg.pipeline.whole_methods import WHOLE_METHODS

        return WHOLE_METHODS

    def owns(self, folder: Path) -> bool:
        """Whether a folder says which method it is of."""
        from atlaseg.workflows.methods.installed.installed_run import is_installed_run

        return is_installed_run(folder)

    def check(self, job: TrainingJob, method: Method) -> None:
        """Refuse options that the class does not take."""
        from atlaseg.workflows.methods.installed.installed_run import make_segmenter

        make_segmenter(method, job.option, job.seed)

    def train(self, job: TrainingJob, method: Method, request: dict[str, Any], *, begun: bool) -> None:  # noqa: ARG002
        """Let the class learn from the labelled cases, and save what it has learnt."""
        from atlaseg.workflows.methods.installed.installed_run import train_installed

        train_installed(job, method, request)

    def labeller(self, job: LabellingJob, folders: tuple[Path, ...]) -> Labeller:
        """The class as it was saved."""
        from atlaseg.workflows.methods.installed.installed_run import labeller_of_run

        return labeller_of_run(folders[0], masks=job.masks, probabilities=job.probabilities)

    def load(self, folders: tuple[Path, ...], *, device: str = "auto") -> Segmenter:  # noqa: ARG002
        """The class as it was saved."""
        from atlaseg.workflows.methods.installed.installed_run import open_run

        return open_run(folders[0])[0]

    def options(self, method: Method) -> Any:
        """The class, whose keywords are its options."""
        return method.part.load()


INSTALLED = InstalledFamily()
