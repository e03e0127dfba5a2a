"""Transforms of other programs, recognised so that a refusal can say what to do.

They are not read, because what they mean is not in the file: the matrices of FLIRT need both scans, those of AFNI and
greedy are in frames that the file does not name, and each maps one way or the other.
"""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["foreign_transform"]

_ITK_CONVERSION = "c3d_affine_tool {name} -oitk transform.txt"
_FSL_CONVERSION = "c3d_affine_tool -ref FIXED -src MOVING {name} -fsl2ras -oitk transform.txt"
_NUMBER = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
_LTA = "a linear transform of FreeSurfer; convert it: lta_convert --inlta {name} --outitk transform.txt"
_AFNI = (
    "a matrix of AFNI (12 numbers); convert it to ITK's format, for example by nitransforms "
    "(load it with fmt='afni', write it with fmt='itk')"
)
_MATRIX = (
    "a matrix as plain text, as FLIRT, greedy and NiftyReg write it, without the frame it is in; convert it. FLIRT: "
    f"{_FSL_CONVERSION}. greedy: {_ITK_CONVERSION}"
)
#: By the ending of the name, in lower case.
_SUFFIXES = {
    ".lta": _LTA,
    ".xfm": "a transform of MINC; convert it: itk_convert_xfm {name} transform.txt",
    ".1d": _AFNI,
    ".m3z": "a nonlinear transform of FreeSurfer; convert it: mri_warp_convert --inm3z {name} --outitk warp.nii.gz",
    ".mgz": "a volume of FreeSurfer; convert a warp: mri_warp_convert --inm3z {name} --outitk warp.nii.gz",
    ".x5": "a transform in the X5 format; convert it to ITK's, for example by nitransforms",
    ".dat": "a registration of FreeSurfer; convert it: lta_convert --inreg {name} --outitk transform.txt",
}
#: Image files that may hold a displacement field.
_IMAGES = (".mha", ".mhd", ".nrrd", ".nhdr")


def foreign_transform(path: Path) -> str | None:
    """Identify a transform file of another program, with advice; ``None`` where it is not recognised.

    Args:
        path: a file or a folder that is there.
    """
    name = path.name
    if path.is_dir():
        return "a folder; name the transform file in it"
    if path.stat().st_size == 0:
        return "an empty file; was it written to the end?"
    lower = name.lower()
    for suffix, what in _SUFFIXES.items():
        if lower.endswith(suffix):
            return what.format(name=name)
    if lower.endswith(_IMAGES):
        return (
            "an image; a displacement field is read as .nii.gz: convert it, in LPS+ mm, by ITK or 3D Slicer"
        )
    with path.open("rb") as file:
        start = file.read(1 << 14)
    if lower.endswith(".mat") and start.startswith(b"MATLAB "):
        return (
            "a file of MATLAB 5 or later, as SPM writes matrices; ANTs' .mat files are of MATLAB 4. Convert the matrix "
            "to an ITK text file"
        )
    return _text(name, start)


def _text(name: str, start: bytes) -> str | None:
    """Identify text by its first lines."""
    try:
        text = start.decode("ascii")
    except UnicodeDecodeError:
        return None
    if text.startswith("MNI Transform File"):
        return _SUFFIXES[".xfm"].format(name=name)
    if re.search(r"^\s*nxforms\s*=", text, re.MULTILINE) or re.match(r"\s*type\s*=", text):
        return _LTA.format(name=name)
    lines = [line.strip() for line in text.splitlines()]
    return _table(name, [line for line in lines if line and not line.startswith(("#", "//", "%"))])


def _table(name: str, lines: list[str]) -> str | None:
    """Identify lines that contain only numbers."""
    if not lines:
        return "a text file without any transform in it; was it written to the end?"
    rows = [line.replace(",", " ").split() for line in lines]
    if not all(_NUMBER.match(word) for row in rows for word in row):
        return None
    widths = [len(row) for row in rows]
    if widths in ([4] * 4, [4] * 3, [3] * 3, [16]):
        return _MATRIX.format(name=name)
    if set(widths) == {12}:
        return _AFNI
    return "a text file of numbers that does not say what they are; write the transform as ITK text (.tfm)"
