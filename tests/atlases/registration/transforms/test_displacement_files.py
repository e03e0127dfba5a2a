from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from atlaseg.atlases.registration.transforms.displacement import empty_grid, grid_points
from atlaseg.atlases.registration.transforms.displacement_files import (
    is_field_of_vectors,
    read_field,
    write_field,
)
from atlaseg.atlases.registration.transforms.frames import flip_points
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.errors import AtlasegError, UnreadableFileError

SHAPE = (12, 11, 9)
TURN = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1.0]])
AFFINE = np.eye(4)
AFFINE[:3, :3] = TURN @ np.diag([1.5, 2, 3])
AFFINE[:3, 3] = (-20, 35, 8)


def places() -> np.ndarray:
    """(x, y, z, 3) in RAS+ mm."""
    return grid_points(empty_grid(SHAPE, AFFINE)).reshape(*SHAPE, 3)


def bumps() -> np.ndarray:
    i, j, k = np.indices(SHAPE, dtype=float)
    return np.stack([np.sin(j / 4) + 2, np.cos(k / 3), 3 * np.sin(i / 5)], -1)


def field(
    path: Path, vectors: np.ndarray, intent: int = 1007, name: str = "", descrip: str = "", unit: str = "mm"
) -> Path:
    image = nib.Nifti1Image(vectors[:, :, :, None].astype(np.float32), AFFINE)
    image.set_qform(AFFINE, 1)
    image.header.set_intent(intent, name=name, allow_unknown=True)
    image.header["descrip"] = descrip.encode()
    if unit:
        image.header.set_xyzt_units(unit)
    nib.save(image, path)
    return path


@pytest.mark.parametrize(
    "options",
    [
        {"intent": 1006},
        {"intent": 1007},
        {"intent": 1007, "unit": ""},
        {"intent": 1006, "name": "Displacement"},
        {"intent": 1007, "descrip": "ITK 5.4"},
        {"intent": 1007, "descrip": "displacement field of a deformation"},
    ],
)
def test_displacements_are_taken(tmp_path: Path, options: dict):
    file = field(tmp_path / "warp.nii.gz", bumps(), **options)
    points = places()[3:8, 3:8, 3:6].reshape(-1, 3)
    moved = bumps()[3:8, 3:8, 3:6].reshape(-1, 3)
    expected = points + (moved if options["intent"] == 1006 else flip_points(moved))
    assert np.abs(read_field(file).points(points) - expected).max() < 1e-4
    # and ITK says so too
    theirs = sitk.DisplacementFieldTransform(sitk.ReadImage(str(file), sitk.sitkVectorFloat64))
    assert np.abs(Transform(theirs).points(points) - expected).max() < 1e-4


@pytest.mark.parametrize("intent", [0, 1006, 1007, 1001, 2006])
@pytest.mark.parametrize(("name", "descrip"), [("Mapping", "Deformation"), ("Mapping", ""), ("", "")])
@pytest.mark.parametrize("frame", ["RAS", "LPS", "voxels"])
def test_positions_are_never_displacements(tmp_path: Path, intent: int, name: str, descrip: str, frame: str):
    values = {"RAS": places(), "LPS": flip_points(places()), "voxels": np.moveaxis(np.indices(SHAPE), 0, -1)}
    vectors = values[frame] + bumps() + (3, 0, 0) if frame != "voxels" else values[frame] + 0.3
    file = field(tmp_path / "y_scan.nii.gz", vectors, intent, name, descrip)
    with pytest.raises(
        UnreadableFileError, match=r"expected displacements in mm, found .*; convert it"
    ) as caught:
        read_field(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("intent", [1006, 1007])
@pytest.mark.parametrize("degrees", [0, 15, 40])
@pytest.mark.parametrize("scale", [0.85, 1.2])
def test_positions_in_another_space(tmp_path: Path, intent: int, degrees: float, scale: float):
    """Of a scan that lies turned and shifted to the template, in either frame, and nothing in the header says so."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    moved = scale * places() @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]]).T + (30, -12, 5) + bumps()
    for vectors in (moved, flip_points(moved)):
        with pytest.raises(UnreadableFileError, match="found the positions in mm of the voxels themselves"):
            read_field(field(tmp_path / "y.nii.gz", vectors, intent))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"intent": 0}, "found intent 0 ''"),
        ({"intent": 1005}, "found intent 1005"),
        ({"name": "NREG_TRANS"}, "found intent 1007 'NREG_TRANS'"),
        ({"name": "u"}, "found intent 1007 'u'"),
        ({"descrip": "Velocity of DARTEL"}, "described as 'Velocity of DARTEL'"),
        ({"descrip": "Deformation"}, "described as 'Deformation'"),
        ({"unit": "micron"}, "another unit"),
        ({"unit": "meter"}, "another unit"),
    ],
)
def test_what_speaks_against_displacements_in_mm(tmp_path: Path, options: dict, message: str):
    with pytest.raises(UnreadableFileError) as caught:
        read_field(field(tmp_path / "warp.nii.gz", bumps(), **options))
    assert message in str(caught.value)


def test_large_stretches_are_still_displacements(tmp_path: Path):
    """An affine map within the field, of a newborn's brain onto an adult's."""
    vectors = flip_points((places() - places().mean((0, 1, 2))) * 0.45 + bumps())
    expected = places() + flip_points(vectors)
    found = read_field(field(tmp_path / "warp.nii.gz", vectors))
    inner = (slice(3, 8),) * 3
    points = places()[inner].reshape(-1, 3)
    assert np.abs(found.points(points) - expected[inner].reshape(-1, 3)).max() < 1e-4


@pytest.mark.parametrize("shape", [(12, 11, 9, 3), (12, 11, 9), (12, 11, 9, 1, 2), (12, 11, 9, 3, 1)])
def test_other_shapes(tmp_path: Path, shape: tuple[int, ...]):
    image = nib.Nifti1Image(np.zeros(shape, np.float32), AFFINE)
    image.header.set_intent(1007)
    nib.save(image, tmp_path / "warp.nii.gz")
    with pytest.raises(UnreadableFileError, match=r"is 5-D, \(x, y, z, 1, 3\); found \(12, 11, 9"):
        read_field(tmp_path / "warp.nii.gz")


def test_affines_that_disagree_are_refused(tmp_path: Path):
    file = field(tmp_path / "warp.nii", bumps())
    image = nib.load(file)
    moved = AFFINE.copy()
    moved[:3, 3] += 6
    image.set_qform(moved, 1)
    nib.save(image, tmp_path / "two.nii")
    with pytest.raises(AtlasegError, match="sform and qform disagree"):
        read_field(tmp_path / "two.nii")


def test_what_is_written_says_millimetres(tmp_path: Path):
    grid = empty_grid(SHAPE, AFFINE)
    write_field(tmp_path / "w.nii.gz", Transform(sitk.TranslationTransform(3, (1.0, 2, 3))), grid, ".nii.gz")
    header = nib.load(tmp_path / "w.nii.gz").header
    assert header.get_xyzt_units()[0] == "mm"
    assert (int(header["intent_code"]), header.get_intent()[2]) == (1007, "")
    assert is_field_of_vectors(tmp_path / "w.nii.gz")
    itk = sitk.ReadImage(str(tmp_path / "w.nii.gz"))
    assert np.allclose(itk.GetSpacing(), (1.5, 2, 3))
    assert np.allclose(itk.GetPixel(3, 4, 5), (1, 2, 3))
    ants = pytest.importorskip("ants")
    assert np.allclose(ants.image_read(str(tmp_path / "w.nii.gz")).numpy()[3, 4, 5], (1, 2, 3))
