"""Tables of extensible parts: networks, losses, fusion rules, engines, classical methods, metrics, layouts, commands.

A table has one row for each thing, with its name, a line for a person who chooses, and the place of its code. Names are
listed without importing that code. An installed package adds a row by an entry point that names it::

    [project.entry-points."atlaseg.losses"]
    tversky = "my_package.tversky:ROW"
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from atlaseg.pipeline.entry_points import Added, added, import_target
from atlaseg.pipeline.errors import OptionError, PackageError

__all__ = ["METHODS", "MethodRow", "Registry", "Row"]

#: Entry points of methods of any family: the type of a row says which.
METHODS = "atlaseg.methods"

_NAME = re.compile(r"[a-z0-9]+([-_][a-z0-9]+)*")


@dataclass(frozen=True)
class Row:
    """Columns of every table.

    Args:
        name: as people write it: small letters and digits, parted by hyphens.
        summary: one line for a person who chooses.
        target: place of its code, ``module:attribute``, imported when it is asked for.
        source: paper or manual; may be empty.
        aliases: other names that it goes by, such as those of earlier versions.
        package: name and version of the package that added the row, filled in by the table; empty for atlaseg's own.
    """

    name: str
    summary: str
    target: str
    source: str = field(default="", kw_only=True)
    aliases: tuple[str, ...] = field(default=(), kw_only=True)
    package: str = field(default="", kw_only=True)

    def load(self) -> Any:
        """Import the attribute that ``target`` names.

        Raises:
            PackageError: the package that added the row has no such code, or it cannot be imported.
        """
        return import_target(self.target, self.package, f"{self.name}'s code")


@dataclass(frozen=True)
class MethodRow(Row):
    """A row of a method, which an installed package may also add by the entry-point group :data:`METHODS`."""


R = TypeVar("R", bound=Row)


class Registry(Generic[R]):
    """A table of things by name: atlaseg's own, in order, then those that installed packages add.

    Args:
        what: one of the things is called, in messages.
        row: type of the rows.
        rows: atlaseg's own.
        group: entry points by which packages add rows, such as ``atlaseg.losses``.

    >>> sizes = Registry("size", Row, [Row("big", "a lot", "math:inf", aliases=("large",))], group="atlaseg.sizes")
    >>> sizes.names(), sizes.find("large").name, sizes.find("big").load()
    (('big',), 'big', inf)
    """

    def __init__(self, what: str, row: type[R], rows: Sequence[R], *, group: str) -> None:
        self.what, self.row, self.group = what, row, group
        self._own = {entry.name: entry for entry in rows}
        self._aliases = {alias: entry for entry in rows for alias in entry.aliases}
        names = [name for entry in rows for name in (entry.name, *entry.aliases)]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{what} {repeated[0]!r} has two rows")

    def names(self) -> tuple[str, ...]:
        """Names, without aliases; what a package adds by :data:`METHODS` is left out where it cannot be read."""
        by_group = [entry.name for entry in self._entries() if entry.group != METHODS]
        by_methods = [row.name for row in self._readable(METHODS)]
        return tuple(dict.fromkeys((*self._own, *by_group, *by_methods)))

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.names() or name in self._aliases

    def find(self, name: str) -> R:
        """The row of a name or of an alias.

        Raises:
            OptionError: there is none; the message lists the names.
            PackageError: the package that adds it is broken, or two have it.
        """
        own = self._own.get(name) or self._aliases.get(name)
        others = [self._row_of(entry) for entry in self._entries() if entry.name == name]
        found = [row for row in (own, *others) if row is not None]
        if not found:
            found = [row for row in self._readable() if name in row.aliases]
        if not found:
            raise OptionError(f"no {self.what} {name!r}; choose one of {', '.join(self.names())}")
        self._refuse_twice(name, found)
        return found[0]

    def load(self, name: str) -> Any:
        """The code of a name; errors are those of :meth:`find` and :meth:`Row.load`."""
        return self.find(name).load()

    def rows(self) -> list[R]:
        """Every row; imports the modules in which packages keep theirs.

        Raises:
            PackageError: a package that adds a row is broken, or two have one of the same name.
        """
        added_rows = [row for row in map(self._row_of, self._entries()) if row is not None]
        rows = [*self._own.values(), *added_rows]
        for row in rows:
            self._refuse_twice(row.name, [other for other in rows if other.name == row.name])
        return rows

    def _entries(self) -> list[Added]:
        """Entry points that add a row here, or may: one of :data:`METHODS` can belong to another family."""
        groups = dict.fromkeys((self.group, METHODS) if issubclass(self.row, MethodRow) else (self.group,))
        return [entry for group in groups for entry in added(group)]

    def _readable(self, group: str | None = None) -> Iterator[R]:
        """Rows that packages add, of one group or of all, without those that are broken."""
        for entry in self._entries():
            if group in (None, entry.group):
                with suppress(PackageError):
                    row = self._row_of(entry)
                    if row is not None:
                        yield row

    def _row_of(self, entry: Added) -> R | None:
        """The row that an entry point names; ``None`` where it is a method of another family."""
        row = entry.load()
        if not isinstance(row, self.row):
            if entry.group == METHODS and isinstance(row, MethodRow):
                return None
            expected = MethodRow if entry.group == METHODS else self.row
            raise PackageError(
                f"package {entry.package}: entry point {entry.name} of {entry.group}: expected a {expected.__name__}, "
                f"found {type(row).__name__}; update the package or uninstall it"
            )
        if row.name != entry.name or not _NAME.fullmatch(row.name):
            raise PackageError(
                f"package {entry.package}: entry point {entry.name} of {entry.group} names a row called {row.name!r}; "
                "both must be the same word of small letters, digits and hyphens"
            )
        return replace(row, package=entry.package)

    def _refuse_twice(self, name: str, found: Sequence[R]) -> None:
        if len(found) > 1:
            owners = " and ".join(row.package or "atlaseg" for row in found)
            raise PackageError(f"{self.what} {name!r} is in {owners}; uninstall all but one of them")
