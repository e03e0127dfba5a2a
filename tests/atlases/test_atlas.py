from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from atlaseg.atlases.atlas import Atlas, AtlasSet, index_type
from atlaseg.atlases.registration.transforms.frames import from_itk
from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.datasets import read_dataset
from atlaseg.pipeline.errors import (
    AtlasegError,
    DatasetError,
    GeometryError,
    LabelError,
    MissingFileError,
    UnreadableFileError,
)
from atlaseg.pipeline.io.volume import read_label_map, read_voxels

#: Voxels of 0.9 x 1.1 x 2.3 mm, turned about two axes, the first axis to the left.
OBLIQUE = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.2, 0.1, 0) @ np.diag((-0.9, 1.1, 2.3)), (12.345678, -7.1, 3.3)
)


@pytest.fixture
def folder(build) -> Path:
    """Two oblique atlases, the first with a mask and landmarks."""
    for name in "ab":
        build.volume(build.folder / f"images/{name}.nii.gz", build.noise(), OBLIQUE)
        build.volume(build.folder / f"labels/{name}.nii.gz", build.labels(), OBLIQUE)
    mask = (build.labels() > 0).astype(np.uint8) * 255
    build.volume(build.folder / "masks/a.nii.gz", mask, OBLIQUE)
    (build.folder / "landmarks").mkdir()
    (build.folder / "landmarks/a.csv").write_text("x,y,z\n1,2,3\n")
    return build.json("labels.json", {"background": 0, "liver": 1, "lesion": 4})


def refusal(atlases: AtlasSet, kind: type[AtlasegError]) -> str:
    """The message of a check that fails, which is one line."""
    with pytest.raises(kind) as caught:
        atlases.check()
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


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


def test_other_layouts_and_channels(build):
    atlases = AtlasSet.read(build.decathlon(channels=2))
    first = atlases.atlases[0]
    assert atlases.channels == ("T1", "T2")
    voxels = read_voxels(first.images[0])
    np.testing.assert_array_equal(sitk.GetArrayFromImage(first.image(1)).T, voxels[..., 1])
    np.testing.assert_array_equal(first.channels(), np.moveaxis(voxels, -1, 0))
    with pytest.raises(GeometryError, match="has 2 channel"):
        first.image(2)


def test_channels_in_files_of_their_own(build):
    first = AtlasSet.read(build.nnunet(channels=2)).atlases[0]
    np.testing.assert_array_equal(sitk.GetArrayFromImage(first.image(1)).T, read_voxels(first.images[1]))
    assert first.channels().shape == (2, *build.shape)


def test_an_atlas_is_pickled_as_paths(folder):
    atlases = AtlasSet.read(folder)
    assert pickle.loads(pickle.dumps(atlases)) == atlases
    assert len(pickle.dumps(atlases.atlases[0])) < 2000


def test_a_check_in_other_processes_is_the_same(folder, build):
    build.volume(folder / "masks/b.nii.gz", np.zeros(build.shape, np.uint8), OBLIQUE)
    atlases = AtlasSet.read(folder)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        found = atlases.problems(executor=executor)
    assert [(type(e), str(e)) for e in found] == [(type(e), str(e)) for e in atlases.problems()]
    assert len(found) == 1


def test_reading_in_a_worker_imports_no_torch(folder):
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from atlaseg.atlases.atlas import AtlasSet; "
        f"s = AtlasSet.read(Path({str(folder)!r})); a = s.atlases[0]; a.image(); a.channels(); a.labels(s.labels); "
        "a.mask_image(); s.check(); assert not {'torch', 'monai'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_subsets(folder):
    atlases = AtlasSet.read(folder)
    assert atlases.subset(["b"]).names == ("b",)
    assert atlases.without("a").names == ("b",)
    for call in (lambda: atlases.subset(["c"]), lambda: atlases.without("c")):
        with pytest.raises(DatasetError, match="no atlas c"):
            call()
    with pytest.raises(DatasetError, match="no atlas in the set"):
        atlases.subset(["b"]).without("b")


def test_many_labels_need_two_bytes():
    assert index_type(LabelTable.from_values(range(256))) is np.uint8
    assert index_type(LabelTable.from_values(range(257))) is np.uint16


def constant(build, folder):
    build.volume(folder / "images/a.nii.gz", np.full(build.shape, 7.0), OBLIQUE)


def not_finite(build, folder):
    voxels = build.noise()
    voxels[0, 0, 0] = np.nan
    build.volume(folder / "images/a.nii.gz", voxels, OBLIQUE)


def truncated(build, folder):
    path = folder / "images/a.nii.gz"
    path.write_bytes(path.read_bytes()[:-100])


def flat(build, folder):
    for path in ("images/a", "labels/a", "masks/a"):
        voxels = read_voxels(folder / f"{path}.nii.gz")[:, :, 2]
        build.volume(folder / f"{path}.nii.gz", voxels, OBLIQUE)


def label_elsewhere(build, folder):
    build.volume(folder / "labels/a.nii.gz", build.labels(), np.eye(4))


def label_of_another_shape(build, folder):
    build.volume(folder / "labels/a.nii.gz", build.labels()[:-1], OBLIQUE)


def fractions(build, folder):
    build.volume(folder / "labels/a.nii.gz", build.labels() * 0.3, OBLIQUE)


def unlabelled(build, folder):
    build.volume(folder / "labels/a.nii.gz", np.zeros(build.shape, np.uint8), OBLIQUE)


def unknown(build, folder):
    build.volume(folder / "labels/a.nii.gz", build.labels() + 3, OBLIQUE)


def empty_mask(build, folder):
    build.volume(folder / "masks/a.nii.gz", np.zeros(build.shape, np.uint8), OBLIQUE)


def mask_elsewhere(build, folder):
    build.volume(folder / "masks/a.nii.gz", build.labels(), np.eye(4))


def test_a_soft_mask_covers_what_is_not_0(build, folder):
    build.volume(folder / "masks/a.nii.gz", build.labels() * -0.25, OBLIQUE)
    atlases = AtlasSet.read(folder)
    atlases.check()
    inside, _ = from_itk(atlases.atlases[0].mask_image())
    np.testing.assert_array_equal(inside, (build.labels() != 0).astype(np.uint8))


def undecided_mask(build, folder):
    build.volume(folder / "masks/a.nii.gz", np.where(build.labels() > 0, np.nan, 0), OBLIQUE)


@pytest.mark.parametrize(
    ("spoil", "kind", "file", "says"),
    [
        (constant, DatasetError, "images/a", "all voxels have the value 7"),
        (not_finite, DatasetError, "images/a", "NaN or infinite"),
        (truncated, UnreadableFileError, "images/a", "truncated"),
        (flat, GeometryError, "images/a", "a 2-D image (6x7x1)"),
        (label_elsewhere, GeometryError, "labels/a", "not on the grid of its image"),
        (label_of_another_shape, GeometryError, "labels/a", "shape 5x7x8 instead of 6x7x8"),
        (fractions, LabelError, "labels/a", "whole numbers"),
        (unlabelled, LabelError, "labels/a", "no voxel is labelled"),
        (unknown, LabelError, "labels/a", "unknown label values 3, 7"),
        (empty_mask, DatasetError, "masks/a", "the mask is empty"),
        (mask_elsewhere, GeometryError, "masks/a", "not on the grid of a.nii.gz"),
        (undecided_mask, DatasetError, "masks/a", "the mask holds NaN"),
    ],
)
def test_each_bad_input_is_one_line_that_names_the_file(build, folder, spoil, kind, file, says):
    spoil(build, folder)
    message = refusal(AtlasSet.read(folder), kind)
    assert message.startswith(f"{folder / file}.nii.gz: ")
    assert says in message
    assert "more problem" not in message


def test_landmarks_without_points(build, folder):
    (folder / "landmarks/a.csv").write_text("x,y,z\n")
    assert "landmarks/a.csv: expected points" in refusal(AtlasSet.read(folder), UnreadableFileError)


def test_the_first_problem_counts_the_others(build, folder):
    constant(build, folder)
    empty_mask(build, folder)
    build.volume(folder / "labels/b.nii.gz", build.labels() + 3, OBLIQUE)
    message = refusal(AtlasSet.read(folder), DatasetError)
    assert message.endswith("(and 2 more problems in this atlas set)")


def test_an_atlas_with_other_values_than_the_set_is_refused_when_read(build, folder):
    unknown(build, folder)
    atlases = AtlasSet.read(folder)
    with pytest.raises(LabelError, match=r"labels/a.nii.gz: unknown label values \[3, 7\]"):
        atlases.atlases[0].labels(atlases.labels)


def test_files_that_belong_to_no_scan(build, folder):
    build.volume(folder / "masks/c.nii.gz", build.labels(), OBLIQUE)
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


def test_an_unusable_name_or_no_image(tmp_path):
    with pytest.raises(DatasetError, match="not usable"):
        Atlas("a/b", (tmp_path / "i.nii",), tmp_path / "l.nii")
    with pytest.raises(DatasetError, match="no image"):
        Atlas("a", (), tmp_path / "l.nii")


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
