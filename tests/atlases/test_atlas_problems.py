from __future__ import annotations

import numpy as np
import pytest

from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.pipeline.errors import (
    AtlasegError,
    DatasetError,
    GeometryError,
    LabelError,
    UnreadableFileError,
)
from atlaseg.pipeline.io.volume import read_voxels


def refusal(atlases: AtlasSet, kind: type[AtlasegError]) -> str:
    """The message of a check that fails, which is one line."""
    with pytest.raises(kind) as caught:
        atlases.check()
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


def constant(build, folder):
    build.volume(folder / "images/a.nii.gz", np.full(build.shape, 7.0), build.oblique)


def not_finite(build, folder):
    voxels = build.noise()
    voxels[0, 0, 0] = np.nan
    build.volume(folder / "images/a.nii.gz", voxels, build.oblique)


def truncated(build, folder):
    path = folder / "images/a.nii.gz"
    path.write_bytes(path.read_bytes()[:-100])


def flat(build, folder):
    for path in ("images/a", "labels/a", "masks/a"):
        voxels = read_voxels(folder / f"{path}.nii.gz")[:, :, 2]
        build.volume(folder / f"{path}.nii.gz", voxels, build.oblique)


def label_elsewhere(build, folder):
    build.volume(folder / "labels/a.nii.gz", build.labels(), np.eye(4))


def label_of_another_shape(build, folder):
    build.volume(folder / "labels/a.nii.gz", build.labels()[:-1], build.oblique)


def fractions(build, folder):
    build.volume(folder / "labels/a.nii.gz", build.labels() * 0.3, build.oblique)


def unlabelled(build, folder):
    build.volume(folder / "labels/a.nii.gz", np.zeros(build.shape, np.uint8), build.oblique)


def unknown(build, folder):
    build.volume(folder / "labels/a.nii.gz", build.labels() + 3, build.oblique)


def empty_mask(build, folder):
    build.volume(folder / "masks/a.nii.gz", np.zeros(build.shape, np.uint8), build.oblique)


def mask_elsewhere(build, folder):
    build.volume(folder / "masks/a.nii.gz", build.labels(), np.eye(4))


def undecided_mask(build, folder):
    build.volume(folder / "masks/a.nii.gz", np.where(build.labels() > 0, np.nan, 0), build.oblique)


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
