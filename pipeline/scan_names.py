"""Names of scans: which files are volumes, and what is called the same."""

from __future__ import annotations

from pathlib import Path

__all__ = ["SUFFIXES", "is_volume", "suffix_of", "volume_name"]

#: Endings of the files that are read and written, in lower case; names may have them in any case.
SUFFIXES = (".nii.gz", ".nii")


def suffix_of(path: Path) -> str:
    """``.nii.gz`` or ``.nii`` as the file has it (``.NII.GZ``), empty for other files.

    >>> suffix_of(Path("a.NII.GZ")), suffix_of(Path("a.nii")), suffix_of(Path("a.mha"))
    ('.NII.GZ', '.nii', '')
    """
    ending = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")
    return path.name[len(path.name) - len(ending) :]


def is_volume(path: Path) -> bool:
    """Whether the name is that of a volume; hidden files (macOS writes ``._name`` beside ``name``) are none.

    >>> is_volume(Path("a.NII")), is_volume(Path("._a.nii")), is_volume(Path("a.json"))
    (True, False, False)
    """
    return bool(suffix_of(path)) and not path.name.startswith(".")


def volume_name(path: Path) -> str:
    """File name without ``.nii`` or ``.nii.gz``.

    >>> volume_name(Path("scans/patient.01.nii.gz"))
    'patient.01'
    """
    suffix = suffix_of(path)
    return path.name[: -len(suffix)] if suffix else path.stem
