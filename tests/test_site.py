"""What the documentation site is made of, beside its pages: help texts in tables, docstrings, pictures."""

from __future__ import annotations

import runpy
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / "docs/tools"


def test_help_is_taken_apart():
    parse_help = runpy.run_path(str(TOOLS / "command_page.py"))["parse_help"]
    found = parse_help(
        "usage: atlaseg made [-h] PATH [OPTIONS]\n\nMake things.\n\nMore of it.\n\n"
        "╭─ positional arguments ──────╮\n"
        "│ PATH      Folder. (required) │\n"
        "╰─────────────────────────────╯\n"
        "╭─ options ───────────────────╮\n"
        "│ -h, --help  show this help  │\n"
        "│ --kind {a,b}                │\n"
        "│             Which kind      │\n"
        "│             of thing.       │\n"
        "│ --size INT  How large.      │\n"
        "╰─────────────────────────────╯\n"
    )
    assert found.usage == "atlaseg made [-h] PATH [OPTIONS]"
    assert found.description == "Make things.\n\nMore of it."
    assert found.panels == {
        "positional arguments": [("PATH", "Folder. (required)")],
        "options": [("--kind {a,b}", "Which kind of thing."), ("--size INT", "How large.")],
    }


def test_what_is_no_help_text_is_refused():
    parse_help = runpy.run_path(str(TOOLS / "command_page.py"))["parse_help"]
    with pytest.raises(ValueError, match="not a help text"):
        parse_help("Traceback (most recent call last):")


def test_options_of_a_command_are_in_the_reference():
    help_of = runpy.run_path(str(TOOLS / "command_page.py"))["help_of"]
    found = help_of("phantom")
    assert [option.split()[0] for option, _ in found.panels["options"]] == ["--subjects", "--seed", "--kind"]


@pytest.mark.parametrize("picture", sorted((ROOT / "docs/pictures").iterdir()), ids=lambda path: path.name)
def test_pictures_are_small_and_shown(picture):
    assert picture.stat().st_size < 150_000
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    assert any(f"pictures/{picture.name})" in page.read_text() for page in pages)


def test_docstrings_become_markdown():
    pytest.importorskip("griffe", reason="the documentation's packages are not installed")
    as_markdown = runpy.run_path(str(TOOLS / "docstrings.py"))["as_markdown"]
    text = "Uses :class:`~a.b.Thing`, ``code``.\n\n>>> [1, 2]\n[1, 2]\n\nArgs:\n    x: of :mod:`a`.\n"
    assert as_markdown(text) == (
        "Uses `Thing`, ``code``.\n\n```pycon\n>>> [1, 2]\n[1, 2]\n```\n\nArgs:\n    x: of `a`.\n"
    )


def test_version_is_the_same_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
