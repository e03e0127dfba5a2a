"""Volumes that are no volumes: every command refuses each of them in one line that names the file."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest

if TYPE_CHECKING:
    from tests.bad_inputs.conftest import Good, Judge

pytestmark = pytest.mark.slow

#: Offset and struct code of fields of a NIfTI-1 header.
FIELDS = {
    "dim": (40, "8h"),
    "datatype": (70, "h"),
    "bitpix": (72, "h"),
    "pixdim": (76, "8f"),
    "vox_offset": (108, "f"),
    "scl_slope": (112, "f"),
    "scl_inter": (116, "f"),
    "qform_code": (252, "h"),
    "sform_code": (254, "h"),
    "quatern_b": (256, "f"),
    "srow_x": (280, "4f"),
    "magic": (344, "4s"),
}
NAN, INF = float("nan"), float("inf")


def whole(kind: Any = np.float32) -> bytes:
    """Bytes of a volume that is in order."""
    voxels = np.arange(16 * 18 * 14).reshape(16, 18, 14) % 3
    return nib.Nifti1Image(voxels.astype(kind), np.eye(4)).to_bytes()


def changed(**fields: Any) -> bytes:
    """The same with other values in its header."""
    data = bytearray(whole())
    for name, value in fields.items():
        offset, code = FIELDS[name]
        struct.pack_into(f"<{code}", data, offset, *(value if isinstance(value, tuple) else (value,)))
    return bytes(data)


def volume(voxels: Any, affine: Any = None) -> bytes:
    """Bytes of a volume of other voxels."""
    return nib.Nifti1Image(np.asarray(voxels), np.eye(4) if affine is None else affine).to_bytes()


def packed(data: bytes) -> bytes:
    return gzip.compress(data, 1)


def bomb() -> bytes:
    """A small file that unpacks to a gigabyte, behind a header that asks for all of it as the largest of types."""
    header = changed(dim=(3, 32767, 32767, 20, 1, 1, 1, 1), datatype=64, bitpix=64)[:352]
    engine = zlib.compressobj(9, zlib.DEFLATED, 31)
    return engine.compress(header) + engine.compress(bytes(1 << 24)) + engine.flush()


def long_tail() -> bytes:
    """A whole volume behind which a quarter of a gigabyte of zeros follows."""
    engine = zlib.compressobj(1, zlib.DEFLATED, 31)
    parts = [engine.compress(whole())] + [engine.compress(bytes(1 << 24)) for _ in range(16)]
    return b"".join(parts) + engine.flush()


def rgb() -> bytes:
    kind = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    return nib.Nifti1Image(np.zeros((16, 18, 14), kind), np.eye(4)).to_bytes()


SHEAR = np.array([[1, 0.4, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])

#: Name of a file and its bytes, or ``None`` for what is made otherwise.
BROKEN: dict[str, tuple[str, Callable[[], bytes]]] = {
    "empty": ("x.nii", lambda: b""),
    "empty-gz": ("x.nii.gz", lambda: b""),
    "nothing-packed": ("x.nii.gz", lambda: packed(b"")),
    "text": ("x.nii", lambda: b"this is a text\n" * 40),
    "text-packed": ("x.nii.gz", lambda: packed(b"this is a text\n" * 40)),
    "plain-as-gz": ("x.nii.gz", whole),
    "gz-as-plain": ("x.nii", lambda: packed(whole())),
    "zeros": ("x.nii", lambda: bytes(2000)),
    "ones": ("x.nii", lambda: b"\xff" * 2000),
    "half-a-header": ("x.nii", lambda: whole()[:200]),
    "header-only": ("x.nii", lambda: whole()[:352]),
    "half": ("x.nii", lambda: whole()[:4000]),
    "one-byte-short": ("x.nii", lambda: whole()[:-1]),
    "half-gz": ("x.nii.gz", lambda: packed(whole())[: len(packed(whole())) // 2]),
    "no-checksum": ("x.nii.gz", lambda: packed(whole())[:-8]),
    "wrong-checksum": ("x.nii.gz", lambda: packed(whole())[:-8] + bytes(8)),
    "bit-flipped": ("x.nii.gz", lambda: packed(whole())[:300] + b"\x00\xff\x00" + packed(whole())[303:]),
    "long-tail": ("x.nii.gz", long_tail),
    "bomb": ("x.nii.gz", bomb),
    "no-magic": ("x.nii", lambda: changed(magic=b"abc\0")),
    "no-axes": ("x.nii", lambda: changed(dim=(0, 16, 18, 14, 1, 1, 1, 1))),
    "nine-axes": ("x.nii", lambda: changed(dim=(9, 16, 18, 14, 1, 1, 1, 1))),
    "negative-axes": ("x.nii", lambda: changed(dim=(-3, 16, 18, 14, 1, 1, 1, 1))),
    "no-slice": ("x.nii", lambda: changed(dim=(3, 16, 18, 0, 1, 1, 1, 1))),
    "negative-slices": ("x.nii", lambda: changed(dim=(3, 16, 18, -14, 1, 1, 1, 1))),
    "huge": ("x.nii", lambda: changed(dim=(3, 32767, 32767, 32767, 1, 1, 1, 1))),
    "huge-gz": ("x.nii.gz", lambda: packed(changed(dim=(3, 32767, 32767, 32767, 1, 1, 1, 1)))),
    "unknown-type": ("x.nii", lambda: changed(datatype=9999)),
    "no-type": ("x.nii", lambda: changed(datatype=0)),
    "binary-type": ("x.nii", lambda: changed(datatype=1, bitpix=1)),
    "complex": ("x.nii", lambda: volume(np.ones((8, 9, 10), np.complex64))),
    "colours": ("x.nii", rgb),
    "offset-nan": ("x.nii", lambda: changed(vox_offset=NAN)),
    "offset-infinite": ("x.nii", lambda: changed(vox_offset=INF)),
    "offset-huge": ("x.nii", lambda: changed(vox_offset=1e9)),
    "offset-negative": ("x.nii", lambda: changed(vox_offset=-400.0)),
    "slope-nan": ("x.nii", lambda: changed(scl_slope=NAN, scl_inter=1.0)),
    "slope-infinite": ("x.nii", lambda: changed(scl_slope=INF)),
    "intercept-nan": ("x.nii", lambda: changed(scl_slope=2.0, scl_inter=NAN)),
    "affine-nan": ("x.nii", lambda: changed(sform_code=1, srow_x=(NAN, 0, 0, 0))),
    "affine-infinite": ("x.nii", lambda: changed(sform_code=1, srow_x=(INF, 0, 0, 0))),
    "affine-zero": ("x.nii", lambda: changed(sform_code=1, srow_x=(0, 0, 0, 0))),
    "affine-flat": ("x.nii", lambda: changed(sform_code=1, srow_x=(0, 1, 0, 0))),
    "quaternion-nan": ("x.nii", lambda: changed(sform_code=0, qform_code=1, quatern_b=NAN)),
    "quaternion-long": ("x.nii", lambda: changed(sform_code=0, qform_code=1, quatern_b=7.0)),
    "spacing-nan": ("x.nii", lambda: changed(sform_code=0, qform_code=1, pixdim=(1, NAN, 1, 1, 1, 1, 1, 1))),
    "sheared": ("x.nii", lambda: volume(np.ones((8, 9, 10), np.float32), SHEAR)),
    "all-nan": ("x.nii", lambda: volume(np.full((16, 18, 14), NAN, np.float32))),
    "one-infinite": ("x.nii", lambda: volume(np.where(np.arange(4032).reshape(16, 18, 14) == 7, INF, 1.0))),
}


@pytest.fixture(params=BROKEN)
def broken(request: pytest.FixtureRequest, judge: Judge) -> Path:
    name, data = BROKEN[request.param]
    path = judge.folder / name
    path.write_bytes(data())
    return path


def test_segment_by_a_network(broken: Path, good: Good, judge: Judge) -> None:
    judge.refused("segment", good.network, broken, "--out", judge.out, says=broken.name)


def test_check(broken: Path, good: Good, judge: Judge) -> None:
    data = good.copy("data", judge.folder)
    (data / "images" / "c0.nii.gz").unlink()
    broken.rename(data / "images" / f"c0{''.join(broken.suffixes)}")
    judge.refused("check", data, says="c0.nii", code=2)


def test_label_in_train(broken: Path, good: Good, judge: Judge) -> None:
    data = good.copy("data", judge.folder)
    (data / "labels" / "c0.nii.gz").unlink()
    broken.rename(data / "labels" / f"c0{''.join(broken.suffixes)}")
    judge.refused("train", data, "--out", judge.out, "--method", "majority", says="c0.nii", code=2)


def test_evaluate(broken: Path, good: Good, judge: Judge) -> None:
    judge.refused("evaluate", broken, good.label, "--out", judge.folder / "scores.csv", says=broken.name)


def test_register(broken: Path, good: Good, judge: Judge) -> None:
    words = ("--out", judge.out, "--transform", "rigid")
    judge.refused("register", good.scan, broken, *words, says=broken.name, code=2)


def test_fuse(broken: Path, good: Good, judge: Judge) -> None:
    judge.refused(
        "fuse", good.label, broken, "--out", judge.folder / "fused.nii.gz", says=broken.name, code=2
    )


#: Images that `warp` carries as they are: what is not finite stays where it is.
CARRIED = ("all-nan", "one-infinite")


@pytest.mark.parametrize("kind", [(), ("--labels",)], ids=["image", "labels"])
@pytest.mark.parametrize("broken", [name for name in BROKEN if name not in CARRIED], indirect=True)
def test_warp(broken: Path, good: Good, judge: Judge, kind: tuple[str, ...]) -> None:
    words = ("--transform", good.transform, "--reference", good.scan, "--out", judge.folder / "o.nii.gz")
    judge.refused("warp", broken, *words, *kind, says=broken.name, code=2)
