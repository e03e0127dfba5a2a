"""Probabilistic atlases: votes, files, and leaving one out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.atlases.registration.transforms.frames import from_itk, to_itk
from atlaseg.atlases.registration.transforms.resampling import resample_memberships
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.atlases.templates.probabilistic import MANIFEST, Members, ProbabilisticAtlas
from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.errors import AtlasegError, DatasetError, GeometryError, MissingFileError
from atlaseg.pipeline.io.volume import read_label_map


def shift(x: float, y: float = 0.0) -> Transform:
    matrix = np.eye(4)
    matrix[:2, 3] = x, y
    return Transform.from_matrix(matrix)


def members_of(folder: Path) -> Members:
    atlases = AtlasSet.read(folder)
    first = atlases.atlases[0]
    transforms = {name: shift(0.3 * n, -0.2 * n) for n, name in enumerate(atlases.names)}
    return Members(atlases, transforms, first.image())


def test_probabilities_are_mean_memberships(balls) -> None:
    members = members_of(balls(5, 6, 7))
    atlas = members.atlas()
    expected = np.mean(
        [
            resample_memberships(
                a.labels(members.atlases.labels), members.template, members.transforms[a.name]
            )
            for a in members.atlases.atlases
        ],
        axis=0,
    )
    covered = expected.sum(axis=0) > 0.999
    assert np.allclose(atlas.probabilities[:, covered], expected[:, covered], atol=1e-4)
    assert np.allclose(atlas.probabilities.sum(axis=0), 1, atol=1e-6)
    assert atlas.cases == ("a", "b", "c")
    assert set(np.unique(atlas.label_map())) == {0, 1, 4}


@pytest.mark.thorough
def test_what_is_left_out_leaves_no_trace(balls) -> None:
    """The last case alone has label 9; every voxel of the atlas without it is as if it had never been."""
    folder = balls(5, 6, 7, marker=9)
    members = members_of(folder)
    assert members.atlases.labels.values == (0, 1, 4, 9)
    everyone, others = members.atlas(), members.without("c")
    assert everyone.probabilities[3].max() > 0
    assert (others.probabilities[3] == 0).all()
    rebuilt = Members(
        members.atlases, {n: members.transforms[n] for n in ("a", "b")}, members.template
    ).atlas()
    assert np.array_equal(others.probabilities, rebuilt.probabilities)
    assert others.cases == ("a", "b")
    # nor does its image take part in the mean
    image = folder / "images" / "c.nii.gz"
    import nibabel as nib

    voxels = nib.load(image).get_fdata(dtype=np.float32)
    voxels[:] = voxels[::-1]
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), image)
    poisoned = members_of(folder)
    assert np.array_equal(from_itk(poisoned.without("c").template)[0], from_itk(others.template)[0])
    assert not np.array_equal(
        from_itk(poisoned.without("a").template)[0], from_itk(members.without("a").template)[0]
    )


def test_leaving_out_unknown_atlases_is_refused(balls) -> None:
    members = members_of(balls(5, 6))
    with pytest.raises(DatasetError, match="without z"):
        members.without("z")
    assert [name for name, _ in members.each_without()] == ["a", "b"]


def test_saved_atlas_comes_back_and_is_an_atlas_of_its_own(balls, tmp_path: Path) -> None:
    members = members_of(balls(5, 6, 7))
    atlas, folder = members.atlas(), tmp_path / "atlas"
    atlas.save(folder)
    members.save_transforms(folder / "transforms")
    back = ProbabilisticAtlas.load(folder)
    assert np.array_equal(back.probabilities, atlas.probabilities)
    assert np.array_equal(from_itk(back.template)[0], from_itk(atlas.template)[0])
    assert (back.name, back.labels, back.cases) == (atlas.name, atlas.labels, atlas.cases)
    single = AtlasSet.read(folder)
    single.check()
    assert single.names == ("template",)
    assert single.labels == atlas.labels
    assert np.array_equal(read_label_map(single.atlases[0].label), atlas.label_map())
    # ITK reads the maps on the same grid
    maps = sitk.ReadImage(str(folder / "probabilities.nii.gz"))
    assert maps.GetSize() == (*atlas.template.GetSize(), 3)
    assert np.allclose(maps.GetOrigin()[:3], atlas.template.GetOrigin())
    again = Members.load(folder, members.atlases)
    assert np.array_equal(again.atlas().probabilities, atlas.probabilities)
    atlas.save(folder)  # over itself


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / MANIFEST).unlink(), "no such file"),
        (lambda f: (f / MANIFEST).write_text("{}"), "not a manifest"),
        (lambda f: (f / MANIFEST).write_text("{"), "JSON"),
        (lambda f: (f / "probabilities.nii.gz").write_bytes(b"x"), "SHA-256"),
        (lambda f: (f / "images/template.nii.gz").unlink(), "no such file"),
        (lambda f: edit(f, "version", 99), "version 99"),
        (lambda f: edit(f, "channel", "0"), "channel"),
        (lambda f: edit(f, "cases", [1]), "names"),
        (lambda f: edit(f, "labels", {"values": [0, 1], "names": ["background", "x"]}), "one map for"),
        (lambda f: edit(f, "labels", {"values": [0, 4, 1], "names": ["background", "x", "y"]}), "rising"),
        (lambda f: edit(f, "files", {"image": {"file": "../x", "sha256": ""}}), "leaves"),
    ],
)
def test_spoilt_folders_are_refused_in_one_line(balls, tmp_path: Path, spoil, words: str) -> None:
    folder = tmp_path / "atlas"
    members_of(balls(5, 6)).atlas().save(folder)
    spoil(folder)
    with pytest.raises(AtlasegError, match=words) as caught:
        ProbabilisticAtlas.load(folder)
    assert "\n" not in str(caught.value)


def edit(folder: Path, key: str, value: object) -> None:
    content = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(content | {key: value}))


def test_other_scans_are_not_mixed_in(balls) -> None:
    folder = balls(5, 6)
    with pytest.raises(DatasetError, match="empty folder"):
        members_of(folder).atlas().save(folder)


def test_members_of_other_scans_are_refused(balls, tmp_path: Path) -> None:
    members = members_of(balls(5, 6))
    members.atlas().save(tmp_path / "atlas")
    with pytest.raises(DatasetError, match="no atlas b"):
        Members.load(tmp_path / "atlas", members.atlases.without("b"))
    with pytest.raises(MissingFileError, match=r"a\.h5"):
        Members.load(tmp_path / "atlas", members.atlases)


def test_maps_must_be_probabilities() -> None:
    image, table = to_itk(np.zeros((4, 4, 4), np.float32), np.eye(4)), LabelTable.from_values([0, 1])
    good = np.full((2, 4, 4, 4), 0.5, np.float32)
    ProbabilisticAtlas("x", image, good, table)
    with pytest.raises(DatasetError, match="not probabilities"):
        ProbabilisticAtlas("x", image, good * 2, table)
    with pytest.raises(DatasetError, match="not probabilities"):
        ProbabilisticAtlas("x", image, good * np.nan, table)
    with pytest.raises(GeometryError, match="one map for each"):
        ProbabilisticAtlas("x", image, good[:, :3], table)
