"""The box plot is a picture of the right size that grows with the structures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from matplotlib.image import imread

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.evaluation.box_plot import write_box_plot
from atlaseg.pipeline.evaluation.scores import missing_prediction, score_case


def make_scores(structures, cases=4):
    labels = LabelTable.from_values(range(1, structures + 1))
    reference = np.arange(8 * 8 * 8).reshape(8, 8, 8) % (structures + 1)
    rows = score_case(reference, reference, labels, (1, 1, 1))
    rng = np.random.default_rng(0)
    measured = [
        replace(r, case=str(i), numbers={**r.numbers, "dice": rng.random(), "hd95_mm": 3 * rng.random()})
        for i in range(cases)
        for r in rows
    ]
    return [*measured, *missing_prediction(reference, labels, (1, 1, 1), case="gone").scores]


def test_size_follows_the_number_of_structures(tmp_path):
    for count in (2, 12):
        write_box_plot(tmp_path / f"{count}.png", make_scores(count), 1.0)
    small, large = (imread(tmp_path / f"{count}.png") for count in (2, 12))
    assert small.shape[1] == large.shape[1] == 1440
    assert large.shape[0] > small.shape[0]
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_structure_missing_in_every_case_is_drawn(tmp_path):
    scores = [s for s in make_scores(2) if s.case == "gone"]
    write_box_plot(tmp_path / "gone.png", scores, 1.0)
    red = imread(tmp_path / "gone.png")[..., :3] @ [1, -0.5, -0.5]
    assert (red > 0.3).sum() > 20
