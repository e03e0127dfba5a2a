"""Which label maps are compared with which."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from atlaseg.pipeline.errors import DatasetError, MissingFileError
from atlaseg.workflows.inputs.pairing import pair_files


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4)), path)


def test_pairing(tmp_path):
    for name in ("truth/a.nii.gz", "truth/b.nii", "truth/.hidden.nii.gz", "found/a.nii", "found/z.nii.gz"):
        save(tmp_path / name)
    truth, found = tmp_path / "truth", tmp_path / "found"
    assert [(p.case, p.prediction and p.prediction.name) for p in pair_files(found, truth).pairs] == [
        ("a", "a.nii"),
        ("b", None),
    ]
    (only,) = pair_files(found / "a.nii", truth).pairs  # a file asks for one case, the others are not missing
    assert only.reference == truth / "a.nii.gz"
    (two,) = pair_files(found / "z.nii.gz", truth / "b.nii").pairs
    assert (two.case, two.prediction) == ("b", found / "z.nii.gz")
    with pytest.raises(DatasetError, match=r"nothing to compare.*found z, expected a, b"):
        pair_files(found / "z.nii.gz", truth)
    with pytest.raises(MissingFileError, match="nowhere"):
        pair_files(tmp_path / "nowhere", truth)
    save(truth / "a.nii")
    with pytest.raises(DatasetError, match="remove one"):
        pair_files(found, truth)


def test_files_beside_label_maps_are_no_label_maps(tmp_path):
    truth, found = tmp_path / "truth", tmp_path / "found"
    for name in ("a", "a_probabilities"):
        save(found / f"{name}.nii.gz")
    save(truth / "a.nii.gz")
    pairing = pair_files(found, truth)
    assert [pair.case for pair in pairing.pairs] == ["a"]
    assert pairing.notes == ()
    # a case may be called so
    save(truth / "b_probabilities.nii.gz")
    save(found / "b_probabilities.nii.gz")
    assert [pair.case for pair in pair_files(found, truth).pairs] == ["a", "b_probabilities"]
