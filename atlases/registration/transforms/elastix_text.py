"""The text files of elastix: lines of ``(Name value ...)``, comments after ``//``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from atlaseg.pipeline.errors import MissingFileError, UnreadableFileError
from atlaseg.pipeline.io.files import write_text

__all__ = ["ParameterMap", "read_map", "write_map"]

#: Values by name, as strings: numbers too, so that nothing is lost.
ParameterMap = dict[str, tuple[str, ...]]

_LINE = re.compile(r"^\(\s*(\w+)((?:\s+(?:\"[^\"]*\"|[^\s\"()]+))*)\s*\)$")
_VALUE = re.compile(r"\"([^\"]*)\"|([^\s\"]+)")


def read_map(path: Path) -> ParameterMap:
    """Parameters of an elastix text file, as strings.

    Raises:
        MissingFileError: there is no such file.
        UnreadableFileError: it is not lines of ``(Name value ...)``; ``//`` begins a comment.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableFileError(
            f"{path}: expected elastix's parameters as text, found binary data"
        ) from error
    found: ParameterMap = {}
    for number, line in enumerate(text.splitlines(), start=1):
        content = _uncomment(line)
        if not content:
            continue
        match = _LINE.match(content)
        if match is None:
            raise UnreadableFileError(
                f"{path}, line {number}: expected elastix's (Name value ...), found {content[:40]!r}"
            )
        found[match[1]] = tuple(quoted or bare for quoted, bare in _VALUE.findall(match[2]))
    if not found:
        raise UnreadableFileError(f"{path}: no elastix parameter in it; is it truncated?")
    return found


def _uncomment(line: str) -> str:
    """Line without its comment; ``//`` inside quotes (a network path) does not start one."""
    return re.sub(r"(\"[^\"]*\")|//.*$", lambda m: m[1] or "", line).strip()


def write_map(parameters: Mapping[str, Sequence[str]], path: Path) -> None:
    """Write parameters as elastix's text: numbers bare, words in quotes."""
    lines = [f"({name} {' '.join(_quoted(v) for v in values)})" for name, values in parameters.items()]
    write_text(path, "\n".join(lines) + "\n")


def _quoted(value: str) -> str:
    return value if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", value) else f'"{value}"'
