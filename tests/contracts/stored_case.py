"""One case whose headers say the same thing in many ways, as files, and what plain nibabel sees of them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

SHAPE = (9, 8, 7)


MILLIMETRES = {"unknown": 1.0, "meter": 1000.0, "mm": 1.0, "micron": 0.001}


def affine_of(axes: str = "RAS", spacing: Any = (1.0, 1.0, 1.0), angles: Any = (0.0, 0.0, 0.0)) -> np.ndarray:
    """Voxel index -> RAS+: axes as anatomical codes, then turned by angles in degrees."""
    ornt = nib.orientations.axcodes2ornt(tuple(axes))
    matrix = np.zeros((3, 3))
    for voxel_axis, (world_axis, sign) in enumerate(ornt):
        matrix[int(world_axis), voxel_axis] = sign
    result = np.eye(4)
    result[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ matrix @ np.diag(spacing)
    result[:3, 3] = (-12.25, 40.5, 7.75)
    return result


@dataclass(frozen=True)
class Store:
    """How one file is stored.

    Args:
        affine: of the header, in the header's unit.
        qform: the qform, where it is another one.
        codes: of qform and sform.
        unit: of length.
        dtype: on disk.
        slope: and intercept as stored; voxels on disk are such that the values are right as far as the type allows.
        raw_slope: bytes of slope and intercept put into the file afterwards, whatever the voxels are.
        pixdim: voxel sizes put into the header afterwards.
        kind: of NIfTI.
        endian: byte order.
        suffix: of the file.
    """

    affine: np.ndarray = field(default_factory=affine_of)
    qform: np.ndarray | None = None
    codes: tuple[int, int] = (1, 1)
    unit: str = "mm"
    dtype: Any = np.float32
    slope: tuple[float, float] | None = None
    raw_slope: tuple[float, float] | None = None
    pixdim: tuple[float, float, float] | None = None
    kind: type = nib.Nifti1Image
    endian: str = "<"
    suffix: str = ".nii.gz"

    def write(self, path: Path, voxels: np.ndarray) -> Path:
        """Write values, ``(x, y, ...)``; returns the file's path."""
        header = self.kind.header_class(endianness=self.endian)
        header.set_data_dtype(np.dtype(self.dtype).newbyteorder(self.endian))
        header.set_data_shape(voxels.shape)
        # sizes first, since set_qform takes them from its matrix and set_sform leaves them
        header.set_qform(self.affine if self.qform is None else self.qform, 1)
        header.set_sform(self.affine, self.codes[1])
        header["qform_code"] = self.codes[0]
        if not self.codes[0]:
            header["quatern_b"] = header["quatern_c"] = header["quatern_d"] = 0
        header.set_xyzt_units(self.unit)
        stored = voxels
        if self.slope is not None:
            header.set_slope_inter(*self.slope)
        if np.dtype(self.dtype).kind in "iu" and self.slope is None:
            stored = np.rint(voxels).astype(self.dtype)
        path.parent.mkdir(parents=True, exist_ok=True)
        plain = path.with_name(path.name + ".nii")
        nib.save(self.kind(stored, None, header), plain)
        content = bytearray(plain.read_bytes())
        plain.unlink()
        if self.raw_slope is not None:
            form, place = ("2f", 112) if self.kind is nib.Nifti1Image else ("2d", 176)
            struct.pack_into(self.endian + form, content, place, *self.raw_slope)
        if self.pixdim is not None:
            form, place = ("3f", 80) if self.kind is nib.Nifti1Image else ("3d", 112)
            struct.pack_into(self.endian + form, content, place, *self.pixdim)
        if self.suffix.lower().endswith(".gz"):
            import gzip

            content = bytearray(gzip.compress(bytes(content), 1))
        target = path.with_name(path.name + self.suffix)
        target.write_bytes(content)
        return target


@dataclass(frozen=True)
class Variation:
    """One way to store a case.

    Args:
        name: for people.
        image: how the scan is stored.
        label: how the label map is stored; by default as the scan, in whole numbers of 16 bits.
        second: how a second channel is stored in a file of its own, if there is one.
        axes: dimensions of the files: ``2d``, ``slice``, ``3d``, ``4d`` (``x, y, z, 1``), ``5d`` (``x, y, z, 1, C``),
            ``channels`` (``x, y, z, C``).
        values: of the two structures.
        wrong: what is added to the values of labels on disk.
        voxel: what is put into one voxel of the scan.
        refusal: what every part says that reads the scan, instead of reading it.
        label_refusal: what every part says that reads the label map.
        warning: what is said while reading goes on.
    """

    name: str
    image: Store = field(default_factory=Store)
    label: Store | None = None
    second: Store | None = None
    axes: str = "3d"
    values: tuple[int, int] = (1, 4)
    wrong: float = 0.0
    voxel: float | None = None
    refusal: str | None = None
    label_refusal: str | None = None
    warning: str | None = None

    @property
    def channels(self) -> int:
        """Of the scan."""
        return 2 if self.second is not None or self.axes in ("5d", "channels") else 1

    def write(self, folder: Path) -> tuple[tuple[Path, ...], Path]:
        """Write a case into a plain data set; returns the files of the scan, and the label map."""
        shape = SHAPE[:2] if self.axes == "2d" else (*SHAPE[:2], 1) if self.axes == "slice" else SHAPE
        rng = np.random.default_rng(7)
        label = np.zeros(shape)
        label[1:4, 2:6] = self.values[0]
        label[4:8, 1:3] = self.values[1]
        whole = (
            rng.integers(1, 90, shape) + 100.0 * (label == self.values[0]) + 200.0 * (label == self.values[1])
        )
        if self.voxel is not None:
            whole.flat[0] = self.voxel
        stored = label + self.wrong * (label > 0)
        if self.axes == "4d":
            whole, stored = whole[..., None], stored[..., None]
        elif self.axes == "5d":
            whole, stored = np.stack([whole, 500 - whole], -1)[..., None, :], stored[..., None, None]
        elif self.axes == "channels":
            whole = np.stack([whole, 500 - whole], -1)
        ending = "case_0000" if self.second is not None else "case"
        images = [self.image.write(folder / "images" / ending, whole)]
        if self.second is not None:
            images.append(self.second.write(folder / "images" / "case_0001", 500 - whole))
        how = self.label or replace(self.image, dtype=np.int16, slope=None, raw_slope=self.image.raw_slope)
        return tuple(images), how.write(folder / "labels" / "case", stored)


@dataclass(frozen=True)
class Seen:
    """What a part of the software sees; ``None`` for what it does not look at.

    Args:
        image: ``(C, x, y, z)``.
        affine: voxel index -> RAS+ mm.
        label: ``(x, y, z)``.
    """

    image: np.ndarray | None = None
    affine: np.ndarray | None = None
    label: np.ndarray | None = None


def plainly(images: tuple[Path, ...], label: Path) -> Seen:
    """What nibabel and numpy say, with the unit of the header taken into account, and labels rounded."""

    def volumes(path: Path) -> np.ndarray:
        voxels = np.asanyarray(nib.load(path).dataobj)
        return np.moveaxis(voxels.reshape(*(*voxels.shape, 1, 1)[:3], -1), -1, 0)

    first = nib.load(images[0])
    scale = MILLIMETRES[first.header.get_xyzt_units()[0]]
    return Seen(
        image=np.concatenate([volumes(path) for path in images]).astype(np.float32),
        affine=np.diag([scale, scale, scale, 1.0]) @ first.affine,
        label=np.rint(volumes(label)[0]).astype(np.int64),
    )
