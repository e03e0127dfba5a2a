from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from atlaseg.atlases.registration.points.landmarks import read_landmark_file, read_landmarks, write_landmarks
from atlaseg.atlases.registration.points.point_set import Landmarks
from atlaseg.atlases.registration.transforms.displacement import displacement_transform, empty_grid
from atlaseg.atlases.registration.transforms.frames import read_itk
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.atlases.registration.transforms.transform_files import write_transform
from atlaseg.pipeline.errors import AtlasegError, GeometryError, OptionError
from atlaseg.workflows.cli import main
from atlaseg.workflows.warp import Warp

SHAPE, REFERENCE_SHAPE = (16, 14, 12), (15, 13, 9)
MOVING = np.array([[1.1, 0, 0, -8], [0, -0.9, 0, 6], [0, 0, 1.5, -9], [0, 0, 0, 1.0]])
FIXED = np.array([[0.9, 0.3, 0, -7.3], [-0.3, 0.9, 0, -4.2], [0, 0, 1.9, -8.1], [0, 0, 0, 1.0]])
AFFINE = np.array([[1.05, 0.1, 0, 0.4], [0, 0.97, 0.05, -0.3], [0, 0, 1, 0.7], [0, 0, 0, 1.0]])


def volume(path: Path, voxels: np.ndarray, affine: np.ndarray) -> Path:
    image = nib.Nifti1Image(voxels, affine)
    image.set_qform(affine, 2)
    image.set_sform(affine, 4)
    nib.save(image, path)
    return path


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a scan of one and of three channels, labels, a reference, points and two transforms."""
    rng = np.random.default_rng(0)
    volume(tmp_path / "scan.nii.gz", rng.normal(100, 20, SHAPE).astype(np.float32), MOVING)
    volume(tmp_path / "colours.nii.gz", rng.normal(size=(*SHAPE, 3)).astype(np.float32), MOVING)
    blocks = rng.choice([0, 4, 300], size=(4, 4, 3)).astype(np.int16)
    volume(tmp_path / "labels.nii.gz", blocks.repeat(4, 0).repeat(4, 1)[:, :14].repeat(4, 2), MOVING)
    volume(tmp_path / "reference.nii.gz", np.zeros(REFERENCE_SHAPE, np.int16), FIXED)
    write_landmarks(tmp_path / "points.csv", rng.normal((0.8, -0.9, -0.5), 1.5, (5, 3)))
    i, j, k = np.indices(REFERENCE_SHAPE, dtype=float)
    shifts = np.stack([np.sin(j / 4), np.cos(k / 3), np.sin(i / 5)])
    write_transform(
        tmp_path / "warp.nii.gz", displacement_transform(shifts, FIXED), empty_grid(REFERENCE_SHAPE, FIXED)
    )
    write_transform(tmp_path / "affine.mat", Transform.from_matrix(AFFINE))
    return tmp_path


def warp(files: Path, name: str, out: str, *transforms: str, **options) -> Path:
    chosen = tuple(str(files / t) for t in transforms or ("warp.nii.gz", "affine.mat"))
    reference = options.pop("reference", files / "reference.nii.gz")
    job = Warp(files / name, transform=chosen, out=files / out, reference=reference, **options)
    assert job.run() == 0
    return files / out


def test_the_same_as_ants_makes_of_the_same_files(files: Path):
    ants = pytest.importorskip("ants")
    written = warp(files, "scan.nii.gz", "out/warped.nii.gz")
    theirs = ants.apply_transforms(
        ants.image_read(str(files / "reference.nii.gz")).clone("float"),
        ants.image_read(str(files / "scan.nii.gz")),
        [str(files / "warp.nii.gz"), str(files / "affine.mat")],
    )
    found = nib.load(written)
    assert np.ptp(theirs.numpy()) > 50
    # at the border of the scan, one half voxel's rounding decides whether a place is covered
    assert np.median(np.abs(found.get_fdata() - theirs.numpy())) < 1e-3
    assert (np.abs(found.get_fdata() - theirs.numpy()) < 0.02).mean() > 0.99
    for field in ("srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x", "sform_code", "qform_code"):
        assert np.array_equal(found.header[field], nib.load(files / "reference.nii.gz").header[field])
    assert found.get_data_dtype() == np.float32


def test_every_channel(files: Path):
    found = nib.load(warp(files, "colours.nii.gz", "warped.nii.gz", interpolation="bspline")).get_fdata()
    assert found.shape == (*REFERENCE_SHAPE, 3)
    for channel in range(3):
        alone = nib.load(files / "colours.nii.gz").get_fdata()[..., channel]
        volume(files / "one.nii.gz", alone.astype(np.float32), MOVING)
        single = nib.load(warp(files, "one.nii.gz", "single.nii.gz", interpolation="bspline")).get_fdata()
        assert np.array_equal(found[..., channel], single)


@pytest.mark.parametrize("interpolation", [None, "nearest", "gaussian"])
def test_labels_keep_values_and_type(files: Path, interpolation):
    found = nib.load(warp(files, "labels.nii.gz", "l.nii.gz", labels=True, interpolation=interpolation))
    assert found.get_data_dtype() == np.int16
    assert set(np.unique(np.asanyarray(found.dataobj))) == {0, 4, 300}


def test_labels_stored_as_floats_become_small_integers(files: Path):
    labels = nib.load(files / "labels.nii.gz").get_fdata()
    volume(files / "float.nii.gz", labels.astype(np.float64), MOVING)
    found = nib.load(warp(files, "float.nii.gz", "l.nii.gz", labels=True))
    same = nib.load(warp(files, "labels.nii.gz", "m.nii.gz", labels=True))
    assert found.get_data_dtype() == np.int16
    assert np.array_equal(found.get_fdata(), same.get_fdata())


def test_points_go_from_fixed_to_moving_and_back(files: Path, capsys: pytest.CaptureFixture[str]):
    there = warp(files, "points.csv", "there.mrk.json", "affine.mat", reference=None)
    points = read_landmarks(files / "points.csv")
    assert np.allclose(read_landmarks(there), points @ AFFINE[:3, :3].T + AFFINE[:3, 3])
    there = warp(files, "points.csv", "there.fcsv")
    back = warp(files, "there.fcsv", "back.csv", inverse=True)
    assert np.abs(read_landmarks(back) - points).max() < 0.005
    assert "inverse of warp.nii.gz at 5 points: less than 0.001 mm off" in capsys.readouterr().out
    by_hand = warp(files, "there.fcsv", "hand.csv", "affine.mat:inverse", "warp.nii.gz:inverse")
    assert np.array_equal(read_landmarks(by_hand), read_landmarks(back))
    twice = warp(files, "points.csv", "twice.csv", "affine.mat:inverse", inverse=True)
    assert np.allclose(read_landmarks(twice), points @ AFFINE[:3, :3].T + AFFINE[:3, 3])


def test_an_image_there_and_back(files: Path):
    i, j, k = np.indices(SHAPE, dtype=float)
    smooth = np.sin(i / 4) + np.cos(j / 5) + np.sin(k / 5)
    volume(files / "smooth.nii.gz", smooth.astype(np.float32), MOVING)
    warp(files, "smooth.nii.gz", "there.nii.gz", interpolation="bspline", outside=99)
    back = warp(
        files, "there.nii.gz", "back.nii.gz", inverse=True, reference=files / "smooth.nii.gz", outside=99
    )
    found = nib.load(back).get_fdata()
    inner = np.abs(found) < 3.1
    assert inner.mean() > 0.3
    assert np.median(np.abs(found - smooth)[inner]) < 0.02


def test_the_command_line(files: Path, capsys: pytest.CaptureFixture[str]):
    words = f"warp {files}/labels.nii.gz --labels --transform {files}/warp.nii.gz {files}/affine.mat"
    words += f" --reference {files}/reference.nii.gz --out {files}/cli.nii.gz"
    assert main(words.split()) == 0
    assert capsys.readouterr().out == f"labels.nii.gz -> {files}/cli.nii.gz\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transform": ()}, "at least one file"),
        ({"reference": None}, "by --reference"),
        ({"interpolation": "gaussian"}, "is for label maps: add --labels"),
        ({"input": "points.csv", "labels": True}, "these are points; leave out --labels"),
        ({"input": "points.csv", "out": "p.nii.gz"}, "not a landmark file by its name"),
        (
            {"labels": True, "interpolation": "sinc", "input": "labels.nii.gz"},
            "no interpolation 'sinc' for label",
        ),
        ({"out": "scan.nii.gz"}, "would replace the scan.nii.gz it is made from"),
        ({"out": "reference.nii.gz"}, "would replace the reference.nii.gz"),
        ({"out": "result.mha"}, "results are written as .nii or .nii.gz"),
        ({"out": "affine.mat/new/result.nii.gz"}, "affine.mat is a file, where a folder"),
        ({"out": "affine.mat"}, "would replace the affine.mat it is made from"),
        ({"out": "warp.nii.gz", "transform": ("warp.nii.gz:inverse",)}, "would replace the warp.nii.gz"),
        ({"input": "points.csv", "out": "points.csv"}, "would replace the points.csv"),
        ({"input": "points.csv", "out": "p.csv", "outside": 3.0}, "these are points; leave out"),
        ({"input": "labels.nii.gz", "labels": True, "outside": 3.0}, "--outside is for images"),
        ({"transform": ("none.h5",)}, "none.h5: no such file"),
        ({"transform": ("scan.nii.gz",)}, "a displacement field is 5-D"),
        ({"transform": ("affine.xyz",)}, "not a transform file by its name"),
        ({"input": "none.nii.gz"}, "none.nii.gz: no such file"),
        ({"labels": True}, "label values must be whole numbers"),
        ({"labels": True, "input": "colours.nii.gz"}, "a label map must be 3-D"),
    ],
)
def test_one_line_for_what_does_not_fit(files: Path, options: dict, message: str):
    given = {"input": "scan.nii.gz", "out": "result.nii.gz", "transform": ("affine.mat",)} | options
    given["transform"] = tuple(str(files / name) for name in given["transform"])
    paths = {name: files / given.pop(name) for name in ("input", "out")}
    before = sorted(f.name for f in files.iterdir())
    with pytest.raises(AtlasegError) as caught:
        Warp(**paths, **{"reference": files / "reference.nii.gz"} | given).run()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(f.name for f in files.iterdir()) == before


def test_images_that_do_not_meet(files: Path):
    sitk.WriteTransform(sitk.TranslationTransform(3, (500, 0, 0)), str(files / "far.tfm"))
    with pytest.raises(GeometryError, match=r"no voxel of reference\.nii\.gz lies in it .* need :inverse"):
        warp(files, "scan.nii.gz", "result.nii.gz", "far.tfm")


def test_a_transform_without_inverse_is_named(files: Path):
    shifts = np.zeros((3, *REFERENCE_SHAPE))
    shifts[0, 5:9, 6, 4] = (6, 2, -2, -6)
    grid = empty_grid(REFERENCE_SHAPE, FIXED)
    write_transform(files / "folded.nii.gz", displacement_transform(shifts, FIXED), grid)
    with pytest.raises(GeometryError, match=r"folded\.nii\.gz: the transform has no inverse to .* folds at"):
        warp(files, "scan.nii.gz", "result.nii.gz", "folded.nii.gz:inverse")
    with pytest.raises(OptionError, match="not a transform file by its name"):
        warp(files, "scan.nii.gz", "result.nii.gz", "folded.nii.gz:backwards")


def test_the_inverse_of_points_that_has_none(files: Path):
    shifts = np.zeros((3, *REFERENCE_SHAPE))
    shifts[0] = 4
    grid = empty_grid(REFERENCE_SHAPE, FIXED)
    write_transform(files / "shift.nii.gz", displacement_transform(shifts, FIXED), grid)
    corner = FIXED[:3, :3] @ [1, 6, 4] + FIXED[:3, 3]
    middle = FIXED[:3, :3] @ [8, 6, 4] + FIXED[:3, 3]
    write_landmarks(files / "two.mrk.json", Landmarks(np.array([middle, corner]), ("in", "AC")))
    with pytest.raises(
        GeometryError,
        match=r"shift\.nii\.gz: the inverse does not exist at point 2 \(AC\) at .* mm RAS: no point",
    ):
        warp(files, "two.mrk.json", "back.csv", "shift.nii.gz:inverse")
    assert not (files / "back.csv").exists()


def test_points_that_nothing_moves_are_counted(files: Path, capsys: pytest.CaptureFixture[str]):
    write_landmarks(files / "far.csv", np.array([[500.0, 0, 0], [0.8, -0.9, -0.5]]))
    warp(files, "far.csv", "there.csv", "warp.nii.gz")
    assert "; 1 of 2 points lie outside the grid of a transform" in capsys.readouterr().out


def test_labels_of_points_are_kept(files: Path, capsys: pytest.CaptureFixture[str]):
    write_landmarks(files / "named.fcsv", Landmarks(np.zeros((2, 3)), ("AC", "PC")))
    write_landmarks(files / "named.csv", Landmarks(np.zeros((2, 3)), ("AC", "PC")))
    for name, out in (
        ("named.fcsv", "moved.mrk.json"),
        ("named.fcsv", "moved.fcsv"),
        ("named.csv", "moved.csv"),
    ):
        found = read_landmark_file(warp(files, name, out, "affine.mat"))
        assert found.labels == ("AC", "PC")
        assert np.allclose(found.points, AFFINE[:3, 3])
    assert "without labels" not in capsys.readouterr().out
    # a table of markups stays one of three numbers on a line
    table = warp(files, "named.fcsv", "table.csv", "affine.mat")
    assert np.allclose(np.loadtxt(table, delimiter=",", skiprows=1), AFFINE[:3, 3])
    assert "; without labels, which .fcsv and .mrk.json keep" in capsys.readouterr().out


def test_vectors_are_no_image(files: Path):
    with pytest.raises(OptionError, match=r"warp\.nii\.gz: a field of vectors"):
        warp(files, "warp.nii.gz", "out.nii.gz", "affine.mat")
    volume(files / "five.nii", np.zeros((*SHAPE, 2, 2), np.float32), MOVING)
    with pytest.raises(OptionError, match="up to four dimensions"):
        warp(files, "five.nii", "out.nii.gz", "affine.mat")


@pytest.mark.parametrize("suffix", [".tfm", ".h5", ".nii.gz"])
def test_scans_in_microns_go_with_transforms_in_mm(tmp_path: Path, suffix: str):
    """ITK, ANTs and 3D Slicer honour the unit of the header; so do transforms written and applied here."""
    rng, affine = np.random.default_rng(0), np.diag([-150.0, 150, 200, 1])
    blobs = sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(rng.normal(size=(12, 14, 16))), 2.0)
    for name, offset in (("fixed.nii", 0.0), ("moving.nii", 700.0)):
        place = affine.copy()
        place[:3, 3] = (offset, 30, -80)
        image = nib.Nifti1Image(sitk.GetArrayFromImage(blobs).T.astype(np.float32), place)
        image.set_qform(place, 1)
        image.header.set_xyzt_units("micron")
        nib.save(image, tmp_path / name)
    fixed, moving = (sitk.ReadImage(str(tmp_path / name)) for name in ("fixed.nii", "moving.nii"))
    assert np.allclose(fixed.GetSpacing(), (0.15, 0.15, 0.2))
    spline = sitk.BSplineTransformInitializer(fixed, [2, 2, 2], 3)
    spline.SetParameters(rng.normal(0, 0.2, len(spline.GetParameters())).tolist())
    truth = sitk.CompositeTransform([sitk.TranslationTransform(3, (-0.7, 0.1, 0.2)), spline])
    expected = sitk.Resample(moving, fixed, truth, sitk.sitkLinear, 0.0, sitk.sitkFloat32)
    write_transform(tmp_path / f"t{suffix}", Transform(truth), read_itk(tmp_path / "fixed.nii"))
    # what is written means the same to SimpleITK
    if suffix == ".nii.gz":
        field = sitk.ReadImage(str(tmp_path / "t.nii.gz"), sitk.sitkVectorFloat64)
        assert np.allclose(field.GetSpacing(), fixed.GetSpacing(), rtol=1e-5)
        assert np.allclose(field.GetOrigin(), fixed.GetOrigin(), atol=1e-5)
        theirs: sitk.Transform = sitk.DisplacementFieldTransform(field)
    else:
        theirs = sitk.ReadTransform(str(tmp_path / f"t{suffix}"))
    by_them = sitk.Resample(moving, fixed, theirs, sitk.sitkLinear, 0.0, sitk.sitkFloat32)
    job = Warp(
        tmp_path / "moving.nii",
        (str(tmp_path / f"t{suffix}"),),
        tmp_path / "w.nii.gz",
        tmp_path / "fixed.nii",
    )
    assert job.run() == 0
    found = sitk.ReadImage(str(tmp_path / "w.nii.gz"))
    assert np.allclose(found.GetSpacing(), fixed.GetSpacing())
    for image in (expected, by_them):
        difference = np.abs(sitk.GetArrayFromImage(found) - sitk.GetArrayFromImage(image))
        assert np.median(difference) < 1e-5
        # half a voxel's rounding decides at the border whether a place is covered
        assert (difference < 1e-3).mean() > 0.98


def test_points_need_the_inverse_where_they_are_only(files: Path):
    """The transform folds in a corner: an image cannot be carried back through it, points elsewhere can."""
    shifts = np.zeros((3, *REFERENCE_SHAPE))
    shifts[1] = np.sin(np.arange(15.0) / 4)[:, None, None]
    shifts[0, 1:5, 2, 2] = (6, 2, -2, -6)
    transform = displacement_transform(shifts, FIXED)
    write_transform(files / "folded.h5", transform)
    there = transform.points(read_landmarks(files / "points.csv"))
    write_landmarks(files / "there.csv", there)
    with pytest.raises(GeometryError, match=r"folded\.h5: the transform has no inverse to .* folds at"):
        warp(files, "scan.nii.gz", "result.nii.gz", "folded.h5", inverse=True)
    back = warp(files, "there.csv", "back.csv", "folded.h5", inverse=True, reference=None)
    assert np.abs(read_landmarks(back) - read_landmarks(files / "points.csv")).max() < 1e-3
