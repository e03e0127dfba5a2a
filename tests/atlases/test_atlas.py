from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from atlaseg.atlases.atlas import Atlas, index_type
from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.atlases.registration.transforms.frames import from_itk
from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.errors import (
    DatasetError,
    GeometryError,
    LabelError,
)
from atlaseg.pipeline.io.volume import read_voxels


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


def test_many_labels_need_two_bytes():
    assert index_type(LabelTable.from_values(range(256))) is np.uint8
    assert index_type(LabelTable.from_values(range(257))) is np.uint16


def unknown(build, folder):
    build.volume(folder / "labels/a.nii.gz", build.labels() + 3, build.oblique)


def test_a_soft_mask_covers_what_is_not_0(build, folder):
    build.volume(folder / "masks/a.nii.gz", build.labels() * -0.25, build.oblique)
    atlases = AtlasSet.read(folder)
    atlases.check()
    inside, _ = from_itk(atlases.atlases[0].mask_image())
    np.testing.assert_array_equal(inside, (build.labels() != 0).astype(np.uint8))


def test_an_atlas_with_other_values_than_the_set_is_refused_when_read(build, folder):
    unknown(build, folder)
    atlases = AtlasSet.read(folder)
    with pytest.raises(LabelError, match=r"labels/a.nii.gz: unknown label values \[3, 7\]"):
        atlases.atlases[0].labels(atlases.labels)


def test_an_unusable_name_or_no_image(tmp_path):
    with pytest.raises(DatasetError, match="not usable"):
        Atlas("a/b", (tmp_path / "i.nii",), tmp_path / "l.nii")
    with pytest.raises(DatasetError, match="no image"):
        Atlas("a", (), tmp_path / "l.nii")
