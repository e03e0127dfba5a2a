"""Commands and Python that the pages for users show: they exist, with these options and names."""

from __future__ import annotations

import ast
import re
import shlex
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

import atlaseg
from atlaseg.workflows.cli import job_of
from atlaseg.workflows.console.commands import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").rglob("*.md")),
)
#: Pages that are made when the site is built; `make docs` checks links to them.
MADE = ("reference/commands.md", "reference/methods.md", "reference/changelog.md", "decisions/index.md")
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def blocks(language: str) -> list[tuple[str, str]]:
    return [
        (page.name, text)
        for page in PAGES
        for kind, text in BLOCK.findall(page.read_text())
        if kind == language
    ]


def commands() -> list[tuple[str, str]]:
    found = []
    for page, text in blocks("sh"):
        lines = text.replace("\\\n", " ").splitlines()
        found += [(page, line) for line in lines if line.startswith("atlaseg ")]
    return found


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_are_taken(page, line):
    # what stands in brackets may be left out: here it is taken along
    words = shlex.split(re.sub(r"\[(--[^\]]*)\]", r"\1", line), comments=True)[1:]
    assert words[0] in COMMANDS or words[0] == "study", page
    if set(words[1:]) & {"COMMAND", "--help"}:
        return
    job_of(words)  # ends the process where an option does not exist


@pytest.mark.parametrize(("page", "text"), blocks("python"))
def test_imports_exist(page, text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and not node.level:
            # the folders of this repository can be imported here by chance; what is installed is atlaseg
            assert str(node.module).split(".")[0] not in ("pipeline", "atlases", "workflows"), page
            module = import_module(str(node.module))
            for name in node.names:
                assert hasattr(module, name.name), f"{page}: {node.module}.{name.name}"
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "atlaseg"
        ):
            assert node.attr in atlaseg.__all__, f"{page}: atlaseg.{node.attr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path) if path else page
        if page.name != "README.md" and linked.resolve().as_posix().endswith(MADE):
            continue
        assert linked.exists(), f"{page.name} -> {target}"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in anchors, f"{page.name} -> {target}"


def test_there_is_something_to_test():
    assert len(commands()) > 10
    assert len(blocks("python")) > 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page):
    # a run and an atlas folder have a configs/ of their own, so that of the repository is left out
    named = re.findall(r"`((?:pipeline|atlases|workflows|tests|docs|examples)/[\w./-]*)`", page.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_of_code_exist(page):
    # two parts alone may be a group of entry points, such as atlaseg.methods
    for name in set(re.findall(r"`(atlaseg(?:\.\w+){2,})", page.read_text())):
        module, _, last = name.rpartition(".")
        if find_spec(module) is None:  # the name of a class's attribute
            module, _, kind = module.rpartition(".")
            assert hasattr(getattr(import_module(module), kind), last), f"{page}: {name}"
        else:
            assert hasattr(import_module(module), last) or find_spec(name), f"{page}: {name}"
