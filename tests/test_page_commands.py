"""Pages that teach atlaseg: every command and every line of Python on them is run, from top to bottom."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from atlaseg.workflows.cli import main

ROOT = Path(__file__).parents[1]
PAGES = (
    ROOT / "README.md",
    ROOT / "docs/getting-started.md",
    *sorted((ROOT / "docs/tutorials").glob("*.md")),
)
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)
#: What pages show beside commands of atlaseg: it installs, and CI does it by other means.
INSTALLATION = ("python3 -m venv .venv", ".venv/bin/pip install .")


def steps(page: Path) -> list[tuple[str, str]]:
    """Commands and scripts of a page in their order, each with its language."""
    found = []
    for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            found.append((language, text))
        else:
            lines = text.replace("\\\n", " ").splitlines()
            found += [(language, line) for line in lines if line.split("#")[0].strip()]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_can_be_followed(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, (language, text) in enumerate(steps(page)):
        if language == "python":
            script = tmp_path / f"step{number}.py"
            script.write_text(text)
            subprocess.run([sys.executable, "-P", script.name], check=True, timeout=1200)
        elif text.startswith("atlaseg "):
            assert main(shlex.split(text, comments=True)[1:]) == 0, text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_other_commands_are_known(page):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for language, text in steps(page):
        words = shlex.split(text, comments=True)
        if language == "sh" and words[0] == "make":
            assert words[1] in targets, text
        elif language == "sh" and words[0] != "atlaseg":
            assert " ".join(words) in INSTALLATION, text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_show_steps(page):
    assert len(steps(page)) >= 2
