"""The segmenter of classical methods: what it keeps in its folder, priors from outside, several channels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from atlaseg.atlases.multi_atlas_segmenter import MultiAtlasSegmenter
from atlaseg.atlases.network_training.prior import FusedPrior
from atlaseg.atlases.propagation.propagation import PropagationOptions
from atlaseg.atlases.registration.stage import Stage
from atlaseg.pipeline.case import Dataset
from atlaseg.pipeline.classical import Scan
from atlaseg.pipeline.classical.classical_segmenter import ClassicalSegmenter
from atlaseg.pipeline.classical.methods.kmeans import CLUSTERS
from atlaseg.pipeline.classical.registry import CLASSICAL_METHODS
from atlaseg.pipeline.datasets import read_dataset
from atlaseg.pipeline.errors import DatasetError, GeometryError, OptionError
from atlaseg.pipeline.io.volume import read_image


@pytest.fixture(scope="module")
def shapes(shapes_folder: Path) -> Dataset:
    return read_dataset(shapes_folder)


def test_the_seed_is_kept(shapes: Dataset, tmp_path: Path) -> None:
    ClassicalSegmenter(tmp_path, method="kmeans", options={"clusters": 3}, seed=7).fit(shapes)
    loaded = ClassicalSegmenter.load(tmp_path)
    assert loaded.seed == 7
    loaded.save(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "configs" / "classical.json").read_text())["seed"] == 7


@pytest.mark.thorough
def test_what_training_chooses_is_kept_and_can_be_chosen_again(shapes: Dataset, tmp_path: Path) -> None:
    segmenter = ClassicalSegmenter(tmp_path, method="kmeans", options={"restarts": 1}).fit(shapes)
    chosen = segmenter.chosen
    assert set(chosen) == {"clusters"}
    assert chosen["clusters"] in CLUSTERS
    assert segmenter.options.clusters is None  # fit may be called again, with other scans
    loaded = ClassicalSegmenter.load(tmp_path)
    assert loaded.options.clusters == chosen["clusters"]
    assert loaded.chosen == {}


@pytest.mark.thorough
def test_a_prior_of_registered_atlases(shapes: Dataset, tmp_path: Path) -> None:
    """It takes the place of the location prior."""
    rigid = Stage("rigid", shrink=(1,), smoothing_mm=(0.0,), iterations=(30,), samples=500)
    names = [case.name for case in shapes.cases]
    training = shapes.subset(names[:3])
    atlases = MultiAtlasSegmenter(fusion="majority", options=PropagationOptions(transform=(rigid,)))
    prior = FusedPrior(atlases.fit(training))
    segmenter = ClassicalSegmenter(tmp_path, method="gmm", options={"components": 3}, prior=prior)
    segmenter.fit(training)
    image = read_image(shapes.cases[-1].images)
    found = segmenter.segment(image, probabilities=True)
    assert set(np.unique(found.label_map)) > {0}
    with pytest.raises(OptionError, match="fitted with an external prior"):
        ClassicalSegmenter.load(tmp_path)
    loaded = ClassicalSegmenter.load(tmp_path, prior=prior)
    np.testing.assert_array_equal(loaded.segment(image).label_map, found.label_map)
    own = ClassicalSegmenter(method="gmm", options={"components": 3}).fit(training)
    assert (own.segment(image).label_map != found.label_map).any()


@pytest.mark.thorough
def test_the_prior_as_mixture_is_counted_once(shapes: Dataset) -> None:
    class Flat:
        """Says the same everywhere."""

        def probabilities(self, image: MetaTensor) -> MetaTensor:
            chances = torch.zeros(3, *image.shape[1:])
            chances[0] = 0.3
            chances[1:] = 0.35
            return MetaTensor(chances, affine=image.affine)

    segmenter = ClassicalSegmenter(method="gmm", options={"use_prior": True}, prior=Flat()).fit(shapes)
    image = read_image(shapes.cases[0].images)
    found = segmenter.segment(image, probabilities=True).probabilities
    scan = Scan.of(image, prior=Flat().probabilities(image).numpy())
    np.testing.assert_allclose(found, segmenter.options.classes(scan).posteriors, atol=1e-6)


@pytest.mark.parametrize(
    "method", ["watershed", "split-merge", "region-graph", "kmeans", "knn", "gmm", "mrf"]
)
def test_several_channels(build: Any, tmp_path: Path, method: str) -> None:
    folder = build.decathlon(3, channels=2)
    dataset = read_dataset(folder)
    options = {"kmeans": {"clusters": 3}, "gmm": {"components": 2}, "mrf": {"components": 2}}.get(method, {})
    segmenter = ClassicalSegmenter(tmp_path / "run", method=method, options=options).fit(dataset)
    image = read_image(dataset.cases[0].images)
    assert image.shape[0] == 2
    found = segmenter.segment(image).label_map
    assert found.shape == image.shape[1:]
    assert set(np.unique(found)) <= set(dataset.labels.values)
    np.testing.assert_array_equal(ClassicalSegmenter.load(tmp_path / "run").segment(image).label_map, found)
    with pytest.raises(GeometryError, match="2 channel"):
        segmenter.segment(image[:1])


@pytest.mark.parametrize("method", CLASSICAL_METHODS)
def test_a_structure_without_a_voxel_is_one_line(build: Any, tmp_path: Path, method: str) -> None:
    folder = build.folders(3)
    for label in (folder / "labels").iterdir():
        build.volume(label, np.minimum(build.labels(), 1))
    build.json("labels.json", {"background": 0, "heart": 1, "liver": 2})
    with pytest.raises(
        DatasetError, match=r"liver \(label 2\) has no voxel in any of the 3 training"
    ) as raised:
        ClassicalSegmenter(tmp_path / "run", method=method).fit(read_dataset(folder))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()
