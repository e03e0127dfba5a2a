"""Atlases saved into a folder of their own, and read again."""

from __future__ import annotations

import gzip
import json
from concurrent.futures import ThreadPoolExecutor

import nibabel as nib
import numpy as np
import pytest

from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.pipeline.datasets import read_dataset
from atlaseg.pipeline.errors import (
    DatasetError,
    MissingFileError,
    UnreadableFileError,
)
from atlaseg.pipeline.io.volume import read_header, read_label_map


def test_saved_atlases_are_the_same_atlases(folder, tmp_path):
    atlases = AtlasSet.read(folder)
    with ThreadPoolExecutor() as executor:
        atlases.save(tmp_path / "saved", executor=executor)
    loaded, read = AtlasSet.load(tmp_path / "saved"), AtlasSet.read(tmp_path / "saved")
    assert loaded.atlases == read.atlases
    assert (loaded.name, loaded.labels, loaded.channels) == (atlases.name, atlases.labels, atlases.channels)
    assert read_dataset(tmp_path / "saved").labels == atlases.labels
    loaded.check()
    for before, after in zip(atlases.atlases, loaded.atlases, strict=True):
        np.testing.assert_array_equal(after.channels(), before.channels())
        np.testing.assert_array_equal(read_label_map(after.label), read_label_map(before.label))
        np.testing.assert_array_equal(
            read_header(after.images[0]).affine, read_header(before.images[0]).affine
        )
        assert read_header(after.images[0]).sform is not None
    manifest = json.loads((tmp_path / "saved/atlases.json").read_text())
    assert manifest["atlases"][0]["voxels"] == {"liver": 36, "lesion": 12}
    assert str(tmp_path) not in json.dumps(manifest)
    AtlasSet.read(folder).save(tmp_path / "saved")  # once more in the same place


def test_a_saved_folder_can_be_moved(folder, tmp_path):
    AtlasSet.read(folder).save(tmp_path / "saved")
    (tmp_path / "saved").rename(tmp_path / "moved")
    AtlasSet.load(tmp_path / "moved").check()


def test_channels_are_saved_one_file_each(build, tmp_path):
    atlases = AtlasSet.read(build.decathlon(channels=2))
    atlases.save(tmp_path / "saved")
    loaded = AtlasSet.load(tmp_path / "saved")
    assert [path.name for path in loaded.atlases[0].images] == ["a_0000.nii.gz", "a_0001.nii.gz"]
    assert AtlasSet.read(tmp_path / "saved").atlases == loaded.atlases
    np.testing.assert_array_equal(loaded.atlases[1].channels(), atlases.atlases[1].channels())
    loaded.check()


def test_names_in_headers_stay_behind(build, folder, tmp_path):
    image = nib.Nifti1Image(build.noise(), build.oblique)
    image.header["descrip"] = b"DOE^JANE"
    image.header["aux_file"] = b"DOE^JANE"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"DOE^JANE"))
    nib.save(image, folder / "images/a.nii.gz")
    AtlasSet.read(folder).save(tmp_path / "saved")
    saved = list((tmp_path / "saved").rglob("*.nii.gz"))
    assert tmp_path / "saved/images/a.nii.gz" in saved
    for path in saved:
        assert b"DOE" not in gzip.decompress(path.read_bytes())


def test_scaled_integers_are_saved_as_their_values(build, folder, tmp_path):
    image = nib.Nifti1Image(
        np.arange(np.prod(build.shape)).reshape(build.shape).astype(np.int16), build.oblique
    )
    image.header.set_slope_inter(0.5, 10)
    nib.save(image, folder / "images/a.nii.gz")
    before = AtlasSet.read(folder).atlases[0].channels()
    AtlasSet.read(folder).save(tmp_path / "saved")
    np.testing.assert_array_equal(AtlasSet.load(tmp_path / "saved").atlases[0].channels(), before)


def test_a_manifest_beside_files_that_stay(folder, tmp_path):
    atlases = AtlasSet.read(folder)
    atlases.save(folder, copy=False)
    assert AtlasSet.load(folder) == atlases
    with pytest.raises(DatasetError, match="lies outside"):
        atlases.save(tmp_path / "elsewhere", copy=False)


def test_a_folder_with_other_scans_is_not_written_to(build, folder, tmp_path):
    build.volume(tmp_path / "saved/images/z.nii.gz", build.noise())
    with pytest.raises(DatasetError, match=r"z.nii.gz: does not belong"):
        AtlasSet.read(folder).save(tmp_path / "saved")
    assert not (tmp_path / "saved/labels").exists()
    build.folder = tmp_path / "other"
    with pytest.raises(DatasetError, match="already holds a data set"):
        AtlasSet.read(folder).save(build.decathlon())


def change(content, *path, to):
    for key in path[:-1]:
        content = content[key]
    content[path[-1]] = to


@pytest.mark.parametrize(
    ("path", "to", "says"),
    [
        (("format",), "something else", "not a manifest of atlases"),
        (("version",), 99, "version 99"),
        (("name",), 3, "name is missing"),
        (("atlases",), [], "no atlas in the set"),
        (("atlases",), [None], "name is missing|mask is missing"),
        (("atlases", 0, "name"), "../a", "not usable as a file name"),
        (("atlases", 0, "images"), [], "has no image"),
        (("atlases", 0, "label", "file"), "../../etc/passwd", "leaves the data set's folder"),
        (("atlases", 0, "label", "file"), "/etc/passwd", "leaves the data set's folder"),
        (("atlases", 0, "mask"), "masks/a.nii.gz", "mask is missing or not what it should be"),
        (("atlases", 1, "name"), "a", "must be unique"),
        (("labels", "values"), [0, "1", 4], "whole numbers"),
        (("labels", "values"), [0, 4, 1], "distinct and rising"),
        (("channels",), [], "channels must be a list of names"),
    ],
)
def test_a_manifest_is_checked(folder, path, to, says):
    AtlasSet.read(folder).save(folder, copy=False)
    manifest = folder / "atlases.json"
    content = json.loads(manifest.read_text())
    change(content, *path, to=to)
    manifest.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=says) as caught:
        AtlasSet.load(folder)
    assert str(caught.value).startswith(f"{manifest}: ")
    assert "\n" not in str(caught.value)


def test_a_changed_or_lost_file_is_named(build, folder):
    AtlasSet.read(folder).save(folder, copy=False)
    build.volume(folder / "labels/b.nii.gz", build.labels(), build.oblique * 1.5)
    with pytest.raises(DatasetError, match=r"labels/b.nii.gz: is not the file that was saved"):
        AtlasSet.load(folder)
    AtlasSet.load(folder, verify=False)
    (folder / "masks/a.nii.gz").unlink()
    with pytest.raises(MissingFileError, match=r"masks/a.nii.gz: no such file"):
        AtlasSet.load(folder)
    (folder / "atlases.json").write_text("{")
    with pytest.raises(UnreadableFileError, match="not readable as JSON"):
        AtlasSet.load(folder)
    (folder / "atlases.json").unlink()
    with pytest.raises(MissingFileError, match="was saving interrupted"):
        AtlasSet.load(folder)
