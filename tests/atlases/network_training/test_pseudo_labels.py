"""Labels by atlases for scans without any: what is written, kept and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.atlases.multi_atlas_segmenter import MultiAtlasSegmenter
from atlaseg.atlases.network_training.pseudo_labels import certainty, write_pseudo_labels
from atlaseg.atlases.propagation.propagation import PropagationOptions
from atlaseg.atlases.registration.stage import Stage
from atlaseg.pipeline.datasets import read_dataset
from atlaseg.pipeline.errors import DatasetError, OptionError
from atlaseg.pipeline.io.volume import read_image

QUICK = PropagationOptions(
    transform=(Stage("rigid", shrink=(1,), smoothing_mm=(0.0,), iterations=(20,), samples=500),)
)


@pytest.fixture(scope="module")
def segmenter(shapes_folder: Path) -> MultiAtlasSegmenter:
    dataset = read_dataset(shapes_folder)
    atlases = AtlasSet.from_dataset(dataset.subset([case.name for case in dataset.labelled[:3]]))
    return MultiAtlasSegmenter(options=QUICK).fit_atlases(atlases)


@pytest.fixture
def scans(shapes_folder: Path) -> dict[str, tuple[Path, ...]]:
    files = sorted((shapes_folder / "imagesTr").glob("*.nii.gz"))[3:]
    return {f"scan_{number}": (file,) for number, file in enumerate(files)}


@pytest.mark.thorough
def test_what_is_written(segmenter: MultiAtlasSegmenter, scans: Any, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    found = write_pseudo_labels(
        segmenter,
        scans,
        tmp_path,
        with_prior=True,
        progress=lambda done, total, what: steps.append((done, total)),
    )
    assert steps == [(1, 2), (2, 2)]
    for case, (name, files) in zip(found, scans.items(), strict=True):
        assert case.name == name
        assert case.images == files
        expected = segmenter.segment(read_image(files), probabilities=True)
        np.testing.assert_array_equal(np.asarray(nib.load(case.label).dataobj), expected.label_map)
        prior = np.asarray(nib.load(case.prior).dataobj)
        np.testing.assert_allclose(np.moveaxis(prior, -1, 0), expected.probabilities, atol=1e-5)
        assert case.certainty == pytest.approx(certainty(np.asarray(expected.probabilities)), abs=1e-4)
        assert 0.4 < case.certainty <= 1


def test_finished_scans_are_kept(segmenter: MultiAtlasSegmenter, scans: Any, tmp_path: Path) -> None:
    first = write_pseudo_labels(segmenter, scans, tmp_path, with_prior=False)
    assert all(case.prior is None for case in first)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "labels").iterdir()}
    (tmp_path / "scan_1.json").unlink()
    assert write_pseudo_labels(segmenter, scans, tmp_path, with_prior=False) == first
    again = {path for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert again == {tmp_path / "labels" / "scan_1.nii.gz"}
    with pytest.raises(OptionError, match="other settings"):
        write_pseudo_labels(segmenter, scans, tmp_path, with_prior=True)


def test_a_scan_without_any_structure_is_left_out(
    segmenter: MultiAtlasSegmenter, scans: Any, tmp_path: Path
) -> None:
    found = write_pseudo_labels(segmenter, scans, tmp_path, with_prior=False)
    assert len(found) == 2
    (tmp_path / "scan_0.json").write_text(json.dumps({"certainty": 0.0}))
    assert [case.name for case in write_pseudo_labels(segmenter, scans, tmp_path, with_prior=False)] == [
        "scan_1"
    ]


def test_a_labelled_scan_is_no_unlabelled_one(
    segmenter: MultiAtlasSegmenter, shapes_folder: Path, tmp_path: Path
) -> None:
    name = segmenter.atlases.names[0]
    scans = {name: (shapes_folder / "imagesTr" / f"{name}.nii.gz",)}
    with pytest.raises(DatasetError, match="name of a labelled one"):
        write_pseudo_labels(segmenter, scans, tmp_path, with_prior=False)


def test_certainty_of_nothing_but_background() -> None:
    assert certainty(np.stack([np.ones((2, 2, 2)), np.zeros((2, 2, 2))])) == 0
