"""The comparison of registrations and fusion rules, on simple shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from atlaseg.pipeline.errors import AtlasegError, OptionError
from atlaseg.workflows.studies.atlas_methods import (
    AtlasBenchmark,
    Row,
    mean_dice,
    parse_registration,
    summary,
)


@pytest.mark.thorough
def test_leave_one_out_and_going_on(
    shapes_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = AtlasBenchmark(shapes_folder, tmp_path, ("elastix:rigid",), ("majority", "local-weighted"))
    assert job.run() == 0
    table = pd.read_csv(tmp_path / "scores.csv")
    assert len(table) == 5 * 3
    assert set(table.fusion) == {"single", "majority", "local-weighted"}
    assert table.dice.between(0, 1).all()
    # many atlases together beat each by itself
    means = table.groupby("fusion").dice.mean()
    assert means["local-weighted"] > means["single"]
    assert "mean Dice" in capsys.readouterr().out
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "registrations").rglob("*.h5")}
    assert kept
    assert job.run() == 0
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    again = pd.read_csv(tmp_path / "scores.csv")
    np.testing.assert_array_equal(again.dice, table.dice)


def test_first_cases_label_the_last(shapes_folder: Path, tmp_path: Path) -> None:
    AtlasBenchmark(shapes_folder, tmp_path, ("elastix:rigid",), ("majority",), first=2, last=1).run()
    table = pd.read_csv(tmp_path / "scores.csv")
    names = sorted(path.name.removesuffix(".nii.gz") for path in (shapes_folder / "imagesTr").iterdir())
    assert set(table.case) == {names[-1]}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"registrations": ("elastix",)}, "ENGINE:TRANSFORM"),
        ({"registrations": ("elastix:syn",)}, "engines that have it"),
        ({"registrations": ("nothing:affine",)}, "no registration engine"),
        ({"registrations": ("elastix:bspline:sideways",)}, "linear start"),
        ({"fusions": ("vote",)}, "no fusion rule"),
        ({"first": 3}, "go together"),
        ({"first": 3, "last": 3}, "choose fewer"),
    ],
)
def test_mistakes_are_reported_before_any_work(
    shapes_folder: Path, tmp_path: Path, change: dict[str, object], words: str
) -> None:
    with pytest.raises(OptionError, match=words) as caught:
        AtlasBenchmark(shapes_folder, tmp_path / "out", **change).run()  # type: ignore[arg-type]
    assert isinstance(caught.value, AtlasegError)
    assert not (tmp_path / "out").exists()


def test_parts_of_a_registration() -> None:
    options = parse_registration("ants:syn:rigid", quality_control=False, seed=3)
    assert (options.engine, options.transform, options.linear) == ("ants", "syn", "rigid")
    assert (options.quality_control, options.seed) == (False, 3)


def test_mean_over_structures() -> None:
    truth = np.array([[[0, 1, 1, 2]]])
    assert mean_dice(np.array([[[0, 1, 0, 2]]]), truth, 3) == pytest.approx((2 / 3 + 1) / 2)


def test_summary_has_the_worst_case() -> None:
    rows = [Row("a:b", "joint", name, dice, 1, 2.0, 0.5) for name, dice in (("x", 0.5), ("y", 0.9))]
    line = summary(rows).splitlines()[1].split()
    assert line == ["a:b", "joint", "2", "0.7000", "0.500", "2", "2.00", "0.50"]
