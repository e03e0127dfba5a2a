from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from atlaseg.pipeline.errors import MissingFileError, UnreadableFileError, UnsafeModelError
from atlaseg.pipeline.io.files import read_arrays, read_json, read_yaml, replacing, taking_apart, write_text


def test_file_is_written_whole(tmp_path: Path):
    write_text(tmp_path / "new" / "a.txt", "Übung")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "Übung".encode()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_old_file_stays_until_the_new_one_is_whole(tmp_path: Path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == path.parent
        assert temporary.suffix == ".txt"
    assert path.read_text() == "new"


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_permissions_are_those_of_any_new_file(tmp_path: Path, mask: int):
    before = os.umask(mask)
    try:
        write_text(tmp_path / "a.txt", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o666 & ~mask


def test_json(tmp_path: Path):
    path = tmp_path / "a.json"
    with pytest.raises(MissingFileError, match="no such file"):
        read_json(path)
    write_text(path, '{"a": [1, null]}')
    assert read_json(path) == {"a": [1, None]}
    for damaged in (b'{"a": [1,', b"", b"\xff\xfe", b"[" * 100_000):
        path.write_bytes(damaged)
        with pytest.raises(UnreadableFileError, match=r"a\.json: not readable as JSON") as error:
            read_json(path)
        assert "\n" not in str(error.value)


BROKEN_JSON = ["", "{", "[" * 100_000, '{"a":' * 5000, "1" * 5000, "\x00", "[1, 2]", '"text"', "null", "3"]


@pytest.mark.parametrize("text", BROKEN_JSON, ids=range(len(BROKEN_JSON)))
def test_json_of_another_type_is_one_line(tmp_path: Path, text: str):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UnreadableFileError) as raised:
        read_json(path, dict)
    assert str(raised.value).startswith(f"{path}: ")
    assert len(str(raised.value).splitlines()) == 1
    assert len(str(raised.value)) < len(str(path)) + 300


def test_json_with_the_mark_that_windows_writes(tmp_path: Path):
    (tmp_path / "a.json").write_text('{"a": 1}', encoding="utf-8-sig")
    assert read_json(tmp_path / "a.json", dict) == {"a": 1}


BROKEN_YAML = [
    "a: [1",
    "[" * 1200,
    "a: 2001-13-45",
    "a: &b [1]\nc: *b",
    "!!python/object/apply:os.system ['true']",
    "{[1]: 2}",
    "\x00",
]


@pytest.mark.thorough
@pytest.mark.parametrize("text", BROKEN_YAML, ids=range(len(BROKEN_YAML)))
def test_broken_yaml_is_one_line(tmp_path: Path, text: str):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(UnreadableFileError) as raised:
        read_yaml(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert len(str(raised.value).splitlines()) == 1


def test_yaml(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("a: [1, x]\n")
    assert read_yaml(tmp_path / "a.yaml") == {"a": [1, "x"]}
    with pytest.raises(MissingFileError):
        read_yaml(tmp_path / "b.yaml")


def test_arrays(tmp_path: Path):
    path = tmp_path / "a.npz"
    np.savez(path, a=np.arange(3), b=np.array("text"))
    assert read_arrays(path)["a"].tolist() == [0, 1, 2]
    assert str(read_arrays(path)["b"]) == "text"
    whole = path.read_bytes()
    with pytest.raises(MissingFileError):
        read_arrays(tmp_path / "b.npz")
    for broken in (b"", b"text", whole[:-40], whole[:100], whole.replace(b"'<i8'", b"'<i9'")):
        path.write_bytes(broken)
        with pytest.raises(UnreadableFileError, match=r"a\.npz: not readable as arrays"):
            read_arrays(path)
    np.savez(path, a=np.array([{}], dtype=object))
    with pytest.raises(UnsafeModelError, match="holds Python objects"):
        read_arrays(path)
    np.save(tmp_path / "c.npy", np.arange(3))
    with pytest.raises(UnreadableFileError):
        read_arrays(tmp_path / "c.npy")


def test_arrays_that_unpack_to_more_than_there_is_memory_are_not_unpacked(tmp_path: Path, monkeypatch):
    import psutil

    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(1_000_000))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1_000_000))
    with pytest.raises(UnreadableFileError, match=r"would unpack to 0\.0 GB, more than fits into memory"):
        read_arrays(tmp_path / "a.npz")


def test_taking_apart(tmp_path: Path):
    path = tmp_path / "a.json"

    def take(what):
        with taking_apart(path, "names"):
            what()

    for fail in (
        lambda: {}["a"],
        lambda: "".index("x"),
        lambda: None.x,
        lambda: int("x"),
        lambda: float(10**400),
    ):
        with pytest.raises(UnreadableFileError, match=r"a\.json: expected names, found something else"):
            take(fail)

    def own():
        raise MissingFileError("other.json: no such file")

    with pytest.raises(MissingFileError, match=r"^other"):
        take(own)
