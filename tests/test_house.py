"""Conventions of the code: sizes and names of files, imports, and what is installed."""

from __future__ import annotations

import ast
import re
import runpy
import statistics
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import pytest

from atlaseg.pipeline.errors import AtlasegWarning

ROOT = Path(__file__).parents[1]
#: Folders of the repository that are installed as parts of ``atlaseg``.
PARTS = ("pipeline", "atlases", "workflows", "configs")

#: Files that may share a name: what they hold is the same thing in another place.
SHARED_NAMES = {
    "__init__": "the index of a folder",
    "registry": "the table of a folder: networks, losses, fusion rules, ...",
    "plan": "`atlaseg plan`, and the plan that it writes",
    "register": "`atlaseg register`, and the function that it calls",
}
#: Folders of tests that hold for many files at once.
ACROSS = ("contracts", "bad_inputs", "benchmarks")
#: Tests at the top of a folder that are of several files, or of none.
OF_NO_FILE = {
    "test_adding": "a package that adds one of each, used by every command",
    "test_examples": "the scripts of examples/, run",
    "test_gpu": "what only a GPU shows",
    "test_house": "this file",
    "test_leakage": "no label reaches what is judged by it, by whatever method",
    "test_page_commands": "what the pages for users show, run",
    "test_readme": "what the pages for users show",
    "test_site": "what the documentation site is made of",
    "workflows/report_page/test_figures": "every chart and table, of one made benchmark",
    "workflows/report_page/test_browser": "the whole page in a browser",
    "workflows/test_classical_commands": "train, segment and benchmark with classical methods",
    "workflows/test_current_folder": "nothing of the current folder is imported, by any command",
    "workflows/test_killed_jobs": "a job that is killed leaves nothing half-written, whichever it is",
    "workflows/test_names": "names from the first command to the last",
}


def sources() -> dict[str, Path]:
    """Source files by the module that they are: ``atlaseg.pipeline.case`` -> ``pipeline/case.py``."""
    found = {}
    for part in ("atlaseg", *PARTS):
        for path in sorted((ROOT / part).rglob("*.py")):
            name = path.relative_to(ROOT).with_suffix("")
            module = ".".join(name.parts if part == "atlaseg" else ("atlaseg", *name.parts))
            found[module.removesuffix(".__init__")] = path
    return found


def files_of_tests() -> list[Path]:
    return [path for path in sorted((ROOT / "tests").rglob("*.py")) if path.name != "__init__.py"]


def lines(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n")


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


SOURCES = sources()


def test_there_is_something_to_test():
    assert len(SOURCES) > 250
    assert len(files_of_tests()) > 150
    assert SOURCES["atlaseg.pipeline"] == ROOT / "pipeline/__init__.py"
    assert SOURCES["atlaseg.workflows.cli"] == ROOT / "workflows/cli.py"


def test_a_file_is_one_concept():
    assert [
        f"{shown(p)}: {n} lines" for p in (*SOURCES.values(), *files_of_tests()) if (n := lines(p)) > 400
    ] == []


def test_half_of_the_files_are_short():
    assert statistics.median(lines(path) for path in SOURCES.values()) < 150


def test_no_two_files_of_one_name():
    places = defaultdict(list)
    for path in SOURCES.values():
        places[path.stem].append(shown(path))
    twice = {name: files for name, files in places.items() if len(files) > 1 and name not in SHARED_NAMES}
    assert twice == {}
    assert [name for name in SHARED_NAMES if len(places[name]) < 2] == [], "no longer shared"


def test_tests_mirror_the_source():
    astray = []
    for path in files_of_tests():
        within = path.relative_to(ROOT / "tests")
        if (
            not path.stem.startswith("test_")
            or within.parts[0] in ACROSS
            or str(within.with_suffix("")) in OF_NO_FILE
        ):
            continue
        # a file has one file of tests, or several: test_train.py, test_train_refusals.py
        words = path.stem.removeprefix("test_").split("_")
        names = ["_".join(words[:count]) for count in range(1, len(words) + 1)]
        folder = ROOT / within.parent
        if not any((folder / f"{n}.py").is_file() or (folder / n / "__init__.py").is_file() for n in names):
            astray.append(shown(path))
    assert astray == []


@pytest.mark.parametrize("name", OF_NO_FILE)
def test_listed_tests_exist(name):
    assert (ROOT / "tests" / f"{name}.py").is_file()


def statements(node: ast.AST) -> Iterator[ast.stmt]:
    """Every statement in a file, without what only a type checker reads."""
    for block in ("body", "orelse", "finalbody", "handlers", "cases"):
        for child in getattr(node, block, ()):
            if isinstance(child, ast.stmt):
                yield child
            if not (
                isinstance(child, ast.If)
                and isinstance(child.test, ast.Name)
                and child.test.id == "TYPE_CHECKING"
            ):
                yield from statements(child)


def imported(module: str) -> set[str]:
    """Files of atlaseg that a file imports, also inside functions."""
    found = set()
    for node in statements(ast.parse(SOURCES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in SOURCES else str(node.module))
    return (found & set(SOURCES)) - {module}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """One circle of a graph, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_imports_are_found():
    assert "atlaseg.pipeline.errors" in imported("atlaseg.atlases.registration.register")
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) != []


def test_no_circle_of_files():
    assert circle({module: imported(module) for module in SOURCES}) == []


def test_only_one_import_name():
    """``from pipeline ...`` works in no installed copy, ``from . import`` hides where a thing stands."""
    other = re.compile(rf"^ *(from|import) +({'|'.join(PARTS)}|\.+)\b.*", re.MULTILINE)
    files = (*SOURCES.values(), *files_of_tests())
    assert [f"{shown(p)}: {m[0]}" for p in files for m in other.finditer(p.read_text("utf-8"))] == []


def methods() -> list[str]:
    from atlaseg.workflows.methods.families import all_methods

    return sorted(all_methods())


#: Files of `workflows` that may name methods, beside those of a family.
OF_CERTAIN_METHODS = {
    "workflows/scripting.py": "examples in the docstrings of the Python API",
    "workflows/studies/fusion_rules.py": "compares two rules with other packages",
}


def test_workflows_name_no_method():
    """Which methods there are is said by the registries; only the file of a family may know one by name."""
    assert len(methods()) > 20
    named = re.compile(rf"(?<![\w.-])({'|'.join(map(re.escape, methods()))})(?![\w.-])")
    astray = []
    for path in (ROOT / "workflows").rglob("*.py"):
        families = path.parent.parent == ROOT / "workflows" / "methods"
        if families or shown(path) in OF_CERTAIN_METHODS:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                astray += [f"{shown(path)}:{node.lineno}: {found}" for found in named.findall(node.value)]
    assert astray == []


def test_every_folder_says_what_it_holds():
    silent = []
    for path in SOURCES.values():
        if path.stem == "__init__":
            first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
            if not first.strip():
                silent.append(shown(path))
    assert silent == []


def test_what_is_installed(monkeypatch):
    """Every folder with Python files, no other, and each with its ``__init__.py``."""
    given = {}
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("setuptools.setup", lambda **settings: given.update(settings))
    runpy.run_path("setup.py")
    installed = given["packages"]
    folders = {path.parent.relative_to(ROOT) for path in SOURCES.values()}
    names = {".".join(f.parts if f.parts[0] == "atlaseg" else ("atlaseg", *f.parts)) for f in folders}
    assert set(installed) == names
    assert [name for name, count in Counter(installed).items() if count > 1] == []


@pytest.mark.parametrize("part", PARTS)
def test_the_tree_leads_to_the_source(part):
    link = ROOT / "tree" / "atlaseg" / part
    assert link.resolve() == ROOT / part, "run `make tree`"


def warn(module: str, category: type[Warning]) -> None:
    """Warn as a module of a given name does."""
    scope: dict[str, Any] = {"__name__": module, "category": category}
    exec("import warnings\nwarnings.warn('made up', category)", scope)


@pytest.mark.parametrize(
    "module", ["atlaseg", "atlaseg.pipeline.case", "atlaseg.workflows.benchmarking.cells"]
)
@pytest.mark.parametrize("category", [UserWarning, DeprecationWarning, RuntimeWarning, FutureWarning])
def test_warnings_of_our_code_are_errors(module, category):
    with pytest.raises(category, match="made up"):
        warn(module, category)


@pytest.mark.filterwarnings("default:made up:UserWarning:library")
def test_other_warnings_are_not():
    with warnings.catch_warnings(record=True) as seen:
        warn("library", UserWarning)
        warn("atlaseg.pipeline.case", AtlasegWarning)
    assert [w.category for w in seen] == [UserWarning, AtlasegWarning]
