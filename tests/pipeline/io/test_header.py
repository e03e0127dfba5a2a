"""Headers against SimpleITK, which reads the same files by rules of its own."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from atlaseg.pipeline.errors import GeometryError, HeaderWarning, UnreadableFileError
from atlaseg.pipeline.io.header import header_problems, read_header, volumes_of
from atlaseg.pipeline.io.volume import write_image, write_label_map

SHAPE = (12, 10, 8)


def volume(path: Path, affine: np.ndarray, *, unit: str = "mm", codes: tuple[int, int] = (1, 1)) -> Path:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape(SHAPE)
    header.set_qform(affine, 1)
    header.set_sform(affine, codes[1])
    header["qform_code"] = codes[0]
    header.set_xyzt_units(unit)
    nib.save(nib.Nifti1Image(np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.uint8), None, header), path)
    return path


def corner(image: sitk.Image, index: tuple[int, int, int]) -> np.ndarray:
    """Place of a voxel in RAS+ mm as ITK has it."""
    return np.array(image.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)


@pytest.mark.parametrize("codes", [(1, 1), (0, 1), (1, 0)])
@pytest.mark.parametrize(
    ("unit", "size"), [("micron", 25.0), ("meter", 0.002), ("mm", 1.5), ("unknown", 2.0)]
)
def test_units_are_those_of_itk(tmp_path: Path, unit: str, size: float, codes: tuple[int, int]) -> None:
    affine = np.diag([-size, -size, 2 * size, 1])
    affine[:3, 3] = (4 * size, 5 * size, -7 * size)
    path = volume(tmp_path / "a.nii", affine, unit=unit, codes=codes)
    header, itk = read_header(path), sitk.ReadImage(str(path))
    for index in [(0, 0, 0), (11, 9, 7), (3, 0, 5)]:
        ours = (header.affine @ [*index, 1])[:3]
        np.testing.assert_allclose(ours, corner(itk, index), rtol=1e-5, atol=1e-5 * max(itk.GetSpacing()))
    np.testing.assert_allclose(header.spacing, itk.GetSpacing(), rtol=1e-5)


@pytest.mark.parametrize("unit", ["micron", "meter"])
def test_results_lie_where_the_scan_lies_for_itk_too(tmp_path: Path, unit: str) -> None:
    path = volume(tmp_path / "scan.nii.gz", np.diag([25.0, 30.0, 40.0, 1]), unit=unit)
    write_label_map(tmp_path / "label.nii.gz", np.zeros(SHAPE, np.uint8), path)
    write_image(tmp_path / "image.nii.gz", np.zeros((2, *SHAPE)), path)
    scan = sitk.ReadImage(str(path))
    for name in ("label", "image"):
        result = sitk.ReadImage(str(tmp_path / f"{name}.nii.gz"))
        assert result.GetSpacing()[:3] == scan.GetSpacing()
        assert result.GetOrigin()[:3] == scan.GetOrigin()


@pytest.mark.parametrize("shear", [1e-6, 1e-5, 0.003, 0.01, 0.3])
def test_sheared_axes_that_itk_refuses_are_refused(tmp_path: Path, shear: float) -> None:
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[0, 1] = shear
    path = volume(tmp_path / "a.nii", affine, codes=(0, 1))
    try:
        sitk.ReadImage(str(path))
        refused = False
    except RuntimeError:
        refused = True
    (problem,) = header_problems(path)[1] or (None,)
    # ITK is stricter with small scans, in which a small shear moves no voxel
    assert (problem is not None and problem.kind == "shear") == (refused and shear * 9 > 0.1)
    if shear >= 0.3:
        degrees = np.degrees(np.arctan(shear))
        with pytest.raises(GeometryError, match=f"off by up to {degrees:.2g} degrees"):
            read_header(path)


def test_a_gantry_tilt_of_fifteen_degrees(tmp_path: Path) -> None:
    affine = np.diag([0.9, 0.9, 2.4, 1.0])
    affine[1, 2] = 2.4 * np.tan(np.radians(15))
    with pytest.raises(
        GeometryError, match=r"a\.nii: the axes are not at right angles \(off by up to 15 degrees"
    ):
        read_header(volume(tmp_path / "a.nii", affine, codes=(0, 1)))


def test_an_invalid_unit(tmp_path: Path) -> None:
    path = volume(tmp_path / "a.nii", np.eye(4))
    content = bytearray(path.read_bytes())
    content[123] = 5
    path.write_bytes(content)
    with pytest.warns(HeaderWarning, match=r"xyzt_units names no unit of length \(code 5\)"):
        assert read_header(path).spacing == (1, 1, 1)


def test_volumes_of_files(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((3, 4, 5, 1, 2), np.float32), np.eye(4)), tmp_path / "five.nii")
    (tmp_path / "text.nii").write_text("no volume")
    found = [volumes_of(tmp_path / name) for name in ("five.nii", "text.nii", "none.nii")]
    assert found == [2, None, None]
    assert volumes_of(volume(tmp_path / "a.nii", np.eye(4))) == 1


@pytest.mark.parametrize("shape", [(6,), (2, 3, 4, 1, 2, 2)])
def test_files_with_too_few_or_too_many_axes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    nib.save(nib.Nifti1Image(np.ones(shape, np.float32), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(UnreadableFileError, match=rf"a\.nii: expected 2 to 5 axes .*, found {len(shape)}"):
        read_header(tmp_path / "a.nii")
