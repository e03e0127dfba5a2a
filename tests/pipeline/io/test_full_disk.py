"""Writers on a disk without space left."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from atlaseg.pipeline.errors import FullDiskError, GeometryError
from atlaseg.pipeline.io.files import replacing, write_text
from atlaseg.pipeline.io.full_disk import full_disk_as_error, is_full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    if mount is None or unmount is None or os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    if subprocess.run([mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=False).returncode:
        pytest.skip("this machine does not let a small disk be mounted")
    yield folder
    subprocess.run([unmount, folder], check=True)


def write_torch(path: Path) -> None:
    import torch

    from atlaseg.pipeline.training.checkpoint import save_torch_file

    save_torch_file(path, {"weights": torch.randn(1_000_000)})


def write_numpy(path: Path) -> None:
    with replacing(path) as temporary:
        np.save(temporary, np.random.default_rng(0).normal(size=1_000_000))


def write_nifti(path: Path) -> None:
    import nibabel as nib

    voxels = np.random.default_rng(0).normal(size=(100, 100, 100))
    with replacing(path, ".nii.gz") as temporary:
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), temporary)


def write_transform(path: Path) -> None:
    import SimpleITK as sitk

    field = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(60, 60, 60, 3)), isVector=True)
    with replacing(path) as temporary:
        sitk.WriteTransform(sitk.DisplacementFieldTransform(field), str(temporary))


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (lambda path: write_text(path, "x" * 3_000_000), "a.txt"),
        (write_torch, "a.pt"),
        (write_numpy, "a.npy"),
        (write_nifti, "a.nii.gz"),
        (write_transform, "a.h5"),
    ],
)
def test_a_full_disk_under_any_error(small_disk: Path, write: Callable[[Path], None], name: str) -> None:
    path = small_disk / name
    with pytest.raises(FullDiskError, match=f"{path}: no space left on the disk; free some"):
        write(path)
    assert list(small_disk.iterdir()) == []


def test_other_errors_stay_as_they_are(tmp_path: Path) -> None:
    for error in (ValueError("a"), OSError(errno.EACCES, "b"), GeometryError("c")):
        with pytest.raises(type(error)) as caught, full_disk_as_error(tmp_path):
            raise error
        assert caught.value is error


def test_a_cause_that_libraries_wrap(tmp_path: Path) -> None:
    wrapped = RuntimeError("Failed to evaluate ConfigExpression")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert is_full(wrapped, tmp_path)
    assert is_full(RuntimeError("(sqlite3.OperationalError) database or disk is full"), tmp_path)
    assert not is_full(RuntimeError("database is locked"), tmp_path)
