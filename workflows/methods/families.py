"""The families of methods, and the method of a name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from atlaseg.workflows.methods.atlases.atlas_family import ATLASES, LABELLED_SCANS
from atlaseg.workflows.methods.classical.classical_family import CLASSICAL
from atlaseg.workflows.methods.classical.seeds import SEEDS
from atlaseg.workflows.methods.combined.combined_family import CLASSICAL_WITH_ATLASES, NETWORKS_WITH_ATLASES
from atlaseg.workflows.methods.family import Family, Method, Source
from atlaseg.workflows.methods.installed.installed_family import INSTALLED
from atlaseg.workflows.methods.networks.network_family import NETWORKS
from atlaseg.workflows.methods.option_groups import default_values, values_of

__all__ = [
    "FAMILIES",
    "LABELLED_SCANS",
    "SEEDS",
    "SOURCES",
    "all_methods",
    "default_method",
    "family_of_run",
    "find_method",
    "refuse_options_of_others",
]

#: In the order of lists; one whose runs hold a run of another stands after it.
FAMILIES: tuple[Family, ...] = (
    NETWORKS,
    ATLASES,
    NETWORKS_WITH_ATLASES,
    CLASSICAL,
    CLASSICAL_WITH_ATLASES,
    INSTALLED,
)
#: Whatever labels scans.
SOURCES: tuple[Source, ...] = (*FAMILIES, LABELLED_SCANS, SEEDS)


def all_methods() -> dict[str, Method]:
    """Every method by its name, family by family."""
    return {method.name: method for family in FAMILIES for method in family.methods()}


def default_method() -> Method:
    """The method that is trained where none is named: the first of all."""
    return FAMILIES[0].methods()[0]


def find_method(name: str) -> Method:
    """A method by its name, or an earlier one.

    Raises:
        OptionError: there is no such method; the message lists all.
        PackageError: an installed package has it twice, or its own cannot be used.

    >>> find_method(default_method().name).family.plural
    'networks'
    """
    from atlaseg.pipeline.errors import OptionError

    for family in FAMILIES:
        if (method := family.find(name)) is not None:
            return method
    known = "; ".join(
        f"{family.plural}: {', '.join(names)}" for family in FAMILIES if (names := family.names())
    )
    raise OptionError(f"method {name!r} is not known; choose one of the {known}")


def family_of_run(folder: Path) -> Family | None:
    """The family of the method that wrote a folder; ``None`` for other folders and for files."""
    return next((family for family in reversed(FAMILIES) if family.owns(folder)), None)


def refuse_options_of_others(
    job: Any, taken: str, sources: Iterable[Source], this: Source, subject: str
) -> None:
    """Refuse options of a job that the method does not take.

    Args:
        job: of training or labelling; an option that has its default counts as not said.
        taken: the attribute that lists the options: ``training`` or ``labelling``.
        sources: all that could be at hand.
        this: the one that is.
        subject: what is of it, as messages call it.

    Raises:
        OptionError: an option belongs to others.
    """
    from atlaseg.pipeline.errors import OptionError

    values, defaults = values_of(job), default_values(type(job))
    having: dict[str, list[Source]] = {}
    for source in sources:
        for name in getattr(source, taken):
            having.setdefault(name, []).append(source)
    wrong: dict[str, list[str]] = {}
    for name, owners in having.items():
        if values[name] != defaults[name] and name not in getattr(this, taken):
            wrong.setdefault(_called(owners), []).append(f"--{name.replace('_', '-')}")
    for others, said in wrong.items():
        raise OptionError(f"{', '.join(said)}: for {others} only, and not for {subject}; leave it out")


def _called(sources: Iterable[Source]) -> str:
    """Joint name of several sources; families without a method are left out."""
    present = (source for source in sources if not isinstance(source, Family) or source.names())
    *others, last = dict.fromkeys(source.plural for source in present)
    return f"{', '.join(others)} and {last}" if others else last
