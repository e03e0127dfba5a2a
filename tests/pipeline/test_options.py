"""``name=value``: every reader of options understands the same words, and refuses the same."""

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.options import read_options, read_value

Word = Literal["none", "atlases", "yes"]


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("1e-1", float, 0.1),
        ("1E5", float, 1e5),
        (".5", float, 0.5),
        ("3", float, 3.0),
        ("-7", int, -7),
        ("none", int | None, None),
        ("NULL", float | None, None),
        ("none", Word, "none"),
        ("yes", Word, "yes"),
        ("no", bool, False),
        ("True", bool, True),
        ("on", str, "on"),
        ("1e3", str, "1e3"),
        ("'a, b'", str, "a, b"),
        ("2,2,0", tuple[int, int, int], (2, 2, 0)),
        ("[2, 2, 0]", tuple[int, int, int], (2, 2, 0)),
        ("(0.5)", tuple[float, ...], (0.5,)),
        ("4", tuple[int, ...], (4,)),
        ("[]", tuple[int, ...], ()),
        ("2", int | tuple[int, int, int] | None, 2),
        ("2,1,1", int | tuple[int, int, int] | None, (2, 1, 1)),
        ("[[1,2],[3,4]]", tuple[tuple[int, int], ...], ((1, 2), (3, 4))),
        ("(1,2),(3,4)", tuple[tuple[int, int], ...], ((1, 2), (3, 4))),
        ("a, 'b'", tuple[str, ...], ("a", "b")),
    ],
)
def test_values(text: str, hint: Any, value: Any) -> None:
    found = read_value(text, hint, "x")
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", int),
        ("1.0", int),
        ("1e3", int),
        ("1_000", int),
        ("٣", int),
        ("9" * 5000, int),
        ("9" * 5000, float),
        ("nan", float),
        ("inf", float),
        ("-Infinity", float),
        ("1e400", float),
        ("0x10", int),
        ("none", int),
        ("maybe", bool),
        ("1", bool),
        ("2,2", tuple[int, int, int]),
        ("2,,2", tuple[int, int, int]),
        ("[2,2,0", tuple[int, int, int]),
        ("2,2,0]", tuple[int, int, int]),
        ("[1],[2]", tuple[int, ...]),
        ("x", int | tuple[int, int, int] | None),
        ("other", Word),
        ("{a: 1}", int),
    ],
)
def test_what_is_not_understood_is_refused(text: str, hint: Any) -> None:
    with pytest.raises(OptionError, match=r"^where: expected ") as raised:
        read_value(text, hint, "where")
    assert "\n" not in str(raised.value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_number_that_python_writes_is_read(number: float) -> None:
    assert read_value(repr(number), float, "x") == number


@pytest.mark.thorough
@given(st.text(), st.sampled_from([int, float, bool, tuple[int, ...], int | None, Word]))
def test_any_text_is_read_or_refused(text: str, hint: Any) -> None:
    try:
        found = read_value(text, hint, "x")
    except OptionError as error:  # and no other exception
        assert str(error).startswith("x: expected ")  # noqa: PT017 (what can be read is no error)
    else:
        assert read_value(str(found).strip("()[]"), hint, "x") == found


@pytest.mark.parametrize("words", [["a"], ["=1"], ["a=1", "a=2"], ["b=1"], ["a=x"]])
def test_words_that_are_no_options(words: list[str]) -> None:
    with pytest.raises(OptionError, match="a rule"):
        read_options(words, {"a": int}, "a rule")


def test_every_kind_of_option_reads_alike() -> None:
    from atlaseg.atlases.fusion.registry import read_options as of_fusion
    from atlaseg.pipeline.case import LabelTable
    from atlaseg.pipeline.classical.registry import read_options as of_method
    from atlaseg.pipeline.planning.plan import Plan
    from atlaseg.pipeline.planning.plan_file import override_plan
    from atlaseg.workflows.benchmarking.entries import read_entries

    plan = Plan("made", ("T1",), LabelTable.from_values([1]))
    assert of_fusion("joint", ["alpha=1e-1"]) == {"alpha": 0.1}
    assert of_method("knn", ["slack=1e-1"]) == {"slack": 0.1}
    assert override_plan(plan, ["network.dropout=1e-1"]).network.dropout == 0.1
    assert read_entries(["unet:minutes=1e-1"])[0].train["minutes"] == 0.1
    assert of_fusion("joint", ["vote_radius=none"]) == {"vote_radius": None}
    assert of_method("split-merge", ["noise=none"]) == {"noise": None}
    assert override_plan(plan, ["training.ema=none"]).training.ema is None
    assert read_entries(["majority:keep=none"])[0].train["keep"] is None
    assert of_fusion("joint", ["patch_radius=[1,1,0]"]) == {"patch_radius": (1, 1, 0)}
    assert of_method("knn", ["sigmas_mm=(1,2)"]) == {"sigmas_mm": (1.0, 2.0)}
    assert override_plan(plan, ["patch_size=32,32,16"]).patch_size == (32, 32, 16)
    assert of_method("gmm", ["use_prior=yes"]) == {"use_prior": True}
    assert override_plan(plan, ["inference.tta=yes"]).inference.tta
