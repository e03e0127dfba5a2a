"""Write files atomically: under a temporary name beside the target, then renamed."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from atlaseg.pipeline.errors import (
    AtlasegError,
    MissingFileError,
    OptionError,
    UnreadableFileError,
    UnsafeModelError,
)
from atlaseg.pipeline.io.full_disk import full_disk_as_error

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["WRITING", "read_arrays", "read_json", "read_yaml", "replacing", "taking_apart", "write_text"]

_Kind = TypeVar("_Kind")
_JSON_NAMES: dict[type[Any], str] = {
    dict: "a JSON object {...}",
    list: "a list [...]",
    str: "a text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}
#: Names of files and folders begin so until they are whole.
WRITING = ".writing-"


@contextmanager
def replacing(path: Path, suffix: str | None = None) -> Iterator[Path]:
    """Temporary path beside ``path`` that takes its place when the block ends without an error.

    The temporary name ends with ``suffix`` (by default, ``path``'s own), for writers that look at it.

    Raises:
        FullDiskError: there is no space left for it.
    """
    ending = path.suffix if suffix is None else suffix
    with full_disk_as_error(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=WRITING, suffix=ending)
    os.close(handle)
    temporary = Path(name)
    try:
        with full_disk_as_error(path):  # before what has been written is removed, and there is space again
            yield temporary
            mask = os.umask(0)
            os.umask(mask)
            temporary.chmod(0o666 & ~mask)
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@overload
def read_json(path: Path) -> Any: ...
@overload
def read_json(path: Path, kind: type[_Kind]) -> _Kind: ...
def read_json(path: Path, kind: type[Any] = object) -> Any:
    """Content of a JSON file.

    Args:
        path: of the file.
        kind: what its outermost value must be, such as ``dict`` or ``list``.

    Raises:
        MissingFileError: there is no such file.
        UnreadableFileError: it is not JSON, or holds something else than ``kind``.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))  # Windows writes a mark before UTF-8
    except (ValueError, RecursionError) as error:
        raise UnreadableFileError(
            f"{path}: not readable as JSON ({_line(error)}); is it truncated?"
        ) from error
    if not isinstance(content, kind):
        raise UnreadableFileError(
            f"{path}: expected {_JSON_NAMES.get(kind, kind.__name__)}, found {_JSON_NAMES[type(content)]}"
        )
    return content


def read_yaml(path: Path) -> Any:
    """Content of a YAML file: plain data, without anchors and aliases, which let a small file grow without bound.

    Raises:
        MissingFileError: there is no such file.
        UnreadableFileError: it is not YAML, or uses anchors or tags.
    """
    import yaml

    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise UnreadableFileError(
                f"{path}: anchors and aliases (& and *) are not allowed; write each value out"
            )
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, ArithmeticError, RecursionError) as error:
        # dates that do not exist are a ValueError of the parser, those of the year 10000 an OverflowError
        raise UnreadableFileError(f"{path}: not readable as YAML ({_line(error)})") from error


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Arrays by name from NumPy's archive; only numbers and texts, never objects.

    Raises:
        MissingFileError: there is no such file.
        UnreadableFileError: it is no such archive, or would unpack to more than fits into memory.
        UnsafeModelError: it holds Python objects, which could run code.
    """
    import zipfile
    import zlib

    import numpy as np
    import psutil

    if not path.is_file():
        raise MissingFileError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > psutil.virtual_memory().available:
            raise UnreadableFileError(
                f"{path}: would unpack to {size / 1e9:.1f} GB, more than fits into memory"
            )
        with np.load(path, allow_pickle=False) as content:
            return {name: content[name] for name in content.files}
    except (
        *(OSError, EOFError, LookupError, ValueError, RuntimeError, NotImplementedError, MemoryError),
        *(zipfile.BadZipFile, zlib.error, SyntaxError),  # a header that is no Python literal is a SyntaxError
    ) as error:
        if isinstance(error, AtlasegError):
            raise
        if "pickle" in str(error) or "Object arrays" in str(error):
            raise UnsafeModelError(
                f"{path}: holds Python objects, which could run code; it is not opened"
            ) from error
        raise UnreadableFileError(
            f"{path}: not readable as arrays ({_line(error)}); is it truncated?"
        ) from error


@contextmanager
def taking_apart(path: Path, expected: str) -> Iterator[None]:
    """Turn the KeyError, TypeError or ValueError of malformed content into an error that names the file.

    Args:
        path: of the file.
        expected: what it should hold, in words.

    Raises:
        UnreadableFileError: the block did not find what it looked for.
    """
    try:
        yield
    except OptionError as error:  # what is no option of a user's is a fault of the file
        raise UnreadableFileError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    except AtlasegError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        # RuntimeError is what torch raises where a state does not suit
        said = f"no {error}" if isinstance(error, KeyError) else _line(error)
        raise UnreadableFileError(f"{path}: expected {expected}, found something else ({said})") from error


def _line(error: Exception) -> str:
    """Message of an exception in one line; it may quote the file."""
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else f"{text[:200]}..."
