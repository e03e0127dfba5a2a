"""Sanitise output, so that names of files cannot control the terminal.

Names of files, structures and patients come from elsewhere. One with an escape sequence in it could clear the screen,
rename the window or hide a line, and one that is no valid UTF-8 cannot be printed at all.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["on_output", "only_printable", "printable", "say"]

#: Categories of characters that are not shown but do something: controls, marks that turn the direction of writing or
#: break lines, halves of characters, and those that no font has.
_ACTIVE = ("Cc", "Cf", "Cs", "Zl", "Zp")
#: Shapes letters in some languages, without which names are misspelt.
_JOINERS = "\u200c\u200d"
#: Names of files can be longer than any screen.
_LONGEST = 1200
_LAYOUT = "\n\r\t"
#: What tqdm and rich write to a terminal: colours, and moves of the cursor.
_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


_listener: Callable[[], None] | None = None


def on_output(listener: Callable[[], None] | None) -> None:
    """Call a function whenever a command has printed something; ``None`` for no function."""
    global _listener  # noqa: PLW0603 (one screen, one listener)
    _listener = listener


def printable(text: str) -> str:
    r"""A text as one line, with an escape in place of each character that is not to be shown.

    >>> printable("a\x1b[2Jb\nc")
    'a\\x1b[2Jb c'
    """
    line = _escaped(" ".join(text.split()), "")
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 300]} ... {line[-300:]}"


def _escaped(text: str, kept: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if character not in kept and character not in _JOINERS and unicodedata.category(character) in _ACTIVE
        else character
        for character in text
    )


class _Screen:
    """A stream that passes text on without what :func:`printable` takes out; line breaks stay.

    Sequences for a terminal pass where the stream is one.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text; returns its length, as streams do."""
        if self._stream.isatty():
            parts = _SEQUENCE.split(text)
            sequences = [*_SEQUENCE.findall(text), ""]
            shown = "".join(_escaped(p, _LAYOUT) + s for p, s in zip(parts, sequences, strict=True))
        else:
            shown = _escaped(text, _LAYOUT)
        if _listener is not None:
            _listener()
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        self._stream.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)


@contextmanager
def only_printable() -> Iterator[None]:
    """Let standard output and standard error of a command take nothing else."""
    out, err = _Screen(sys.stdout), _Screen(sys.stderr)
    with redirect_stdout(out), redirect_stderr(err):
        yield


def say(console: Console, text: str) -> None:
    """One line as it is: file names are not markup and are not broken."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)
