from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from atlaseg.pipeline.errors import GeometryError, LabelError, OptionError
from atlaseg.pipeline.io.volume import (
    grid_difference,
    read_header,
    read_image,
    read_label_map,
    read_voxels,
    same_grid,
    write_image,
    write_label_map,
    write_probabilities,
)

SHAPE = (9, 11, 5)


def rotation(degrees: float, axis: int) -> np.ndarray:
    a, (i, j) = np.radians(degrees), [n for n in range(3) if n != axis]
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = np.cos(a)
    matrix[i, j], matrix[j, i] = -np.sin(a), np.sin(a)
    return matrix


def affine(directions: np.ndarray, spacing=(1.0, 1.0, 1.0), origin=(-12.3, 40.7, 3.1)) -> np.ndarray:
    result = np.eye(4)
    result[:3, :3] = directions @ np.diag(spacing)
    result[:3, 3] = origin
    return result


OBLIQUE = rotation(17.3, 0) @ rotation(-8.1, 2)
AFFINES = {
    "RAS": affine(np.eye(3)),
    "LPS": affine(np.diag([-1.0, -1.0, 1.0])),
    "LAS": affine(np.diag([-1.0, 1.0, 1.0])),
    "PIR": affine(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])),
    "oblique": affine(OBLIQUE, (0.9, 1.1, 2.0)),
    "anisotropic": affine(np.eye(3), (0.7, 0.7, 5.0)),
    "oblique LPS anisotropic": affine(OBLIQUE @ np.diag([-1.0, -1.0, 1.0]), (0.7, 0.7, 5.0)),
}


def scan(path: Path, matrix: np.ndarray, *, kind=nib.Nifti1Image, forms="both", slope=None) -> Path:
    """A scan of int16 noise with one bright voxel at (2, 3, 1), as another program would have written it."""
    voxels = np.random.default_rng(0).integers(0, 100, SHAPE).astype(np.int16)
    voxels[2, 3, 1] = 1000
    image = kind(voxels, matrix)
    image.header.set_data_dtype(np.int16)
    if slope:
        image.header.set_slope_inter(*slope)
    image.set_sform(matrix, 1 if forms in ("both", "sform") else 0)
    image.set_qform(matrix, 1 if forms in ("both", "qform") else 0)
    nib.save(image, path)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("forms", ["both", "sform", "qform"])
@pytest.mark.parametrize("name", AFFINES)
def test_labels_keep_the_grid_of_the_scan_to_the_last_digit(tmp_path: Path, name, forms, kind, suffix):
    source = scan(tmp_path / f"scan{suffix}", AFFINES[name], kind=kind, forms=forms, slope=(0.5, -7))
    image = read_image(source)
    # As a segmenter would: the label is put where the image is bright.
    label_map = (image[0] == image.max()).numpy().astype(np.uint8) * 200
    write_label_map(tmp_path / f"labels{suffix}", label_map, source)

    before, after = nib.load(source), nib.load(tmp_path / f"labels{suffix}")
    assert type(after) is kind
    np.testing.assert_array_equal(after.affine, before.affine)
    np.testing.assert_array_equal(image.affine.numpy(), before.affine)
    for form in ("get_sform", "get_qform"):
        matrix, code = getattr(before.header, form)(coded=True)
        matrix_after, code_after = getattr(after.header, form)(coded=True)
        assert code_after == code
        np.testing.assert_array_equal(matrix_after, matrix)
    assert after.get_data_dtype() == np.uint8
    assert after.header["xyzt_units"] == before.header["xyzt_units"]
    np.testing.assert_array_equal(np.argwhere(read_label_map(tmp_path / f"labels{suffix}")), [[2, 3, 1]])
    assert same_grid(read_header(source), read_header(tmp_path / f"labels{suffix}"))


@pytest.mark.parametrize("name", AFFINES)
def test_geometry_agrees_with_simpleitk(tmp_path: Path, name: str):
    source = scan(tmp_path / "scan.nii.gz", AFFINES[name], slope=(0.5, -7))
    header, image = read_header(source), read_image(source)
    itk = sitk.ReadImage(str(source))
    np.testing.assert_allclose(header.spacing, itk.GetSpacing(), rtol=1e-5)
    for index in [(0, 0, 0), (8, 10, 4), (2, 3, 1)]:
        lps = np.array(itk.TransformIndexToPhysicalPoint(index))
        ras = (header.affine @ [*index, 1])[:3]
        np.testing.assert_allclose(lps * [-1, -1, 1], ras, atol=1e-4)
        assert float(image[(0, *index)]) == itk.GetPixel(index)


def test_labels_land_where_simpleitk_sees_them(tmp_path: Path):
    source = scan(tmp_path / "scan.nii.gz", AFFINES["oblique LPS anisotropic"])
    label_map = np.zeros(SHAPE, np.uint8)
    label_map[2, 3, 1] = 7
    write_label_map(tmp_path / "labels.nii.gz", label_map, source)
    labels, itk = sitk.ReadImage(str(tmp_path / "labels.nii.gz")), sitk.ReadImage(str(source))
    bright = np.unravel_index(sitk.GetArrayFromImage(itk).argmax(), itk.GetSize()[::-1])[::-1]
    point = itk.TransformIndexToPhysicalPoint([int(i) for i in bright])
    assert labels.GetPixel(labels.TransformPhysicalPointToIndex(point)) == 7


def test_axes_and_obliquity(tmp_path: Path):
    lps = read_header(scan(tmp_path / "a.nii", AFFINES["LPS"]))
    tilted = read_header(scan(tmp_path / "b.nii", affine(rotation(17.3, 0))))
    assert (lps.orientation, lps.obliquity) == ("LPS", 0)
    assert tilted.orientation == "RAS"
    assert tilted.obliquity == pytest.approx(17.3, abs=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_every_number_type(tmp_path: Path, dtype: type):
    path = tmp_path / "a.nii.gz"
    voxels = np.arange(60).reshape(3, 4, 5).astype(dtype)
    nib.save(nib.Nifti1Image(voxels, np.eye(4), dtype=dtype), path)
    np.testing.assert_array_equal(read_image(path)[0].numpy(), voxels)
    np.testing.assert_array_equal(read_label_map(path), voxels)
    assert read_header(path).dtype == dtype


def test_big_endian_files(tmp_path: Path):
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    voxels = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    nib.save(nib.Nifti1Image(voxels, np.eye(4), header), tmp_path / "a.nii")
    assert (tmp_path / "a.nii").read_bytes()[:4] == b"\0\0\1\x5c"
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii")[0].numpy(), voxels)
    write_label_map(tmp_path / "b.nii", voxels.astype(np.uint16), tmp_path / "a.nii")
    np.testing.assert_array_equal(read_label_map(tmp_path / "b.nii"), voxels)


def test_channels_from_files_and_from_the_fourth_dimension(build, tmp_path: Path):
    both = build.noise(2)
    one = build.volume(tmp_path / "four.nii.gz", both)
    files = [build.volume(tmp_path / f"{c}.nii.gz", both[..., c]) for c in range(2)]
    np.testing.assert_array_equal(read_image(one).numpy(), np.moveaxis(both, -1, 0))
    np.testing.assert_array_equal(read_image(files).numpy(), np.moveaxis(both, -1, 0))
    assert read_header(one).channels == 2
    assert read_voxels(one).shape == both.shape


def test_two_dimensional_files_are_one_slice(tmp_path: Path):
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(np.arange(12, dtype=np.uint8).reshape(3, 4), np.eye(4)), path)
    assert read_image(path).shape == (1, 3, 4, 1)
    assert read_label_map(path).shape == read_header(path).spatial_shape == (3, 4, 1)
    write_label_map(tmp_path / "b.nii.gz", read_label_map(path).astype(np.uint8), path)
    np.testing.assert_array_equal(read_label_map(tmp_path / "b.nii.gz"), read_label_map(path))


def test_the_thickness_of_one_slice_is_kept(tmp_path: Path):
    path = tmp_path / "a.nii"
    image = nib.Nifti1Image(np.zeros((3, 4), np.uint8), None)
    image.header.set_qform(affine(np.eye(3), (1, 1, 2)), 1)  # no sform: the spacing says where slices lie
    image.header["pixdim"][3] = 2
    nib.save(image, path)
    write_label_map(tmp_path / "b.nii", np.zeros((3, 4, 1), np.uint8), path)
    np.testing.assert_array_equal(nib.load(tmp_path / "b.nii").affine, nib.load(path).affine)
    assert nib.load(path).affine[2, 2] == 2


def test_channels_on_different_grids_are_refused(build, tmp_path: Path):
    files = [
        build.volume(tmp_path / f"{shift}.nii.gz", build.noise(), affine(np.eye(3), origin=(shift, 0, 0)))
        for shift in (0, 3)
    ]
    with pytest.raises(GeometryError, match=r"3\.nii\.gz: not on the grid of 0\.nii\.gz .*3 mm apart"):
        read_image(files)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (affine(np.eye(3), origin=(-12.3, 40.7, 5.6)), "voxels up to 2.5 mm apart, origins 2.5 mm apart"),
        (affine(rotation(3, 0)), "axes turned by 3 degrees"),
        (affine(np.eye(3), (1, 1, 1.5)), "voxel size 1 x 1 x 1.5 instead of 1 x 1 x 1 mm"),
        (affine(np.eye(3), origin=(-12.3005, 40.7, 3.1)), None),
    ],
)
def test_grid_difference_in_words(tmp_path: Path, other, message):
    first = read_header(scan(tmp_path / "a.nii", AFFINES["RAS"]))
    difference = grid_difference(first, read_header(scan(tmp_path / "b.nii", other)))
    assert (difference is None) if message is None else (message in difference)


def test_grid_difference_of_shapes(build, tmp_path: Path):
    headers = [
        read_header(build.volume(tmp_path / f"{n}.nii", np.zeros((2, 3, n), np.uint8))) for n in (4, 5)
    ]
    assert grid_difference(*headers) == "shape 2x3x5 instead of 2x3x4"


def test_label_maps_stored_as_scaled_integers(tmp_path: Path):
    voxels = np.array([0, 51, 255], np.uint8).reshape(3, 1, 1)
    image = nib.Nifti1Image(voxels, np.eye(4))
    image.header.set_slope_inter(1 / 51, 0)
    nib.save(image, tmp_path / "a.nii")
    data = bytearray((tmp_path / "a.nii").read_bytes())
    (tmp_path / "a.nii").write_bytes(data[:-3] + voxels.tobytes())
    assert read_label_map(tmp_path / "a.nii").ravel().tolist() == [0, 1, 5]


@pytest.mark.parametrize(
    ("voxels", "error", "message"),
    [
        (np.full((2, 2, 2), 1.5, np.float32), LabelError, "whole numbers, found 1.5; was it interpolated"),
        (np.full((2, 2, 2), np.nan, np.float32), LabelError, "NaN or infinite"),
        (np.full((2, 2, 2), np.inf, np.float32), LabelError, "NaN or infinite"),
        (np.zeros((2, 2, 2, 3), np.uint8), GeometryError, "must be 3-D, found 4-D"),
    ],
)
def test_label_maps_that_are_none(build, tmp_path: Path, voxels, error, message):
    with pytest.raises(error, match=f"a.nii.gz: .*{message}"):
        read_label_map(build.volume(tmp_path / "a.nii.gz", voxels))


def test_a_fourth_dimension_of_one_is_no_channel(build, tmp_path: Path):
    assert read_label_map(build.volume(tmp_path / "a.nii", np.ones((2, 3, 4, 1), np.uint8))).shape == (
        2,
        3,
        4,
    )


#: Fields that say where voxels lie, how they are stored and how large the file is: not free to hold anything else.
STORAGE = {
    "sizeof_hdr",
    "magic",
    "eol_check",
    "dim",
    "datatype",
    "bitpix",
    "vox_offset",
    "scl_slope",
    "scl_inter",
}
GEOMETRY = {"pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"}
GEOMETRY |= {"qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"}


def planted(field: np.dtype) -> bytes:
    """Bytes to recognise in a field; finite as a number."""
    return (b"Doe^JohnDoe^JohnDoe^JohnDoe^John" * 3)[: field.itemsize]


@pytest.mark.parametrize("endianness", ["<", ">"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_nothing_about_the_patient_is_copied(tmp_path: Path, kind, endianness: str):
    source = scan(tmp_path / "scan.nii", AFFINES["oblique"], kind=kind)
    image = nib.load(source)
    header = image.header.as_byteswapped(endianness)
    free = [name for name in header.template_dtype.names if name not in STORAGE | GEOMETRY]
    assert {"descrip", "aux_file", "intent_name", "intent_p1", "slice_duration", "cal_max"} <= {*free}
    stored = header.structarr.copy()
    for name in free:
        stored[name] = np.frombuffer(planted(stored.dtype[name]), stored.dtype[name])[0]
    zoom = stored["pixdim"].dtype
    stored["pixdim"][4:] = np.frombuffer((b"Doe^John" * 4)[: 4 * zoom.itemsize], zoom)
    header = type(header)(stored.tobytes(), endianness, check=False)
    header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Doe^John 1970-01-01"))
    data = np.array(image.dataobj)
    with source.open("wb") as stream:
        header.write_to(stream)
        stream.write(data.astype(data.dtype.newbyteorder(endianness)).tobytes(order="F"))
    assert source.read_bytes().count(b"Doe^John") > 10

    write_label_map(tmp_path / "labels.nii", np.zeros(SHAPE, np.uint8), source)
    write_image(tmp_path / "image.nii", np.zeros((2, *SHAPE)), source)
    for name in ("labels.nii", "image.nii"):
        content = (tmp_path / name).read_bytes()
        for part in (b"Doe", b"John", b"eoD", b"nhoJ"):
            assert part not in content
        written, plain = nib.load(tmp_path / name), kind.header_class(endianness=endianness)
        np.testing.assert_array_equal(written.affine, nib.load(source).affine)
        assert written.header.endianness == endianness
        for field in free:
            assert written.header[field] == plain[field]


def test_probabilities_are_channels_last_on_disk(tmp_path: Path):
    source = scan(tmp_path / "scan.nii.gz", AFFINES["oblique"])
    probabilities = np.random.default_rng(1).dirichlet([1, 1, 1], SHAPE).astype(np.float32)
    probabilities = np.moveaxis(probabilities, -1, 0)
    write_probabilities(tmp_path / "p.nii.gz", probabilities, source)
    stored = nib.load(tmp_path / "p.nii.gz")
    assert stored.shape == (*SHAPE, 3)
    np.testing.assert_array_equal(stored.affine, nib.load(source).affine)
    np.testing.assert_array_equal(read_image(tmp_path / "p.nii.gz").numpy(), probabilities)


@pytest.mark.parametrize("channels", [0, 1, 3])
@pytest.mark.parametrize("name", AFFINES)
def test_images_keep_the_grid_of_the_scan_to_the_last_digit(tmp_path: Path, name: str, channels: int):
    like = scan(tmp_path / "scan.nii.gz", AFFINES[name], slope=(0.5, 3))
    voxels = np.random.default_rng(1).normal(size=(channels, *SHAPE) if channels else SHAPE)
    write_image(tmp_path / "image.nii.gz", voxels, like)
    written, source = nib.load(tmp_path / "image.nii.gz"), nib.load(like)
    for field in ("srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x", "sform_code", "qform_code"):
        assert np.array_equal(written.header[field], source.header[field])
    assert written.get_data_dtype() == np.float32
    expected = np.moveaxis(voxels, 0, -1) if channels else voxels
    assert np.array_equal(read_voxels(tmp_path / "image.nii.gz"), expected.astype(np.float32))
    with pytest.raises(GeometryError, match=r"result is 8x11x5 but .* is 9x11x5"):
        write_image(tmp_path / "wrong.nii.gz", voxels[..., 1:, :, :], like)


def test_results_of_the_wrong_shape_or_name_are_not_written(tmp_path: Path):
    source = scan(tmp_path / "scan.nii.gz", AFFINES["RAS"])
    with pytest.raises(GeometryError, match=r"result is 2x2x2 but .* is 9x11x5"):
        write_label_map(tmp_path / "out/a.nii.gz", np.zeros((2, 2, 2), np.uint8), source)
    with pytest.raises(OptionError, match=r"written as .nii or .nii.gz"):
        write_label_map(tmp_path / "out/a.mha", np.zeros(SHAPE, np.uint8), source)
    assert not (tmp_path / "out").exists()
