"""Entry points of installed packages: found without importing, refused in words where they are broken."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from atlaseg.pipeline.entry_points import added, import_target
from atlaseg.pipeline.errors import PackageError

SIZES = "atlaseg.sizes"


def test_entry_points_are_found_and_nothing_is_imported(installed) -> None:
    installed.add("my-sizes", {SIZES: {"tall": "sizes_tall:ROW"}, "console_scripts": {"x": "y:z"}})
    installed.add("Other.Sizes", {SIZES: {"broad": "sizes_broad:ROW"}, "atlaseg.more": {"x": "y:z"}})
    (broad, tall) = added(SIZES)
    assert (broad.name, broad.target, broad.package) == ("broad", "sizes_broad:ROW", "Other.Sizes 1.0")
    assert (tall.name, tall.group, tall.package) == ("tall", SIZES, "my-sizes 1.0")
    assert [entry.name for entry in added("atlaseg.more")] == ["x"]
    assert "sizes_tall" not in sys.modules


def test_same_entry_points_as_importlib(installed) -> None:
    from importlib.metadata import entry_points

    installed.add("my-sizes", {SIZES: {"tall": "sizes_tall:ROW", "small": "sizes:SMALL"}})
    expected = {(e.name, e.value) for e in entry_points(group=SIZES)}
    assert (
        {(e.name, e.target) for e in added(SIZES)}
        == expected
        == {("tall", "sizes_tall:ROW"), ("small", "sizes:SMALL")}
    )


def test_of_two_versions_on_the_path_the_first_counts(installed, tmp_path: Path, monkeypatch) -> None:
    installed.add("my-sizes", {SIZES: {"tall": "old:ROW"}})
    first = type(installed)(tmp_path / "first")
    first.add("my-sizes", {SIZES: {"tall": "new:ROW"}})
    monkeypatch.syspath_prepend(first.folder)
    assert [entry.target for entry in added(SIZES)] == ["new:ROW"]


def test_load(installed) -> None:
    installed.add("my-sizes", {SIZES: {"tall": "sizes_tall:ROW"}}, sizes_tall="ROW = 7")
    assert added(SIZES)[0].load() == 7


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("import no_such_module_anywhere", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("OTHER = 1", "AttributeError: module 'sizes_tall' has no attribute 'ROW'"),
    ],
)
def test_broken_module_is_one_line_that_names_the_package(installed, module: str, reason: str) -> None:
    installed.add("my-sizes", {SIZES: {"tall": "sizes_tall:ROW"}}, sizes_tall=module)
    with pytest.raises(PackageError) as told:
        added(SIZES)[0].load()
    assert str(told.value) == (
        f"package my-sizes 1.0: its entry point tall of {SIZES} (sizes_tall:ROW) cannot be imported ({reason}); "
        "update the package or uninstall it"
    )


def test_own_code_fails_as_it_does() -> None:
    with pytest.raises(ModuleNotFoundError):
        import_target("atlaseg.no_such_module:X", "", "a row")


def test_the_current_folder_adds_nothing(installed, tmp_path: Path) -> None:
    """``python -c`` and ``python -m`` look in the current folder first; what lies there is not taken for installed."""
    installed.add("my-sizes", {SIZES: {"tall": "sizes_tall:ROW"}})
    program = (
        "from atlaseg.pipeline.entry_points import added; print([e.name for e in added('atlaseg.sizes')])"
    )
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "as_module.py").write_text(program)
    plain = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    there = {**plain, "PYTHONPATH": str(installed.folder)}

    def run(*words: str, environment: dict[str, str], folder: Path) -> str:
        command = [sys.executable, *words]
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert run("-c", program, environment=there, folder=tmp_path) == "['tall']"
    assert run("-c", program, environment=plain, folder=installed.folder) == "[]"
    search = {**plain, "PYTHONPATH": str(tmp_path / "bin")}
    assert run("-m", "as_module", environment=search, folder=installed.folder) == "[]"
