"""How far work is: a bar on a terminal; elsewhere, as in a cluster's log, a line every half minute."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Self

__all__ = ["SECONDS_BETWEEN_LINES", "Progress", "on_progress"]

SECONDS_BETWEEN_LINES = 30.0

_listener: Callable[[str], None] | None = None


def on_progress(listener: Callable[[str], None] | None) -> None:
    """Tell a function of every step, in words; ``None`` for no function."""
    global _listener  # noqa: PLW0603 (one screen, one listener)
    _listener = listener


class Progress:
    """Context manager that shows how far a piece of work is, on standard error.

    Args:
        title: what is being done.
        total: how many parts it has, ``None`` where that is not known yet.
        unit: what a part is, such as ``registration``.
        terminal: whether standard error is one; by default it is asked.
    """

    def __init__(
        self, title: str, total: float | None = None, unit: str = "", *, terminal: bool | None = None
    ) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.terminal = sys.stderr.isatty() if terminal is None else terminal
        self.done: float = 0
        self._bar: Any = None
        self._begun = self._said = time.monotonic()

    def __enter__(self) -> Self:
        self._begun = self._said = time.monotonic()
        if self.terminal:
            from tqdm import tqdm

            shape = "{desc} {percentage:3.0f}%|{bar}| {elapsed}" if self.total == 1.0 else None
            self._bar = tqdm(desc=self.title, total=self.total, unit=self.unit or "it", bar_format=shape)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

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

        >>> work = Progress("reading", 8, "scan", terminal=False)
        >>> work.show(2)
        >>> work.in_words()
        'reading: 2 of 8 scans'
        """
        if self.total == 1.0:
            return f"{self.title}: {self.done:.0%}"
        unit = f" {self.unit}{'' if self.total == 1 else 's'}" if self.unit else ""
        return f"{self.title}: {self.done:g}{'' if self.total is None else f' of {self.total:g}'}{unit}"
