from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.errors import MissingFileError, UnreadableFileError
from pipeline.files import read_json, replacing, write_text


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
