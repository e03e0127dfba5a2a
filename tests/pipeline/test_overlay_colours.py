"""Colours of overlays: distinct, and opaque enough to name a structure."""

from __future__ import annotations

from matplotlib.colors import to_hex, to_rgb

from atlaseg.pipeline.overlay_colours import (
    FIXED_COLOUR,
    METHOD_COLOURS,
    MOVING_COLOUR,
    TRUTH_COLOUR,
    structure_colours,
)


def test_structures_have_the_colours_of_tab20_every_other_one_first() -> None:
    colours = [to_hex(colour) for colour in structure_colours(20)]
    # the first two hues of matplotlib's tab20, blue and orange, then the light blue that follows all dark ones
    assert colours[:2] == ["#1f77b4", "#ff7f0e"]
    assert colours[10] == "#aec7e8"
    assert len(set(colours)) == 20
    assert [to_hex(colour) for colour in structure_colours(21)][20] == colours[0]


def test_methods_and_truth_differ() -> None:
    colours = [to_rgb(colour) for colour in (*METHOD_COLOURS, TRUTH_COLOUR)]
    assert len(set(colours)) == len(colours)


def test_fixed_and_moving_add_up_to_white() -> None:
    assert tuple(a + b for a, b in zip(FIXED_COLOUR, MOVING_COLOUR, strict=True)) == (1.0, 1.0, 1.0)
