"""Files of scores: pandas reads back every digit; JSON holds no NaN."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.evaluation.score_files import write_csv, write_json
from atlaseg.pipeline.evaluation.scores import score_case, score_columns
from atlaseg.pipeline.evaluation.statistics import summarise

LABELS = LabelTable.from_names({"thalamus, left": 3, 'the "other"': 7})


def make_scores():
    rng = np.random.default_rng(0)
    reference = rng.choice([0, 3], (6, 7, 8))
    prediction = rng.choice([0, 3, 7], (6, 7, 8))
    return score_case(prediction, reference, LABELS, (0.3, 0.7, 1.1), case="é 1") + score_case(
        reference, reference, LABELS, (0.3, 0.7, 1.1), case="b"
    )


def test_csv_keeps_every_digit(tmp_path):
    scores = make_scores()
    write_csv(tmp_path / "t.csv", scores)
    numbers = ("dice", "assd_mm", "volume_difference_ml", "surface_dice")
    # Python's own float: what pandas does with the last digit by default differs between its versions
    table = pd.read_csv(tmp_path / "t.csv", keep_default_na=True, converters=dict.fromkeys(numbers, float))
    assert tuple(table.columns) == score_columns()
    assert table["structure"].tolist() == ["thalamus, left", 'the "other"'] * 2
    assert table["case"].tolist() == ["é 1", "é 1", "b", "b"]
    for name in numbers:
        assert table[name].tolist() == [s[name] for s in scores]
    assert np.isnan(table["volume_difference_percent"][1])  # only the prediction has the structure
    assert table["note"][1] == "reference empty"


def test_json_is_strict_and_complete(tmp_path):
    scores = [s for s in make_scores() if s.case == "é 1"]
    confusion = np.arange(9).reshape(3, 3)
    write_json(tmp_path / "t.json", summarise(scores), confusion, LABELS, {"tolerance_mm": 1.0})

    def refuse(text):
        raise AssertionError(text)

    content = json.loads((tmp_path / "t.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert content["tolerance_mm"] == 1.0
    assert [s["structure"] for s in content["summary"]] == [*LABELS.names[1:], "all structures"]
    assert content["summary"][1]["metrics"]["volume_difference_percent"] is None
    assert content["summary"][0]["metrics"]["dice"]["interval"] is None
    assert content["confusion_matrix"]["counts"] == confusion.tolist()
    assert content["confusion_matrix"]["values"] == [0, 3, 7]
