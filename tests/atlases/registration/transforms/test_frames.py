from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from atlaseg.atlases.registration.transforms.frames import (
    affine_of,
    as_itk,
    flip_points,
    from_itk,
    matrix_between_frames,
    read_itk,
    to_itk,
)
from atlaseg.pipeline.errors import GeometryError, MissingFileError

SHAPE = (5, 6, 7)
C, S = np.cos(0.4), np.sin(0.4)
TURN = np.array([[C, -S, 0], [S, C, 0], [0, 0, 1]])


def affine(axes: np.ndarray) -> np.ndarray:
    result = np.eye(4)
    result[:3, :3] = axes @ np.diag((0.8, 1.5, 3.0))
    result[:3, 3] = (-12, 40, 7)
    return result


AFFINES = {
    "RAS": affine(np.eye(3)),
    "LAS": affine(np.diag([-1.0, 1, 1])),
    "LPS": affine(np.diag([-1.0, -1, 1])),
    "oblique": affine(TURN),
    "oblique PIR": affine(TURN @ np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])),
}


def voxels(dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 100, SHAPE).astype(dtype)


@pytest.mark.parametrize("name", AFFINES)
def test_the_same_image_as_itk_reads_from_the_file(tmp_path: Path, name: str):
    image = nib.Nifti1Image(voxels(), AFFINES[name])
    image.set_qform(AFFINES[name], 1)
    nib.save(image, tmp_path / "a.nii.gz")
    theirs = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    for ours in (to_itk(voxels(), AFFINES[name]), read_itk(tmp_path / "a.nii.gz")):
        assert np.array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(theirs))
        for index in ((0, 0, 0), (4, 5, 6), (1, 0, 3)):
            place = ours.TransformIndexToPhysicalPoint(index)
            assert np.allclose(place, theirs.TransformIndexToPhysicalPoint(index), atol=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("name", AFFINES)
def test_there_and_back(name: str, dtype: type):
    array, matrix = from_itk(to_itk(voxels(dtype), AFFINES[name]))
    assert array.dtype == dtype
    assert np.array_equal(array, voxels(dtype))
    assert np.allclose(matrix, AFFINES[name], atol=1e-12)


def test_arrays_outlive_their_image():
    array = from_itk(to_itk(np.arange(100000.0).reshape(-1, 1, 1), np.eye(4)))[0]
    _ = [np.ones(100000) for _ in range(20)]
    assert array.sum() == np.arange(100000.0).sum()


def test_sheared_axes_are_kept():
    sheared = affine(np.eye(3))
    sheared[0, 1] = 0.4
    assert np.allclose(affine_of(to_itk(voxels(), sheared)), sheared)


def test_points_and_matrices_agree():
    matrix = affine(TURN)
    points = np.random.default_rng(0).normal(size=(9, 3))
    in_lps = matrix_between_frames(matrix)
    there = flip_points(points) @ in_lps[:3, :3].T + in_lps[:3, 3]
    assert np.allclose(flip_points(there), points @ matrix[:3, :3].T + matrix[:3, 3])


def test_any_type_of_image(tmp_path: Path):
    from monai.data import MetaTensor

    both = np.stack([voxels(), voxels() + 1])
    nib.save(nib.Nifti1Image(np.moveaxis(both, 0, -1), AFFINES["oblique"]), tmp_path / "a.nii.gz")
    for source in (
        tmp_path / "a.nii.gz",
        str(tmp_path / "a.nii.gz"),
        MetaTensor(both, affine=AFFINES["oblique"]),
    ):
        image = as_itk(source, 1)
        assert image.GetPixelID() == sitk.sitkFloat32
        assert np.array_equal(from_itk(image)[0], both[1])
        assert np.allclose(affine_of(image), AFFINES["oblique"], atol=1e-5)
        with pytest.raises(GeometryError, match="channel 2"):
            as_itk(source, 2)
    assert as_itk(to_itk(voxels(np.uint8), np.eye(4))).GetPixelID() == sitk.sitkFloat32


def test_refusals(tmp_path: Path):
    with pytest.raises(GeometryError, match="3-D volumes, found an array of shape"):
        to_itk(np.zeros((2, 2)), np.eye(4))
    with pytest.raises(GeometryError, match="not invertible"):
        to_itk(voxels(), np.diag([1.0, 0, 1, 1]))
    with pytest.raises(GeometryError, match="found 2-D with 1"):
        as_itk(sitk.Image([4, 4], sitk.sitkFloat32))
    with pytest.raises(GeometryError, match="found 3-D with 3"):
        as_itk(sitk.Image([4, 4, 4], sitk.sitkVectorFloat32, 3))
    with pytest.raises(MissingFileError):
        read_itk(tmp_path / "none.nii.gz")


def test_worker_processes_start_without_torch():
    modules = (
        *(f"transforms.{name}" for name in ("frames", "displacement", "inversion", "jacobian", "resampling")),
        *("transforms.thin_plate_spline", "transforms.transform_files", "points.landmarks"),
    )
    heavy = {"torch", "monai", "SimpleITK", "ants", "itk", "scipy"}
    imports = "; ".join(f"import atlaseg.atlases.registration.{name}" for name in modules)
    code = f"import sys; {imports}; print({heavy} & {{*sys.modules}})"
    run = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
