from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import SimpleITK as sitk

from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.pipeline.datasets import read_dataset
from atlaseg.pipeline.errors import (
    AtlasegError,
    DatasetError,
    MissingFileError,
)
from atlaseg.pipeline.io.volume import read_label_map, read_voxels


def refusal(atlases: AtlasSet, kind: type[AtlasegError]) -> str:
    """The message of a check that fails, which is one line."""
    with pytest.raises(kind) as caught:
        atlases.check()
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


def constant(build, folder):
    build.volume(folder / "images/a.nii.gz", np.full(build.shape, 7.0), build.oblique)


def empty_mask(build, folder):
    build.volume(folder / "masks/a.nii.gz", np.zeros(build.shape, np.uint8), build.oblique)


def test_reads_images_labels_masks_and_landmarks(folder):
    atlases = AtlasSet.read(folder)
    atlases.check()
    assert (atlases.names, atlases.channels, atlases.labels.values) == (("a", "b"), ("MRI",), (0, 1, 4))
    a, b = atlases.atlases
    assert (a.mask, a.landmarks) == (folder / "masks/a.nii.gz", folder / "landmarks/a.csv")
    assert (b.mask, b.landmarks, b.mask_image()) == (None, None, None)
    image, theirs = a.image(), sitk.ReadImage(str(a.images[0]), sitk.sitkFloat32)
    assert image.GetPixelID() == sitk.sitkFloat32
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(theirs))
    for corner in ((0, 0, 0), (5, 6, 7)):
        np.testing.assert_allclose(
            image.TransformIndexToPhysicalPoint(corner),
            theirs.TransformIndexToPhysicalPoint(corner),
            atol=1e-4,
        )
    np.testing.assert_array_equal(a.channels()[0], read_voxels(a.images[0]))
    indices = sitk.GetArrayFromImage(a.labels(atlases.labels)).T
    assert indices.dtype == np.uint8
    np.testing.assert_array_equal(atlases.labels.to_values(indices), read_label_map(a.label))
    mask = a.mask_image()
    assert mask is not None
    assert mask.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask).T, indices > 0)


def test_an_atlas_is_pickled_as_paths(folder):
    atlases = AtlasSet.read(folder)
    assert pickle.loads(pickle.dumps(atlases)) == atlases
    assert len(pickle.dumps(atlases.atlases[0])) < 2000


def test_a_check_in_other_processes_is_the_same(folder, build):
    build.volume(folder / "masks/b.nii.gz", np.zeros(build.shape, np.uint8), build.oblique)
    atlases = AtlasSet.read(folder)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        found = atlases.problems(executor=executor)
    assert [(type(e), str(e)) for e in found] == [(type(e), str(e)) for e in atlases.problems()]
    assert len(found) == 1


def test_reading_in_a_worker_imports_no_torch(folder):
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from atlaseg.atlases.atlas_set import AtlasSet; "
        f"s = AtlasSet.read(Path({str(folder)!r})); a = s.atlases[0]; a.image(); a.channels(); a.labels(s.labels); "
        "a.mask_image(); s.check(); assert not {'torch', 'monai'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def test_subsets(folder):
    atlases = AtlasSet.read(folder)
    assert atlases.subset(["b"]).names == ("b",)
    assert atlases.without("a").names == ("b",)
    for call in (lambda: atlases.subset(["c"]), lambda: atlases.without("c")):
        with pytest.raises(DatasetError, match="no atlas c"):
            call()
    with pytest.raises(DatasetError, match="no atlas in the set"):
        atlases.subset(["b"]).without("b")


def test_the_first_problem_counts_the_others(build, folder):
    constant(build, folder)
    empty_mask(build, folder)
    build.volume(folder / "labels/b.nii.gz", build.labels() + 3, build.oblique)
    message = refusal(AtlasSet.read(folder), DatasetError)
    assert message.endswith("(and 2 more problems in this atlas set)")


def test_files_that_belong_to_no_scan(build, folder):
    build.volume(folder / "masks/c.nii.gz", build.labels(), build.oblique)
    with pytest.raises(MissingFileError, match="mask without a scan"):
        AtlasSet.read(folder)
    (folder / "masks/c.nii.gz").unlink()
    (folder / "landmarks/a.fcsv").write_text("")
    with pytest.raises(DatasetError, match="is also in"):
        AtlasSet.read(folder)
    with pytest.raises(MissingFileError, match="no such folder"):
        AtlasSet.from_dataset(read_dataset(folder), folder / "nowhere")


def test_no_labelled_case_is_no_atlas(folder):
    dataset = read_dataset(folder)
    unlabelled = type(dataset)("toy", tuple(type(c)(c.name, c.images) for c in dataset.cases), dataset.labels)
    with pytest.raises(DatasetError, match="no case has a label map"):
        AtlasSet.from_dataset(unlabelled)


@pytest.mark.real
def test_mouse_brains_with_masks(real_data, tmp_path):
    atlases = AtlasSet.read(real_data / "mouse_brain_fvb")
    assert len(atlases) == 5
    assert len(atlases.labels) == 38
    assert all(atlas.mask for atlas in atlases.atlases)
    first = atlases.subset(atlases.names[:1])
    first.check()
    first.save(tmp_path / "one")
    loaded = AtlasSet.load(tmp_path / "one")
    np.testing.assert_array_equal(loaded.atlases[0].channels(), first.atlases[0].channels())
