"""Whole methods come from installed packages alone."""

from __future__ import annotations

from atlaseg.pipeline.whole_methods import WHOLE_METHODS

MODULE = """
from atlaseg.pipeline.whole_methods import WholeMethod
ROW = WholeMethod("mean-label", "the most frequent label", "whole_mean:MeanLabel")
class MeanLabel: ...
"""


def test_atlaseg_has_none_of_its_own() -> None:
    assert WHOLE_METHODS.rows() == []


def test_a_package_brings_one(installed) -> None:
    installed.add("means", {"atlaseg.methods": {"mean-label": "whole_mean:ROW"}}, whole_mean=MODULE)
    assert WHOLE_METHODS.names() == ("mean-label",)
    assert WHOLE_METHODS.load("mean-label").__name__ == "MeanLabel"
