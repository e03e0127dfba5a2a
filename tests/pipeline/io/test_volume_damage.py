"""Files that are missing, cut off, spoilt or too large are refused in one line that names them."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from atlaseg.pipeline.errors import AtlasegError, GeometryError, MissingFileError
from atlaseg.pipeline.errors import UnreadableFileError as Unreadable
from atlaseg.pipeline.io.volume import (
    read_header,
    read_image,
    read_label_map,
    read_voxels,
)

SHAPE = (9, 11, 5)


def scan(path: Path) -> Path:
    """Whole numbers of 16 bits, 1 mm."""
    nib.save(nib.Nifti1Image(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE), np.eye(4)), path)
    return path


def test_missing_file(tmp_path: Path):
    with pytest.raises(MissingFileError, match=r"a\.nii: no such file"):
        read_image(tmp_path / "a.nii")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.99])
def test_truncated_files(tmp_path: Path, suffix: str, kept: float):
    path = scan(tmp_path / f"a{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if kept < 1 else int(kept)])
    for read in (read_image, read_label_map):
        with pytest.raises(Unreadable, match=rf"a{suffix}: ") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_a_flipped_bit_in_a_compressed_file_is_noticed(tmp_path: Path):
    content = bytearray(gzip.compress(scan(tmp_path / "a.nii").read_bytes(), 0))
    content[600] ^= 16
    (tmp_path / "a.nii.gz").write_bytes(content)
    with pytest.raises(Unreadable, match=r"a\.nii\.gz: .*CRC check failed"):
        read_image(tmp_path / "a.nii.gz")


def test_other_things_than_real_numbers(tmp_path: Path):
    colour = np.zeros((2, 2, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for name, voxels in {"colour": colour, "complex": np.zeros((2, 2, 2), np.complex64)}.items():
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / f"{name}.nii")
        with pytest.raises(Unreadable, match="expected one real number per voxel"):
            read_image(tmp_path / f"{name}.nii")


def test_singular_affine(tmp_path: Path):
    header = nib.Nifti1Header()
    header.set_sform(np.diag([1.0, 1, 0, 1]), 1)
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), None, header), tmp_path / "a.nii")
    with pytest.raises(GeometryError, match="not invertible"):
        read_header(tmp_path / "a.nii")


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_damaged_headers_raise_nothing_but_our_errors(tmp_path: Path, kind):
    chance = random.Random(7)
    original = kind(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4)).to_bytes()
    size = 352 if kind is nib.Nifti1Image else 544
    path = tmp_path / "a.nii.gz"
    for _ in range(40):
        damaged = bytearray(original)
        for _ in range(chance.choice([1, 1, 2, 5])):
            damaged[chance.randrange(size)] = chance.choice([0, 127, 128, 255, chance.randrange(256)])
        path.write_bytes(gzip.compress(bytes(damaged), 1))
        try:
            with np.errstate(all="ignore"):
                read_header(path)
                read_label_map(path)
        except AtlasegError as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017 (no error is fine as well)


def test_a_file_with_bytes_after_its_voxels(tmp_path: Path) -> None:
    """What follows the voxels is not unpacked to its end: it may be of any size."""
    whole = nib.Nifti1Image(np.ones((4, 5, 6), np.uint8), np.eye(4)).to_bytes()
    (tmp_path / "padded.nii.gz").write_bytes(gzip.compress(whole + bytes(4096), 1))
    assert read_voxels(tmp_path / "padded.nii.gz").sum() == 120
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress(whole + bytes(1 << 25), 1))
    with pytest.raises(
        Unreadable,
        match=r"bomb\.nii\.gz: the voxels cannot be read.*its content continues long after the last voxel",
    ):
        read_voxels(tmp_path / "bomb.nii.gz")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_headers_that_ask_for_more_than_the_file_holds(tmp_path: Path, suffix: str) -> None:
    content = bytearray(nib.Nifti1Image(np.ones((4, 5, 6), np.uint8), np.eye(4)).to_bytes())
    content[42:48] = np.array([30000, 30000, 900], "<i2").tobytes()
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(bytes(content), 1) if suffix == ".nii.gz" else bytes(content))
    with pytest.raises(
        Unreadable, match="asks for 30000 x 30000 x 900 voxels, 810,000,000,000 bytes, more than it can hold"
    ):
        read_image(path)


def test_scans_that_do_not_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    path = scan(tmp_path / "a.nii")  # 495 voxels of 2 bytes, and of 4 as float32
    for free, fits in ((2970, True), (2969, False)):
        memory = psutil.virtual_memory()._replace(available=free)
        monkeypatch.setattr(psutil, "virtual_memory", lambda memory=memory: memory)
        if fits:
            assert read_image(path).shape == (1, *SHAPE)
        else:
            with pytest.raises(Unreadable, match=r"9 x 11 x 5 voxels need .* are free; crop the scan"):
                read_image(path)
