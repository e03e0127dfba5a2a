"""Families of methods, through which ``train``, ``segment`` and ``benchmark`` use them.

A family knows its methods by the tables of the lower floors (networks, fusion rules, classical methods, ...), which say
their names, summaries and sources. Commands ask the family of a method what it takes and hand the work over to it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atlaseg.pipeline.case import Dataset
    from atlaseg.pipeline.registry import MethodRow, Registry
    from atlaseg.pipeline.segmenter import Segmenter
    from atlaseg.workflows.methods.labeller import Labeller
    from atlaseg.workflows.methods.labelling_job import LabellingJob
    from atlaseg.workflows.methods.training_job import TrainingJob

__all__ = ["Family", "Method", "Source"]


@dataclass(frozen=True)
class Method:
    """One method of segmentation, as ``--method`` takes it.

    Args:
        name: of the method.
        family: that it belongs to.
        part: the row of the family's table that it is made of: a network, a fusion rule or a classical method.
        summary: one line for a person who chooses.
        aliases: earlier names, which are still taken.
    """

    name: str
    family: Family
    part: MethodRow
    summary: str
    aliases: tuple[str, ...] = ()


class Source(ABC):
    """What ``atlaseg segment`` can label scans with: runs of a family, or something without a run."""

    #: What several are called, in messages.
    plural: str
    #: Options of ``atlaseg segment`` that it takes, of those that not all take.
    labelling: tuple[str, ...]

    @abstractmethod
    def labeller(self, job: LabellingJob, folders: tuple[Path, ...]) -> Labeller:
        """What labels scans.

        Args:
            job: with the options; others than :attr:`labelling` have their defaults.
            folders: of the runs; one, unless several make an ensemble.

        Raises:
            AtlasegError: a folder cannot be opened, or an option is not possible.
        """

    def load(self, folders: tuple[Path, ...], *, device: str = "auto") -> Segmenter:  # noqa: ARG002
        """The segmenter that folders hold.

        Raises:
            OptionError: it labels without having learnt anything, so that there is nothing to open.
        """
        from atlaseg.pipeline.errors import OptionError

        raise OptionError(f"{self.plural}: no folder can be opened for them; name a run of atlaseg train")

    def keeps_no_cases(self, folders: tuple[Path, ...]) -> str:  # noqa: ARG002
        """Why there are no validation cases to segment; empty where a run has some."""
        return ""


class Family(Source):
    """Methods that are trained, saved and opened in one way."""

    #: One word, for files and lists.
    name: str
    #: Options of ``atlaseg train`` that its methods take, of those that not all take.
    training: tuple[str, ...]
    #: What a run of it is, in messages.
    run: str
    #: Whether several runs label together, as an ensemble.
    ensembles: bool = False
    #: What the names of its methods have before those of its table.
    prefix: str = ""

    @abstractmethod
    def table(self) -> Registry[Any]:
        """The table of what its methods are made of."""

    def takes(self, row: Any) -> bool:  # noqa: ARG002
        """Whether a row of the table makes a method of this family."""
        return True

    def summary(self, row: Any) -> str:
        """One line on the method that is made of a row."""
        return str(row.summary)

    def names(self) -> tuple[str, ...]:
        """Names of its methods."""
        return tuple(method.name for method in self.methods())

    def methods(self) -> tuple[Method, ...]:
        """Its methods, in the order of the table.

        Raises:
            PackageError: an installed package adds a row that cannot be used.
        """
        return tuple(self._method(row) for row in self.table().rows() if self.takes(row))

    def find(self, name: str) -> Method | None:
        """A method by its name or an earlier one; ``None`` where the family has none of that name.

        Raises:
            PackageError: the package that adds it cannot be used.
        """
        part = name.removeprefix(self.prefix)
        if not name.startswith(self.prefix) or part not in self.table():
            return None
        row = self.table().find(part)
        return self._method(row) if self.takes(row) else None

    def _method(self, row: Any) -> Method:
        earlier = tuple(f"{self.prefix}{alias}" for alias in row.aliases)
        return Method(f"{self.prefix}{row.name}", self, row, self.summary(row), earlier)

    @abstractmethod
    def load(self, folders: tuple[Path, ...], *, device: str = "auto") -> Segmenter:
        """The segmenter that folders hold.

        Args:
            folders: of the runs; one, unless several make an ensemble.
            device: of networks.

        Raises:
            AtlasegError: a folder cannot be opened.
        """

    @abstractmethod
    def owns(self, folder: Path) -> bool:
        """Whether a folder is a run of this family, or may be one of a family that it builds on."""

    def check(self, job: TrainingJob, method: Method) -> None:
        """Refuse options that can never be met, before any file is read.

        Raises:
            OptionError: an option is not possible.
        """

    def check_dataset(self, job: TrainingJob, dataset: Dataset) -> None:
        """Refuse options that do not fit a data set, before anything is learnt from it.

        Raises:
            AtlasegError: an option belongs to other data.
        """

    def further_scans(self, job: TrainingJob) -> Path | None:  # noqa: ARG002
        """Folder of scans, besides those of the data set, that training looks at."""
        return None

    def with_minutes(self, options: Mapping[str, Any], minutes: float) -> dict[str, Any]:  # noqa: ARG002
        """Options of training, with a budget in minutes where it has one and none is said."""
        return dict(options)

    @abstractmethod
    def train(self, job: TrainingJob, method: Method, request: dict[str, Any], *, begun: bool) -> None:
        """Make ``job.out`` a run, or go on with it, or find that it is finished.

        Args:
            job: with the options; others than :attr:`training` have their defaults.
            method: of this family.
            request: what the run's ``request.json`` shall say; it is written once the data set is known to be good.
            begun: whether it is there already.

        Raises:
            OptionError: an option is not possible.
            AtlasegError: a file of the data set is not as it must be; nothing has been written then.
        """

    def options(self, method: Method) -> Any:  # noqa: ARG002
        """The dataclass whose fields are the method's own options; ``None`` where it has none."""
        return None
