"""What the segmenter made of atlases does beyond the contract: bundles, leave-one-out, what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.ndimage import rotate

from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.atlases.multi_atlas_bundle import SETTINGS, is_atlas_bundle, read_bundle
from atlaseg.atlases.multi_atlas_segmenter import MultiAtlasSegmenter
from atlaseg.atlases.network_training.prior import PropagatesProbabilities
from atlaseg.atlases.propagation.propagation import PropagationOptions
from atlaseg.atlases.registration.stage import Stage
from atlaseg.pipeline.case import Dataset
from atlaseg.pipeline.datasets import read_dataset
from atlaseg.pipeline.errors import (
    AtlasegError,
    DatasetError,
    GeometryError,
    LabelError,
    MissingFileError,
    NotFittedError,
    OptionError,
    PlanError,
    UnreadableFileError,
)
from atlaseg.pipeline.io.volume import read_image, read_label_map
from atlaseg.pipeline.slice_borders import SliceBorder, find_slice_borders

QUICK = PropagationOptions(
    transform=(Stage("rigid", shrink=(1,), smoothing_mm=(0.0,), iterations=(30,), samples=500),)
)


def dice(a: Any, b: Any) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.fixture(scope="module")
def dataset(shapes_folder: Path) -> Dataset:
    return read_dataset(shapes_folder)


@pytest.fixture(scope="module")
def fitted(dataset: Dataset) -> MultiAtlasSegmenter:
    return MultiAtlasSegmenter(fusion="majority", options=QUICK).fit(dataset)


@pytest.fixture(scope="module")
def bundle(fitted: MultiAtlasSegmenter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "run"
    fitted.save(folder)
    return folder


def test_the_bundle_folder_stands_alone(bundle: Path, shapes_folder: Path) -> None:
    names = {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()}
    cases = [f"shapes_{n:03d}.nii.gz" for n in range(5)]
    assert names == {
        "configs/metadata.json",
        "configs/atlases.json",
        *(f"atlases/{name}.json" for name in ("atlases", "labels", "channels")),
        *(f"atlases/{kind}/{case}" for kind in ("images", "labels") for case in cases),
    }
    assert all(str(shapes_folder) not in path.read_text() for path in bundle.rglob("*.json"))
    assert is_atlas_bundle(bundle)
    assert not is_atlas_bundle(shapes_folder)


def test_metadata_has_what_monai_requires(bundle: Path) -> None:
    """Mandatory entries by https://docs.monai.io/en/stable/mb_specification.html."""
    content = json.loads((bundle / "configs" / "metadata.json").read_text())
    for key in ("version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version"):
        assert content[key], key
    for key in ("task", "description", "authors", "copyright"):
        assert content[key], key
    image = content["network_data_format"]["inputs"]["image"]
    assert set(image) >= {
        *("type", "format", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data"),
        "channel_def",
    }
    assert content["network_data_format"]["outputs"]["pred"]["channel_def"]["0"] == "background"
    assert len(content["network_data_format"]["outputs"]["pred"]["channel_def"]) == 3


def test_settings_and_atlases_survive_a_round_trip(dataset: Dataset, tmp_path: Path) -> None:
    options = replace(QUICK, keep=3, seed=5, engine="elastix", same_modality=False)
    before = MultiAtlasSegmenter(
        fusion="joint", options=options, fusion_options={"search_radius": (1, 2, 0), "beta": 1.5}
    ).fit(dataset)
    before.save(tmp_path / "run")
    after = MultiAtlasSegmenter.load(tmp_path / "run")
    assert after.settings == before.settings
    assert after.atlases.names == before.atlases.names
    assert after.atlases.labels == before.atlases.labels
    after.save(tmp_path / "run")  # onto itself: nothing to do
    assert read_bundle(tmp_path / "run")[0] == before.settings


def test_fit_into_a_folder(dataset: Dataset, tmp_path: Path) -> None:
    segmenter = MultiAtlasSegmenter(tmp_path / "run", fusion="majority", options=QUICK).fit(dataset)
    assert all(path.is_relative_to(tmp_path) for atlas in segmenter.atlases.atlases for path in atlas.images)
    assert is_atlas_bundle(tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"fusion": "magic"}, PlanError, "fusion: expected one of"),
        ({"fusion": ["majority"]}, PlanError, "fusion: expected one of"),
        ({"fusion_options": {"speed": 3}}, PlanError, "fusion_options.speed: no such entry"),
        ({"fusion_options": []}, PlanError, "fusion_options: expected a mapping"),
        ({"propagation": {"transfrom": "rigid"}}, PlanError, "propagation.transfrom: no such entry"),
        ({"propagation": {"seed": "$print(1)"}}, PlanError, "propagation.seed: expected a whole number"),
        ({"propagation": {"transform": "$print(1)"}}, AtlasegError, "print"),
        (
            {"propagation": {"transform": [{"kind": "rigid", "steps": 3}]}},
            PlanError,
            "expected text, or a list of",
        ),
        ({"propagation": {"keep": 0}}, OptionError, "keep at least 1"),
        ({"extra": 1}, PlanError, "extra: no such entry"),
        ({"version": 2}, PlanError, "update it"),
        ({"format": "x"}, PlanError, "not the settings"),
    ],
)
def test_settings_are_checked(
    bundle: Path, tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    content = json.loads((bundle / SETTINGS).read_text()) | changes
    (tmp_path / "configs").mkdir()
    (tmp_path / SETTINGS).write_text(json.dumps(content))
    with pytest.raises(error, match=message) as caught:
        MultiAtlasSegmenter.load(tmp_path)
    assert str(tmp_path / SETTINGS) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folders_that_are_none(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="not a run of an atlas method"):
        MultiAtlasSegmenter.load(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / SETTINGS).write_text("{")
    with pytest.raises(UnreadableFileError, match="not readable as JSON"):
        MultiAtlasSegmenter.load(tmp_path)
    (tmp_path / SETTINGS).write_text((bundle / SETTINGS).read_text())
    with pytest.raises(MissingFileError, match=r"atlases\.json"):
        MultiAtlasSegmenter.load(tmp_path)


def test_options_are_refused_before_any_file_is_read(dataset: Dataset) -> None:
    with pytest.raises(OptionError, match="no fusion rule 'magic'"):
        MultiAtlasSegmenter(fusion="magic")
    with pytest.raises(OptionError, match="no option 'speed'"):
        MultiAtlasSegmenter(fusion_options={"speed": 1})
    with pytest.raises(OptionError, match="elastix has no syn stage"):
        MultiAtlasSegmenter(options=PropagationOptions("syn", engine="elastix")).fit(dataset)
    with pytest.raises(OptionError, match="elastix has no syn stage"):
        MultiAtlasSegmenter().choose(transform="syn", engine="elastix")


def test_choose(fitted: MultiAtlasSegmenter) -> None:
    other = MultiAtlasSegmenter(fusion="joint", fusion_options={"beta": 1.5}, options=QUICK)
    assert other.choose(seed=3) is other
    assert other.settings.propagation == replace(QUICK, seed=3)
    assert other.choose(fusion="joint").settings.rule.beta == 1.5  # type: ignore[attr-defined]
    assert other.choose(fusion="staple").settings.fusion == "staple"


def test_bad_atlases_are_refused(build: Any) -> None:
    folder = build.folders(count=2)
    build.volume(folder / "labels/b.nii.gz", np.zeros(build.shape, np.uint8))
    with pytest.raises(LabelError, match=r"labels/b\.nii\.gz: empty"):
        MultiAtlasSegmenter().fit(read_dataset(folder))


@pytest.mark.thorough
def test_leave_one_out(fitted: MultiAtlasSegmenter, dataset: Dataset) -> None:
    case = dataset.cases[1]
    assert case.label is not None
    truth = read_label_map(case.label)
    found = fitted.segment_case_without(case.name)
    others = MultiAtlasSegmenter(fusion="majority", options=QUICK).fit(
        dataset.subset([other.name for other in dataset.cases if other != case])
    )
    expected = others.segment(read_image(case.images))
    np.testing.assert_array_equal(found.label_map, expected.label_map)
    # with itself among the atlases it does better, as it must
    itself = fitted.segment(read_image(case.images))
    assert dice(itself.label_map > 0, truth > 0) > dice(found.label_map > 0, truth > 0)
    with pytest.raises(DatasetError, match="no atlas nobody"):
        fitted.segment_case_without("nobody")


@pytest.mark.thorough
def test_probabilities_are_those_of_the_labels(fitted: MultiAtlasSegmenter, dataset: Dataset) -> None:
    image = read_image(dataset.cases[0].images)
    chances = fitted.propagate_probabilities(image, without=dataset.cases[0].name)
    assert isinstance(fitted, PropagatesProbabilities)
    assert isinstance(chances, MetaTensor)
    assert chances.shape == (3, *image.shape[1:])
    assert chances.dtype == torch.float32
    assert torch.equal(chances.affine, image.affine)
    np.testing.assert_allclose(chances.sum(0), 1, atol=1e-5)
    found = fitted.segment(image, probabilities=True, without=dataset.cases[0].name)
    assert found.probabilities is not None
    np.testing.assert_array_equal(np.asarray(chances), found.probabilities)
    np.testing.assert_array_equal(np.asarray(chances).argmax(0), found.label_map)
    assert fitted.segment(image).probabilities is None


def test_progress_counts_registrations(fitted: MultiAtlasSegmenter, dataset: Dataset) -> None:
    seen: list[tuple[int, int]] = []
    fitted.segment(
        read_image(dataset.cases[0].images),
        without=dataset.cases[0].name,
        progress=lambda done, total, what: seen.append((done, total)),
    )
    assert seen == [(n, 4) for n in range(1, 5)]


def test_scans_that_do_not_suit(fitted: MultiAtlasSegmenter, dataset: Dataset) -> None:
    image = read_image(dataset.cases[0].images)
    with pytest.raises(GeometryError, match=r"1 channel\(s\)"):
        fitted.segment(MetaTensor(torch.cat([image, image]).as_tensor(), affine=image.affine))
    with pytest.raises(GeometryError, match=r"1 channel\(s\)"):
        fitted.segment(image[0])
    with pytest.raises(DatasetError):
        fitted.segment(MetaTensor(torch.zeros_like(image).as_tensor(), affine=image.affine))


def test_unfitted(dataset: Dataset, tmp_path: Path) -> None:
    segmenter = MultiAtlasSegmenter(options=QUICK)
    for call in (
        lambda: segmenter.atlases,
        lambda: segmenter.segment_case_without("x"),
        lambda: segmenter.propagate_probabilities(read_image(dataset.cases[0].images)),
    ):
        with pytest.raises(NotFittedError, match="fit"):
            call()


@pytest.mark.real
@pytest.mark.slow
def test_mice_by_the_others(real_data: Path) -> None:
    atlases = AtlasSet.read(real_data / "mouse_brain_fvb")
    segmenter = MultiAtlasSegmenter(fusion="joint").fit_atlases(atlases)
    atlas = atlases.atlases[-1]
    found = segmenter.segment_case_without(atlas.name)
    truth = read_label_map(atlas.label)
    scores = [dice(found.label_map == value, truth == value) for value in atlases.labels.values[1:]]
    assert np.mean(scores) > 0.89


def test_borders_that_all_raters_drew_along_a_slice(tmp_path: Path) -> None:
    """Three tubes, cut in two at different slices; the cut shows in no image, and a turn of the atlases tilts it."""
    x, y, z = np.indices((20, 24, 18))
    inside = ((x - 10) ** 2 + (z - 9) ** 2 < 30) & (y > 2) & (y < 21)
    images, labels = tmp_path / "data" / "images", tmp_path / "data" / "labels"
    images.mkdir(parents=True)
    labels.mkdir()
    for number, cut in enumerate((11, 12, 13)):
        noise = np.random.default_rng(number).normal(0, 5, inside.shape)
        halves = np.where(inside, np.where(y >= cut, 1, 2), 0).astype(np.uint8)
        nib.save(
            nib.Nifti1Image((100.0 * inside + noise).astype(np.float32), np.eye(4)),
            images / f"{number}.nii.gz",
        )
        nib.save(nib.Nifti1Image(halves, np.eye(4)), labels / f"{number}.nii.gz")
    segmenter = MultiAtlasSegmenter(fusion="majority", options=QUICK).fit(read_dataset(tmp_path / "data"))
    assert segmenter.borders == (SliceBorder(2, 1, 1),)
    voxels = nib.load(images / "1.nii.gz").get_fdata()
    turned = rotate(voxels, 12, axes=(0, 1), reshape=False, order=1)
    tilted = MetaTensor(torch.from_numpy(turned.astype(np.float32))[None], affine=torch.eye(4))
    found = segmenter.propagate(tilted)
    flat = segmenter.fuse(found, probabilities=True)
    raw = segmenter.fuse(found, probabilities=True, borders=False)
    np.testing.assert_array_equal(flat.label_map > 0, raw.label_map > 0)
    assert flat.probabilities is not None
    np.testing.assert_array_equal(flat.probabilities.argmax(axis=0), flat.label_map)
    for label_map, is_flat in ((flat.label_map, True), (raw.label_map, False)):
        assert bool(find_slice_borders([(label_map, np.eye(4))] * 3, 3)) == is_flat
    # a prior knows nothing of it, nor does an atlas' own scan
    np.testing.assert_array_equal(segmenter.fuse(found, corrected=False).label_map, raw.label_map)
    segmenter.save(tmp_path / "run")
    assert MultiAtlasSegmenter.load(tmp_path / "run").borders == segmenter.borders
