"""Tables: atlaseg's rows and those of installed packages, names without imports, clashes and broken rows in words."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest

from atlaseg.pipeline.errors import OptionError, PackageError
from atlaseg.pipeline.registry import METHODS, MethodRow, Registry, Row

SIZES = "atlaseg.sizes"


@dataclass(frozen=True)
class PacedRow(MethodRow):
    """A method of one family, with a fact of its own."""

    pace: float


@dataclass(frozen=True)
class OtherRow(MethodRow):
    """A method of another family."""


def sizes() -> Registry[Row]:
    return Registry(
        "size",
        Row,
        [
            Row("big", "a lot", "math:inf", aliases=("large",)),
            Row("round", "of a circle", "math:pi", source="Euclid"),
        ],
        group=SIZES,
    )


def paces() -> Registry[PacedRow]:
    return Registry("pace", PacedRow, [PacedRow("walk", "slow", "math:e", 5.0)], group="atlaseg.paces")


ROW = "from atlaseg.pipeline.registry import Row\nROW = Row({name!r}, 'added', 'math:tau'{more})\n"


def row(name: str, more: str = "") -> str:
    return ROW.format(name=name, more=more)


def test_own_rows() -> None:
    table = sizes()
    assert table.names() == ("big", "round")
    assert [entry.source for entry in table.rows()] == ["", "Euclid"]
    assert table.find("large") is table.find("big")
    assert "large" in table
    assert "small" not in table
    assert table.load("round") == pytest.approx(3.14159265)


def test_unknown_name_lists_the_names() -> None:
    with pytest.raises(OptionError, match=r"^no size 'small'; choose one of big, round$"):
        sizes().find("small")


def test_two_own_rows_of_one_name_are_a_fault_of_the_code() -> None:
    with pytest.raises(ValueError, match="size 'x' has two rows"):
        Registry("size", Row, [Row("x", "", "a:b"), Row("y", "", "a:b", aliases=("x",))], group=SIZES)


def test_a_package_adds_a_row(installed) -> None:
    installed.add(
        "my-sizes", {SIZES: {"tall": "sizes_tall:ROW"}}, sizes_tall=row("tall", ", aliases=('high',)")
    )
    table = sizes()
    assert table.names() == ("big", "round", "tall")
    assert "tall" in table
    assert "sizes_tall" not in sys.modules  # names are listed without importing
    found = table.find("tall")
    assert found.package == "my-sizes 1.0"
    assert table.find("high") == found
    assert table.rows()[-1] == found
    assert found.load() == pytest.approx(6.2831853)


def test_a_name_that_is_taken_twice_is_refused(installed) -> None:
    installed.add("my-sizes", {SIZES: {"big": "sizes_my:ROW"}}, sizes_my=row("big"))
    installed.add("her-sizes", {SIZES: {"tall": "sizes_her:ROW"}}, sizes_her=row("tall"))
    installed.add("his-sizes", {SIZES: {"tall": "sizes_his:ROW"}}, sizes_his=row("tall"))
    table = sizes()
    with pytest.raises(
        PackageError, match=r"^size 'big' is in atlaseg and my-sizes 1\.0; uninstall all but one"
    ):
        table.find("big")
    with pytest.raises(PackageError, match=r"^size 'tall' is in her-sizes 1\.0 and his-sizes 1\.0"):
        table.find("tall")
    with pytest.raises(PackageError, match="size 'big'"):
        table.rows()
    assert table.find("round").name == "round"  # the others still work
    assert table.names() == ("big", "round", "tall")


def test_an_alias_that_a_package_takes_is_refused(installed) -> None:
    installed.add("my-sizes", {SIZES: {"large": "sizes_my:ROW"}}, sizes_my=row("large"))
    with pytest.raises(PackageError, match=r"size 'large' is in atlaseg and my-sizes 1\.0"):
        sizes().find("large")


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("ROW = 'tall'", "entry point tall of atlaseg.sizes: expected a Row, found str"),
        (
            row("small"),
            "entry point tall of atlaseg.sizes names a row called 'small'; both must be the same word",
        ),
        (
            "1 / 0",
            r"its entry point tall of atlaseg.sizes \(sizes_my:ROW\) cannot be imported \(ZeroDivisionError",
        ),
    ],
)
def test_broken_rows(installed, module: str, message: str) -> None:
    installed.add("my-sizes", {SIZES: {"tall": "sizes_my:ROW"}}, sizes_my=module)
    with pytest.raises(PackageError, match=f"^package my-sizes 1.0: {message}"):
        sizes().find("tall")
    with pytest.raises(PackageError, match=message):
        sizes().rows()
    with pytest.raises(OptionError, match="no size 'small'"):  # no fault of the package
        sizes().find("small")


def test_names_are_words(installed) -> None:
    installed.add("my-sizes", {SIZES: {"../x": "sizes_my:ROW"}}, sizes_my=row("../x"))
    with pytest.raises(PackageError, match="both must be the same word of small letters, digits and hyphens"):
        sizes().find("../x")


def test_code_of_a_row_that_cannot_be_imported(installed) -> None:
    text = "from atlaseg.pipeline.registry import Row\nROW = Row('tall', 'added', 'no_such_module:X')"
    installed.add("my-sizes", {SIZES: {"tall": "sizes_my:ROW"}}, sizes_my=text)
    with pytest.raises(
        PackageError,
        match=r"^package my-sizes 1\.0: tall's code \(no_such_module:X\) cannot be imported \(Module",
    ):
        sizes().load("tall")


def test_the_group_of_methods_holds_methods_of_any_family(installed) -> None:
    head = f"from {PacedRow.__module__} import PacedRow, OtherRow\n"
    sys.modules.setdefault(PacedRow.__module__, sys.modules[__name__])
    installed.add(
        "my-methods",
        {METHODS: {"run": "methods_my:RUN", "fly": "methods_my:FLY"}},
        methods_my=f"{head}RUN = PacedRow('run', 'fast', 'math:pi', 9.0)\nFLY = OtherRow('fly', 'faster', 'math:e')\n",
    )
    table = paces()
    assert table.names() == ("walk", "run")
    assert [(entry.name, entry.pace, entry.package) for entry in table.rows()] == [
        ("walk", 5.0, ""),
        ("run", 9.0, "my-methods 1.0"),
    ]
    with pytest.raises(OptionError, match="no pace 'fly'; choose one of walk, run"):
        table.find("fly")
    others = Registry("way", OtherRow, [], group=METHODS)
    assert others.names() == ("fly",)
    assert [entry.name for entry in others.rows()] == ["fly"]


def test_what_is_no_method_is_refused_in_the_group_of_methods(installed) -> None:
    installed.add(
        "my-methods", {METHODS: {"tall": "methods_my:ROW", "odd": "methods_odd:ROW"}}, methods_my=row("tall")
    )
    message = "package my-methods 1.0: entry point tall of atlaseg.methods: expected a MethodRow, found Row"
    with pytest.raises(PackageError, match=message):
        paces().find("tall")
    with pytest.raises(PackageError, match=r"odd of atlaseg.methods \(methods_odd:ROW\) cannot be imported"):
        paces().find("odd")
    assert paces().names() == ("walk",)  # which family a broken one is of is not known
    with pytest.raises(OptionError, match="no pace 'fly'"):
        paces().find("fly")
    assert sizes().names() == ("big", "round")  # a table of what is no method does not look there
