"""Scores from files: the same as those of the arrays in them, and what is refused."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.errors import DatasetError, GeometryError, LabelError, MissingFileError
from atlaseg.pipeline.evaluation.case_files import compare_files
from atlaseg.pipeline.evaluation.scores import missing_prediction, score_case

LABELS = LabelTable.from_names({"a": 2, "b": 7})
SPACING = (0.5, 2.0, 3.0)


def save(path, voxels, affine=None):
    nib.save(
        nib.Nifti1Image(voxels.astype(np.uint8), np.diag([*SPACING, 1]) if affine is None else affine), path
    )
    return path


@pytest.fixture
def files(tmp_path):
    found, truth = np.random.default_rng(0).choice([0, 2, 7], (2, 6, 5, 4))
    return save(tmp_path / "truth.nii.gz", truth), save(tmp_path / "found.nii.gz", found), truth, found


def test_scores_are_those_of_the_arrays(files):
    reference, prediction, truth, found = files
    result = compare_files("x", reference, prediction, LABELS, 2.0, "elements")
    expected = score_case(found, truth, LABELS, SPACING, 2.0, case="x", surface="elements")
    assert list(result.scores) == expected
    assert result.confusion.sum() == truth.size
    missing = compare_files("x", reference, None, LABELS)
    assert missing.scores == missing_prediction(truth, LABELS, SPACING, case="x").scores
    assert not missing.confusion.any()


def test_what_is_refused(files, tmp_path):
    reference, prediction, _, found = files
    with pytest.raises(DatasetError, match="case x has no label map"):
        compare_files("x", None, prediction, LABELS)
    with pytest.raises(MissingFileError, match=r"gone\.nii"):
        compare_files("x", reference, tmp_path / "gone.nii", LABELS)
    other = save(tmp_path / "other.nii.gz", found, np.diag([1, 2, 3, 1]))
    with pytest.raises(GeometryError, match=r"other\.nii\.gz: not on the grid of .*truth\.nii\.gz"):
        compare_files("x", reference, other, LABELS)
    with pytest.raises(LabelError, match=r"truth\.nii\.gz: unknown label values \[7\]"):
        compare_files("x", reference, prediction, LabelTable.from_names({"a": 2}))
