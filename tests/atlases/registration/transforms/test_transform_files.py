from __future__ import annotations

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from atlaseg.atlases.registration.transforms.displacement import (
    displacement_transform,
    empty_grid,
    grid_points,
)
from atlaseg.atlases.registration.transforms.frames import affine_of, flip_points, from_itk, to_itk
from atlaseg.atlases.registration.transforms.resampling import resample_image
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.atlases.registration.transforms.transform_files import read_transform, write_transform
from atlaseg.pipeline.errors import GeometryError, MissingFileError, OptionError, UnreadableFileError

SHAPE = (20, 18, 12)


def rotation(degrees: float, axis: int) -> np.ndarray:
    a, (i, j) = np.radians(degrees), [n for n in range(3) if n != axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = np.cos(a)
    matrix[i, j], matrix[j, i] = -np.sin(a), np.sin(a)
    return matrix


def affine(directions: np.ndarray) -> np.ndarray:
    result = np.eye(4)
    result[:3, :3] = directions @ np.diag((0.9, 1.3, 2.7))
    result[:3, 3] = (-12.3, 40.7, 3.1)
    return result


OBLIQUE = rotation(17.3, 0) @ rotation(-8.1, 2)
GRIDS = {
    "RAS": affine(np.eye(3)),
    "LAS": affine(np.diag([-1.0, 1, 1])),
    "oblique": affine(OBLIQUE),
    "oblique LPS": affine(OBLIQUE @ np.diag([-1.0, -1, 1])),
    "oblique PIR": affine(OBLIQUE @ np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])),
}


def bumps(grid: sitk.Image, size: float = 1.5) -> np.ndarray:
    """Smooth displacements (3, x, y, z) that differ along each axis."""
    i, j, k = np.indices(grid.GetSize(), dtype=float)
    return size * np.stack([np.sin(j / 4) + 0.3, np.cos(k / 3 + i / 9), np.sin(i / 5 - 1) - 0.2])


def make(kind: str, grid: sitk.Image) -> Transform:
    rng = np.random.default_rng(3)
    if kind == "rigid":
        return Transform(sitk.Euler3DTransform((3, 4, 5), 0.1, -0.2, 0.3, (1, 2, 3)))
    if kind == "similarity":
        similarity = sitk.Similarity3DTransform()
        similarity.SetScale(1.2)
        similarity.SetRotation((0, 0.6, 0.8), 0.3)
        similarity.SetCenter((1, 2, 3))
        return Transform(similarity)
    if kind == "affine":
        matrix = np.eye(4)
        matrix[:3] += 0.1 * rng.normal(size=(3, 4))
        return Transform.from_matrix(matrix)
    if kind == "bspline":
        spline = sitk.BSplineTransformInitializer(grid, [4, 3, 3], 3)
        spline.SetParameters(rng.normal(size=len(spline.GetParameters())).tolist())
        return Transform(spline)
    if kind == "field":
        return displacement_transform(bumps(grid), affine_of(grid))
    return Transform.compose([make("affine", grid), make("bspline", grid), make("field", grid)])


KINDS = ["rigid", "similarity", "affine", "bspline", "field", "composite"]
LINEAR = KINDS[:3]


def inner_points(grid: sitk.Image) -> np.ndarray:
    """Points between voxels, well inside the grid, RAS mm."""
    indices = np.random.default_rng(0).uniform(4, np.array(grid.GetSize()) - 5, (40, 3))
    matrix = affine_of(grid)
    return indices @ matrix[:3, :3].T + matrix[:3, 3]


def ants_points(points: np.ndarray, files: list[Path]) -> np.ndarray:
    """What ANTs makes of RAS points, files in ANTs' own order."""
    ants = pytest.importorskip("ants")
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(flip_points(points), columns=["x", "y", "z"])
    moved = ants.apply_transforms_to_points(3, table, [str(file) for file in files])
    return flip_points(moved.to_numpy(dtype=float))


@pytest.mark.parametrize("suffix", [".tfm", ".txt", ".h5"])
@pytest.mark.parametrize("kind", KINDS)
def test_all_digits_are_kept(tmp_path: Path, kind: str, suffix: str):
    grid = empty_grid(SHAPE, GRIDS["oblique"])
    transform, file = make(kind, grid), tmp_path / f"new/t{suffix}"
    write_transform(file, transform)
    points = inner_points(grid)
    assert np.array_equal(read_transform(file).points(points), transform.points(points))
    theirs = Transform(sitk.ReadTransform(str(file)))
    assert np.array_equal(theirs.points(points), transform.points(points))
    assert [f.name for f in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("suffix", [".tfm", ".h5", ".mat", ".nii.gz"])
@pytest.mark.parametrize("kind", KINDS)
def test_ants_reads_what_is_written_here(tmp_path: Path, kind: str, suffix: str):
    if suffix == ".mat" and kind not in LINEAR:
        pytest.skip("a .mat file holds linear transforms only")
    grid = empty_grid(SHAPE, GRIDS["oblique LPS"])
    file = tmp_path / f"t{suffix}"
    write_transform(file, make(kind, grid), grid)
    # between voxels a sampled transform is another one, by the error of linear interpolation
    points = grid_points(grid, 3) if suffix == ".nii.gz" else inner_points(grid)
    expected = make(kind, grid).points(points)
    assert np.abs(ants_points(points, [file]) - expected).max() < 1e-3
    assert np.abs(read_transform(file).points(points) - expected).max() < 1e-3
    if suffix == ".mat":
        assert np.abs(Transform(sitk.ReadTransform(str(file))).points(points) - expected).max() < 1e-9


@pytest.mark.parametrize("name", GRIDS)
def test_fields_lie_where_simpleitk_and_ants_see_them(tmp_path: Path, name: str):
    grid = empty_grid(SHAPE, GRIDS[name])
    transform, file = make("field", grid), tmp_path / "warp.nii.gz"
    write_transform(file, transform, grid)
    points = inner_points(grid)
    expected = transform.points(points)
    field = sitk.Cast(sitk.ReadImage(str(file)), sitk.sitkVectorFloat64)
    assert np.abs(Transform(sitk.DisplacementFieldTransform(field)).points(points) - expected).max() < 1e-3
    assert np.abs(ants_points(points, [file]) - expected).max() < 1e-3
    assert np.abs(read_transform(file).points(points) - expected).max() < 1e-3


@pytest.mark.parametrize("intent", [1006, 1007])
def test_both_kinds_of_vectors_mean_what_itk_makes_of_them(tmp_path: Path, intent: int):
    grid = empty_grid(SHAPE, GRIDS["oblique"])
    vectors = np.moveaxis(bumps(grid), 0, -1)[:, :, :, None].astype(np.float32)
    image = nib.Nifti1Image(vectors, affine_of(grid))
    image.header.set_intent(intent)
    image.set_qform(image.affine, 1)
    nib.save(image, tmp_path / "warp.nii.gz")
    field = sitk.ReadImage(str(tmp_path / "warp.nii.gz"), sitk.sitkVectorFloat64)
    points = inner_points(grid)
    expected = Transform(sitk.DisplacementFieldTransform(field)).points(points)
    assert np.abs(read_transform(tmp_path / "warp.nii.gz").points(points) - expected).max() < 1e-5
    # 1006 is in the frame of the file, RAS+
    in_ras = displacement_transform(bumps(grid), affine_of(grid)).points(points)
    assert (np.abs(in_ras - expected).max() < 1e-4) == (intent == 1006)


@pytest.mark.parametrize("precision", ["float", "double"])
@pytest.mark.parametrize("kind", ["AffineTransform", "Euler3DTransform", "Similarity3DTransform"])
def test_matrices_that_ants_writes(tmp_path: Path, kind: str, precision: str):
    ants = pytest.importorskip("ants")
    theirs = ants.new_ants_transform(precision=precision, dimension=3, transform_type=kind)
    theirs.set_fixed_parameters(np.array([1.5, -2, 30]))
    wanted = {"AffineTransform": [1, 0.1, 0, -0.2, 0.9, 0, 0, 0, 1.1], "Euler3DTransform": [0.1, 0.2, -0.3]}
    values = [*wanted.get(kind, [0.1, 0.2, 0.05]), 3, 4, 5, *([1.2] if kind.startswith("Sim") else [])]
    theirs.set_parameters(np.array(values))
    ants.write_transform(theirs, str(tmp_path / "t.mat"))
    points = inner_points(empty_grid(SHAPE, GRIDS["oblique"]))
    expected = [ants.apply_ants_transform_to_point(theirs, p) for p in flip_points(points).tolist()]
    moved = read_transform(tmp_path / "t.mat").points(points)
    assert np.abs(moved - flip_points(np.array(expected))).max() < 1e-3


@pytest.mark.thorough
def test_a_registration_of_ants(tmp_path: Path):
    ants = pytest.importorskip("ants")
    rng = np.random.default_rng(0)
    grid = empty_grid((40, 36, 30), GRIDS["oblique LPS"])
    blobs = sitk.SmoothingRecursiveGaussian(
        to_itk(rng.normal(size=grid.GetSize()).astype(np.float32), affine_of(grid)), 3
    )
    moved = sitk.Resample(blobs, blobs, make("field", grid).itk, sitk.sitkLinear)
    for name, image in (("fixed", moved), ("moving", blobs)):
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    result = ants.registration(
        ants.image_read(str(tmp_path / "fixed.nii.gz")),
        ants.image_read(str(tmp_path / "moving.nii.gz")),
        "SyN",
        outprefix=str(tmp_path / "ants_"),
        reg_iterations=(4, 2),
    )
    warp, matrix = (Path(file) for file in result["fwdtransforms"])
    assert (warp.name, matrix.suffix) == ("ants_1Warp.nii.gz", ".mat")
    points = inner_points(grid)
    ours = Transform.compose([read_transform(warp), read_transform(matrix)])
    assert np.abs(ours.points(points) - points).max() > 0.5
    assert np.abs(ours.points(points) - ants_points(points, [warp, matrix])).max() < 1e-3
    mine = resample_image(blobs, grid, ours)
    assert np.abs(result["warpedmovout"].numpy() - from_itk(mine)[0]).max() < 1e-3 * np.ptp(
        from_itk(blobs)[0]
    )
    write_transform(tmp_path / "both.h5", ours)
    assert np.abs(ours.points(points) - ants_points(points, [tmp_path / "both.h5"])).max() < 1e-3


def damaged(tmp_path: Path, name: str) -> Path:
    """A file with something wrong, by its name."""
    file = tmp_path / name
    grid = empty_grid(SHAPE, GRIDS["RAS"])
    if name == "empty.tfm":
        file.touch()
    elif name.startswith("words"):
        file.write_bytes(b"no transform at all " * 30)
    elif name == "unknown.tfm":
        file.write_text(
            "#Insight Transform File V1.0\nTransform: Foo_double_3_3\nParameters: 1\nFixedParameters: 0\n"
        )
    elif name == "short.tfm":
        file.write_text(
            "#Insight Transform File V1.0\nTransform: AffineTransform_double_3_3\nParameters: 1\n"
        )
    elif name.startswith("nan."):
        sitk.WriteTransform(sitk.TranslationTransform(3, (1, float("nan"), 2)), str(file))
    elif name.startswith("cut"):
        write_transform(file, make("field", grid), grid)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif name == "scan.nii.gz":
        nib.save(nib.Nifti1Image(np.ones(SHAPE, np.float32), np.eye(4)), file)
    elif name == "composite.mat":
        sitk.WriteTransform(make("composite", grid).itk, str(file))
    else:
        image = nib.Nifti1Image(np.zeros((*SHAPE, 1, 3), np.float32), np.eye(4))
        image.header.set_intent(1007, name="NREG_TRANS" if name == "nreg.nii" else "")
        if name == "intent.nii":
            image.header.set_intent(2006, allow_unknown=True)
        if name == "nanfield.nii":
            image.dataobj[0, 0, 0] = np.nan
        nib.save(image, file)
    return file


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty.tfm", "not a transform of ITK but an empty file"),
        ("words.tfm", "not readable as an ITK transform"),
        ("words.h5", "not readable as an ITK transform"),
        ("words.mat", "not readable as an ITK transform (no MATLAB 4 file of numbers, or a damaged one)"),
        ("words.nii.gz", "not a readable NIfTI file"),
        ("unknown.tfm", "a type of transform that is not known here"),
        ("short.tfm", "the AffineTransform has no line of FixedParameters; is it truncated?"),
        ("nan.h5", "NaN or infinite parameters"),
        ("cut.h5", "not readable as an ITK transform"),
        ("cut.nii.gz", "truncated or damaged"),
        ("composite.mat", "a CompositeTransform without parts"),
        ("scan.nii.gz", "a displacement field is 5-D, (x, y, z, 1, 3); found (20, 18, 12)"),
        ("nreg.nii", "intent 1007 'NREG_TRANS'; convert it"),
        ("intent.nii", "found intent 2006"),
        ("nanfield.nii", "NaN or infinite"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, message: str):
    with pytest.raises(UnreadableFileError) as caught:
        read_transform(damaged(tmp_path, name))
    text = str(caught.value)
    assert message in text
    assert text.startswith(str(tmp_path / name))
    assert "\n" not in text
    assert len(text) < len(str(tmp_path)) + 250


def test_other_refusals(tmp_path: Path):
    with pytest.raises(MissingFileError, match="no such file"):
        read_transform(tmp_path / "none.h5")
    with pytest.raises(OptionError, match=r"transforms end with \.tfm, \.txt"):
        read_transform(tmp_path / "t.xfm")
    sitk.WriteTransform(sitk.TranslationTransform(2, (1, 2)), str(tmp_path / "flat.tfm"))
    with pytest.raises(OptionError, match=r"flat\.tfm: .* this one is 2-D"):
        read_transform(tmp_path / "flat.tfm")
    grid = empty_grid(SHAPE, GRIDS["RAS"])
    with pytest.raises(OptionError, match="linear transforms only"):
        write_transform(tmp_path / "t.mat", make("bspline", grid))
    with pytest.raises(OptionError, match="needs a grid"):
        write_transform(tmp_path / "t.nii.gz", make("affine", grid))
    sheared = affine(np.eye(3))
    sheared[0, 1] = 0.3
    with pytest.raises(GeometryError, match="not at right angles"):
        write_transform(tmp_path / "t.nii.gz", make("affine", grid), empty_grid(SHAPE, sheared))
    assert [f.name for f in tmp_path.iterdir()] == ["flat.tfm"]


def test_elastix_text_goes_to_its_own_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Reader:
        @staticmethod
        def read_transform_parameters(path: Path) -> str:
            return f"elastix {path.name}"

    monkeypatch.setitem(sys.modules, "atlaseg.atlases.registration.transforms.elastix_transform", Reader)
    for start in (
        '(Transform "EulerTransform")\n',
        "// a comment\n\n(Transform ",
        "  (Direction 1 0 0)\r\n(Tra",
    ):
        (tmp_path / "t.txt").write_text(start)
        assert read_transform(tmp_path / "t.txt") == "elastix t.txt"
    (tmp_path / "t.txt").write_text("# (Transform\n")
    with pytest.raises(UnreadableFileError, match="without any transform"):
        read_transform(tmp_path / "t.txt")


@pytest.mark.thorough
def test_threads_may_read_and_write_at_the_same_time(tmp_path: Path) -> None:
    """The HDF5 library behind .h5 files is not safe in threads, so one waits for the other."""
    from concurrent.futures import ThreadPoolExecutor

    def there_and_back(number: int) -> float:
        matrix = np.eye(4)
        matrix[0, 3] = number
        path = tmp_path / f"{number % 4}-{number}.h5"
        write_transform(path, Transform.from_matrix(matrix))
        return float(read_transform(path, own=True).matrix[0, 3])

    with ThreadPoolExecutor(4) as executor:
        assert list(executor.map(there_and_back, range(300))) == [float(n) for n in range(300)]


@pytest.mark.parametrize("suffix", [".tfm", ".h5"])
def test_composites_within_composites(tmp_path: Path, suffix: str):
    grid = empty_grid(SHAPE, GRIDS["oblique"])
    inner = sitk.CompositeTransform([make("rigid", grid).itk, make("bspline", grid).itk])
    nested = Transform(sitk.CompositeTransform([inner, make("affine", grid).itk]))
    write_transform(tmp_path / f"t{suffix}", nested)
    points = inner_points(grid)
    assert (
        np.abs(read_transform(tmp_path / f"t{suffix}").points(points) - nested.points(points)).max() < 1e-12
    )


def test_paths_may_be_text(tmp_path: Path) -> None:
    moved = Transform(sitk.TranslationTransform(3, (1.0, 2.0, 3.0)))
    write_transform(f"{tmp_path}/moved.tfm", moved)
    # LPS in the file, RAS for points
    np.testing.assert_allclose(
        read_transform(f"{tmp_path}/moved.tfm").points(np.zeros((1, 3))), [[-1, -2, 3]]
    )
