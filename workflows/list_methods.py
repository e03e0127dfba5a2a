"""``atlaseg methods``: list all methods and other named parts, or describe one of them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from atlaseg.pipeline.entry_points import import_target
from atlaseg.pipeline.errors import OptionError
from atlaseg.workflows.methods.families import FAMILIES

if TYPE_CHECKING:
    from atlaseg.pipeline.registry import Registry, Row
    from atlaseg.workflows.methods.family import Method

__all__ = ["PARTS", "Entry", "ListMethods", "entries_of", "own_options"]

#: Tables of what methods are made of, or measured by: kind -> module:table, and what several are called.
PARTS: dict[str, tuple[str, str]] = {
    "loss": ("atlaseg.pipeline.training.losses.registry:LOSSES", "losses of networks"),
    "optimizer": ("atlaseg.pipeline.training.optimizers:OPTIMIZERS", "optimizers of networks"),
    "schedule": ("atlaseg.pipeline.training.learning_rate:SCHEDULES", "schedules of the learning rate"),
    "layout": ("atlaseg.pipeline.datasets.registry:LAYOUTS", "layouts of data sets"),
    "engine": ("atlaseg.atlases.registration.engines.registry:ENGINES", "registration engines"),
    "metric": ("atlaseg.pipeline.evaluation.metrics:METRICS", "metrics of label maps"),
}


@dataclass(frozen=True)
class Entry:
    """A method, or another thing to choose.

    Args:
        name: as options take it.
        kind: one word.
        summary: one line.
        row: of its table.
        aliases: earlier names.
        method: where it is one.
    """

    name: str
    kind: str
    summary: str
    row: Row
    aliases: tuple[str, ...] = ()
    method: Method | None = None


@dataclass(frozen=True)
class ListMethods:
    """List all methods, engines, metrics, ..., or describe one of them: atlaseg methods [NAME].

    Methods of `atlaseg train`, `segment` and `benchmark` come first, by kind; then engines, losses, metrics and other
    parts. Those of installed packages are listed with the name of the package.
    """

    positional: ClassVar[tuple[str, ...]] = ("name",)

    name: str | None = None
    """Name to describe; by default all are listed."""
    kind: str | None = None
    """List this kind only; the list shows the kinds."""

    def run(self) -> int:
        """Print it; returns 0.

        Raises:
            OptionError: there is no such kind or name.
            PackageError: an installed package adds something that cannot be used.
        """
        kinds = {family.name: family.plural for family in FAMILIES}
        kinds |= {kind: plural for kind, (_, plural) in PARTS.items()}
        if self.kind is not None and self.kind not in kinds:
            raise OptionError(f"no kind {self.kind!r}; choose one of {', '.join(kinds)}")
        chosen = [kind for kind in kinds if self.kind in (None, kind)]
        if self.name is None:
            print(
                "\n\n".join(
                    _listed(kind, kinds[kind], entries) for kind in chosen if (entries := entries_of(kind))
                )
            )
            return 0
        every = [entry for kind in chosen for entry in entries_of(kind)]
        found = [entry for entry in every if self.name in (entry.name, *entry.aliases)]
        if not found:
            among = "" if self.kind is None else f" of kind {self.kind}"
            raise OptionError(f"nothing{among} is called {self.name!r}; atlaseg methods lists all names")
        print("\n\n".join(_explained(entry) for entry in found))
        return 0


def entries_of(kind: str) -> list[Entry]:
    """Everything of a kind."""
    family = next((family for family in FAMILIES if family.name == kind), None)
    if family is not None:
        return [Entry(m.name, kind, m.summary, m.part, m.aliases, m) for m in family.methods()]
    table: Registry[Any] = import_target(PARTS[kind][0], "", kind)
    return [Entry(row.name, kind, row.summary, row, row.aliases) for row in table.rows()]


def _listed(kind: str, plural: str, entries: list[Entry]) -> str:
    """A heading, and a line for each."""
    width = max(len(entry.name) for entry in entries)
    lines = [
        f"  {entry.name:<{width}}  {entry.summary}" + (f" ({entry.row.package})" if entry.row.package else "")
        for entry in entries
    ]
    return "\n".join([f"{plural} (--kind {kind}):", *lines])


def _explained(entry: Entry) -> str:
    """Summary, source, options and how it is used."""
    row, method = entry.row, entry.method
    about = {
        "kind": entry.kind,
        "source": row.source,
        "package": row.package,
        "earlier name": ", ".join(entry.aliases),
        "options": own_options(method),
    }
    lines = [f"{entry.name}: {entry.summary}", *(f"  {what}: {text}" for what, text in about.items() if text)]
    if method is not None:
        family = method.family
        lines += [
            f"  atlaseg train DATASET --out RUN --method {entry.name} takes: {_as_options(family.training)}",
            f"  atlaseg segment RUN SCANS --out LABELS takes: {_as_options(family.labelling)}",
        ]
    return "\n".join(lines)


def own_options(method: Method | None) -> str:
    """Name and default of each option of the method itself."""
    made = None if method is None else method.family.options(method)
    if made is None:
        return ""
    parameters = inspect.signature(made).parameters.values()
    return ", ".join(
        p.name if p.default is inspect.Parameter.empty else f"{p.name}={_value(p.default)}"
        for p in parameters
    )


def _value(value: Any) -> str:
    """A default as options are written."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _as_options(names: tuple[str, ...]) -> str:
    return " ".join(f"--{name.replace('_', '-')}" for name in names)
