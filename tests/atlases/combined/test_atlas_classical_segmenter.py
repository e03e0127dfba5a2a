"""A classical method with a prior from atlases: weights come from held-out scans; weight 0 is the method alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.atlases.combined.atlas_classical_segmenter import AtlasClassicalSegmenter
from atlaseg.atlases.combined.combined_bundle import WEIGHT, is_atlas_classical_bundle
from atlaseg.atlases.combined.weight_learning import CLASSICAL_WEIGHTS
from atlaseg.atlases.multi_atlas_segmenter import MultiAtlasSegmenter
from atlaseg.atlases.propagation.propagation import PropagationOptions
from atlaseg.atlases.registration.stage import Stage
from atlaseg.pipeline.classical.classical_segmenter import ClassicalSegmenter
from atlaseg.pipeline.datasets import read_dataset
from atlaseg.pipeline.errors import DatasetError, MissingFileError, OptionError, UnreadableFileError
from atlaseg.pipeline.io.volume import read_image, read_label_map

RIGID = PropagationOptions(
    transform=(Stage("rigid", shrink=(1,), smoothing_mm=(0.0,), iterations=(20,), samples=500),)
)
LIGHT = {"components": 3, "max_samples": 5000, "max_iterations": 5, "strength": 0.3, "contrast": 1.0}


def make(**options: Any) -> AtlasClassicalSegmenter:
    given = {"method": "mrf", "options": LIGHT, "propagation": RIGID, "correct": False}
    return AtlasClassicalSegmenter(**{**given, **options})


@pytest.fixture(scope="module")
def shapes(shapes_folder: Path) -> AtlasSet:
    everything = AtlasSet.from_dataset(read_dataset(shapes_folder))
    return everything.subset(everything.names[:4])


@pytest.fixture(scope="module")
def fitted(shapes: AtlasSet) -> AtlasClassicalSegmenter:
    return make(weight=0.5).fit_atlases(shapes)


@pytest.fixture(scope="module")
def scan(shapes_folder: Path) -> Any:
    return read_image(read_dataset(shapes_folder).labelled[-1].images)


@pytest.mark.thorough
def test_the_atlases_count_only_with_a_weight(fitted: Any, shapes: AtlasSet, scan: Any) -> None:
    alone = ClassicalSegmenter(method="mrf", options=LIGHT).fit(shapes.dataset)
    method = alone.segment(scan, probabilities=True)
    both = fitted.segment(scan, probabilities=True)
    assert not np.array_equal(both.label_map, method.label_map)
    np.testing.assert_allclose(np.asarray(both.probabilities).sum(axis=0), 1, atol=1e-5)
    fitted.weight = 0
    try:
        for found in (None, fitted.atlases.propagate(scan)):
            without = fitted.finish(scan, found, probabilities=True)
            np.testing.assert_array_equal(without.label_map, method.label_map)
            np.testing.assert_array_equal(without.probabilities, method.probabilities)
    finally:
        fitted.weight = 0.5


@pytest.mark.thorough
def test_with_all_weight_the_location_is_forgotten(shapes: AtlasSet, fitted: Any, scan: Any) -> None:
    votes = fitted.atlases.segment(scan, probabilities=True).probabilities
    own = fitted.classical.segment(scan, votes=votes, weight=1.0, probabilities=True).probabilities

    class Votes:
        def probabilities(self, image: Any) -> Any:
            import torch

            return torch.from_numpy(np.maximum(votes, 1e-3) / np.maximum(votes, 1e-3).sum(axis=0))

    outside = ClassicalSegmenter(method="mrf", options=LIGHT, prior=Votes()).fit(shapes.dataset)
    np.testing.assert_allclose(own, outside.segment(scan, probabilities=True).probabilities, atol=1e-5)
    with pytest.raises(OptionError, match="external prior; votes of atlases"):
        outside.segment(scan, votes=votes)


@pytest.mark.thorough
def test_no_scan_teaches_its_own_weight(shapes: AtlasSet, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[set[str]] = []
    asked: list[str | None] = []
    fit, propagate = ClassicalSegmenter.fit, MultiAtlasSegmenter.propagate

    def watched_fit(self: Any, dataset: Any, masks: Any = None) -> Any:
        fitted.append({case.name for case in dataset.labelled})
        return fit(self, dataset, masks)

    def watched_propagate(self: Any, image: Any, *, without: str | None = None, **options: Any) -> Any:
        asked.append(without)
        assert without is not None
        assert without not in fitted[-1]  # the method that it is joined with has not seen it either
        return propagate(self, image, without=without, **options)

    monkeypatch.setattr(ClassicalSegmenter, "fit", watched_fit)
    monkeypatch.setattr(MultiAtlasSegmenter, "propagate", watched_propagate)
    learnt = make().fit_atlases(shapes)
    assert fitted[0] == set(shapes.names)
    assert asked == list(shapes.names)
    tried = {float(weight): dice for weight, dice in learnt.about["dice_of_weights"].items()}
    assert tuple(tried) == CLASSICAL_WEIGHTS
    assert tried[learnt.weight] == max(tried.values())
    assert "4 training scans" in learnt.about["weight_from"]


def test_of_many_cases_some_are_atlases_and_all_teach_the_method(shapes: AtlasSet) -> None:
    segmenter = make(atlases=2, weight=1).fit_atlases(shapes)
    assert segmenter.atlases.atlases.names == (shapes.names[1], shapes.names[3])
    assert segmenter.classical._settings is not None
    assert segmenter.classical._settings.cases == 4


@pytest.mark.thorough
def test_a_correction_is_learnt_where_it_was_asked_for(shapes: AtlasSet, scan: Any) -> None:
    segmenter = make(method="kmeans", options={"clusters": 3, "restarts": 1}, weight=1, correct=True)
    found = segmenter.fit_atlases(shapes).atlases
    assert found.is_corrected
    carried = found.propagate(scan)
    with_it = segmenter.finish(scan, carried, probabilities=True).probabilities
    without = segmenter.finish(scan, carried, probabilities=True, corrected=False).probabilities
    assert not np.array_equal(with_it, without)


def test_a_saved_run_is_recognised_and_loaded(fitted: Any, scan: Any, tmp_path: Path) -> None:
    fitted.save(tmp_path)
    assert is_atlas_classical_bundle(tmp_path)
    loaded = AtlasClassicalSegmenter.load(tmp_path)
    assert loaded.weight == 0.5
    assert loaded.about == {"weight_from": "asked for"}
    np.testing.assert_array_equal(loaded.segment(scan).label_map, fitted.segment(scan).label_map)
    for content in ('{"weight": 2}', '{"weight": "x"}', "{}", "[1]"):
        (tmp_path / WEIGHT).write_text(content)
        with pytest.raises(UnreadableFileError, match=str(tmp_path / WEIGHT)):
            AtlasClassicalSegmenter.load(tmp_path)
    (tmp_path / WEIGHT).unlink()
    assert not is_atlas_classical_bundle(tmp_path)
    with pytest.raises(MissingFileError, match="not a finished run of a classical method with atlases"):
        AtlasClassicalSegmenter.load(tmp_path)


def test_an_incomplete_folder_is_no_run(fitted: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from atlaseg.pipeline.classical.classical_bundle import is_classical_bundle

    fitted.save(tmp_path)

    def killed(directory: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fitted.atlases, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        fitted.save(tmp_path)
    assert not is_classical_bundle(tmp_path)
    assert not is_atlas_classical_bundle(tmp_path)


@pytest.mark.thorough
def test_masks_of_training_scans_are_used(balls: Any) -> None:
    folder = balls(5, 6, 7)
    (folder / "masks").mkdir()
    for path in sorted((folder / "labels").iterdir()):
        image = nib.load(path)
        mask = np.ones(image.shape, np.uint8)
        mask[:2] = 0
        nib.save(nib.Nifti1Image(mask, image.affine), folder / "masks" / path.name)
    atlases = AtlasSet.read(folder)
    segmenter = make(
        method="kmeans", options={"clusters": 3, "restarts": 1}, weight=1, borders=False
    ).fit_atlases(atlases)
    assert segmenter.classical.needs_masks
    image = read_image(atlases.atlases[0].images)
    with pytest.raises(OptionError, match="needs its own"):
        segmenter.segment(image)
    mask = read_label_map(atlases.atlases[0].mask) != 0
    assert not segmenter.segment(image, mask=mask).label_map[:2].any()


def test_what_cannot_be_is_refused(shapes: AtlasSet) -> None:
    for weight in (-0.1, 1.1, float("nan")):
        with pytest.raises(OptionError, match="at least 0 and at most 1"):
            make(weight=weight)
    with pytest.raises(OptionError, match="atlases: at least 2"):
        make(atlases=1)
    with pytest.raises(DatasetError, match="1 labelled case; atlases need another"):
        make().fit_atlases(shapes.subset(shapes.names[:1]))


def test_a_structure_of_one_scan_only_asks_for_a_weight(shapes_folder: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(shapes_folder, tmp_path / "data")
    about = json.loads((tmp_path / "data/dataset.json").read_text())
    about["labels"]["3"] = "dot"
    (tmp_path / "data/dataset.json").write_text(json.dumps(about))
    path = sorted((tmp_path / "data/labelsTr").iterdir())[0]
    image = nib.load(path)
    voxels = np.asarray(image.dataobj).copy()
    voxels[1, 1, 1] = 3
    nib.save(nib.Nifti1Image(voxels, image.affine), path)
    with pytest.raises(DatasetError, match="held out to learn the weight of the atlases; give a weight"):
        make().fit(read_dataset(tmp_path / "data"))
