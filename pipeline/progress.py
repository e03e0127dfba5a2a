"""Progress of long tasks: the callback :class:`Progress`, and its display on a terminal, :class:`ProgressDisplay`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Protocol, Self

__all__ = ["SECONDS_BETWEEN_LINES", "Progress", "ProgressDisplay", "on_progress"]

SECONDS_BETWEEN_LINES = 30.0

_listener: Callable[[str], None] | None = None


class Progress(Protocol):
    """Callback by which long tasks report progress; any function with these three parameters.

    >>> def tell(done: float, total: float, what: str) -> None:
    ...     print(f"{what}: {done:g} of {total:g}")
    >>> progress: Progress = tell
    >>> progress(3, 8, "registering atlases")
    registering atlases: 3 of 8
    """

    def __call__(self, done: float, total: float, what: str, /) -> object:
        """Take note.

        Args:
            done: parts that are finished, rising to ``total``.
            total: of all parts; 1 where ``done`` is a share. It may change while the work is under way.
            what: is being done. Work of several kinds, one after another, begins each at 0.
        """
        ...


def on_progress(listener: Callable[[str], None] | None) -> None:
    """Set a function to call with the text of every step, or ``None``."""
    global _listener  # noqa: PLW0603 (one screen, one listener)
    _listener = listener


class ProgressDisplay:
    """A bar on a terminal; elsewhere, as in a cluster's log, a line every half minute. On standard error.

    A context manager, and a :class:`Progress`: it can be handed to whatever takes one.

    Args:
        title: what is being done; by default what the work itself says, with a bar for each kind of it.
        total: how many parts it has, ``None`` where that is not known yet.
        unit: what a part is, such as ``registration``.
        terminal: whether standard error is one; by default it is asked.
    """

    def __init__(
        self, title: str = "", total: float | None = None, unit: str = "", *, terminal: bool | None = None
    ) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.terminal = sys.stderr.isatty() if terminal is None else terminal
        self.done: float = 0
        self._titled = bool(title)
        self._bar: Any = None
        self._begun = self._said = time.monotonic()

    def __enter__(self) -> Self:
        if self._titled:
            self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def __call__(self, done: float, total: float, what: str, /) -> None:
        """As :class:`Progress`."""
        if not self._titled and what != self.title:
            self._end()
            self.title, self.total = what, total
            self._begin()
        self.show(done, total)

    def _begin(self) -> None:
        self._begun = self._said = time.monotonic()
        if self.terminal:
            from tqdm import tqdm

            shape = "{desc} {percentage:3.0f}%|{bar}| {elapsed}" if self.total == 1.0 else None
            self._bar = tqdm(desc=self.title, total=self.total, unit=self.unit or "it", bar_format=shape)

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def show(self, done: float, total: float | None = None, note: str = "") -> None:
        """Say how many parts are done.

        Args:
            done: in all, not since the last time.
            total: of all parts, where it has changed.
            note: figures of the work, put behind.
        """
        self.done, self.total = done, self.total if total is None else total
        if self._bar is not None:
            self._bar.total = self.total
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(done - self._bar.n)
        line = f"{self.in_words()}{f', {note}' if note else ''}"
        if _listener is not None:
            _listener(line)
        if not self.terminal and time.monotonic() - self._said >= SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            minutes = (self._said - self._begun) / 60
            print(f"{line} after {minutes:.1f} min", file=sys.stderr, flush=True)

    def in_words(self) -> str:
        """Title and share.

        >>> work = ProgressDisplay("reading", 8, "scan", terminal=False)
        >>> work.show(2)
        >>> work.in_words()
        'reading: 2 of 8 scans'
        """
        if self.total == 1.0:
            return f"{self.title}: {self.done:.0%}"
        unit = f" {self.unit}{'' if self.total == 1 else 's'}" if self.unit else ""
        return f"{self.title}: {self.done:g}{'' if self.total is None else f' of {self.total:g}'}{unit}"
