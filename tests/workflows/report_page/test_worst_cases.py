from __future__ import annotations

import base64
import io
import re

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from atlaseg.pipeline.case import Case
from atlaseg.workflows.report_page.folder import read_benchmark
from atlaseg.workflows.report_page.palette import method_styles
from atlaseg.workflows.report_page.voxels import find_truths
from atlaseg.workflows.report_page.worst_cases import choose_cases, draw_case


@pytest.fixture(scope="module")
def drawn(made_benchmark):
    benchmark = read_benchmark(made_benchmark.out)
    styles = method_styles(benchmark.methods)
    problems: list[str] = []

    def draw(truths, case="case_03"):
        return draw_case(benchmark, truths, case, [], styles, None, "key", problems)

    return benchmark, styles, draw, problems


def pictures(figure):
    found = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=]+)", figure)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in found]


def test_worst_cases_are_the_worst(drawn):
    benchmark, styles, _, _ = drawn
    chosen = choose_cases(benchmark, styles, None, 10)
    for name, style in styles.items():
        rows = benchmark.scores("dice", None)
        means = rows[rows["method"] == name].groupby("case")["value"].mean()
        assert style in chosen[means.idxmin()]
    assert next(iter(chosen)) == "case_03"  # watershed failed on it
    assert len(choose_cases(benchmark, styles, None, 1)) == 1
    assert choose_cases(benchmark, styles, None, 0) == {}


def test_a_tile_for_each_method_and_one_picture_of_the_scan(drawn):
    benchmark, styles, draw, problems = drawn
    case = draw(find_truths(benchmark, None))
    assert problems == []
    assert [tile.style for tile in case.tiles] == [None, *styles.values()]
    assert len(pictures(case.tiles[0].figure)) == 3
    assert [len(pictures(tile.figure)) for tile in case.tiles[1:-1]] == [0] * (len(styles) - 1)
    failed = case.tiles[-1]
    assert (failed.style.label, failed.score, failed.figure) == ("watershed", 0.0, None)
    for tile in case.tiles[1:-1]:
        assert tile.style.colour in tile.figure


def test_axes_on_disk_do_not_matter(drawn, made_benchmark, tmp_path):
    benchmark = drawn[0]
    truths = find_truths(benchmark, None)
    case = truths["case_03"]
    # on disk they are LPS; a copy in RAS gives the same picture (without methods, whose grid is the old one)
    for kind, path in (("image", case.images[0]), ("label", case.label)):
        nib.save(nib.as_closest_canonical(nib.load(path)), tmp_path / f"{kind}.nii.gz")
    turned = Case("case_03", (tmp_path / "image.nii.gz",), tmp_path / "label.nii.gz")
    only = read_benchmark(made_benchmark.out)
    object.__setattr__(only, "cells", ())
    styles = method_styles(only.methods)
    figures = [
        draw_case(only, {"case_03": c}, "case_03", [], styles, None, "key", []).tiles[0].figure
        for c in (case, turned)
    ]
    assert figures[0] == figures[1]


def test_picture_is_the_slice(made_benchmark):
    benchmark = read_benchmark(made_benchmark.out)
    truths = find_truths(benchmark, None)
    object.__setattr__(benchmark, "cells", ())
    styles = method_styles(benchmark.methods)
    figure = draw_case(benchmark, truths, "case_01", [], styles, None, "key", []).tiles[0].figure
    scan, label = (
        np.asarray(nib.load(p).dataobj) for p in (truths["case_01"].images[0], truths["case_01"].label)
    )
    at = int((label != 0).sum((0, 1)).argmax())
    ends = [
        (max(int(i.min()) - margin, 0), int(i.max()) + margin + 1)
        for i, margin in zip(np.nonzero(label), (8, 8, 7), strict=True)
    ]
    # LPS: rows from anterior to posterior, columns from right to left
    plane = scan[ends[0][0] : ends[0][1], ends[1][0] : ends[1][1], at].T
    axial = pictures(figure)[2]
    assert axial.shape == plane.shape
    inside = (axial > 0) & (axial < 255)
    assert np.corrcoef(axial[inside], plane[inside])[0, 1] > 0.9999


def test_what_cannot_be_drawn_is_reported(drawn):
    _, _, draw, problems = drawn
    assert draw({}) is None
    assert problems.pop().startswith("case case_03 is not drawn: it is not in the data set")
