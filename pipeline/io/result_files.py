"""What atlaseg writes beside a label map: what these files are called, and how they are known again."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from atlaseg.pipeline.io.scan_names import volume_name

__all__ = ["atlases_file", "details_file", "goes_with", "probabilities_file"]

_PROBABILITIES, _ATLASES = "_probabilities.nii.gz", "_atlases.json"


def probabilities_file(label_map: Path) -> Path:
    """Probabilities of the labels.

    >>> probabilities_file(Path("labels/p 1.nii.gz")).name
    'p 1_probabilities.nii.gz'
    """
    return label_map.with_name(f"{volume_name(label_map)}{_PROBABILITIES}")


def atlases_file(label_map: Path) -> Path:
    """How well each atlas fitted the scan."""
    return label_map.with_name(f"{volume_name(label_map)}{_ATLASES}")


def details_file(label_map: Path) -> Path:
    """What a fusion rule has estimated."""
    return label_map.with_name(f"{volume_name(label_map)}.json")


def goes_with(path: Path, names: Collection[str]) -> bool:
    """Whether a file was written beside one of the label maps of these names.

    >>> goes_with(Path("a_atlases.json"), {"a"}), goes_with(Path("a_probabilities.nii.gz"), {"a"})
    (True, True)
    >>> goes_with(Path("b_atlases.json"), {"a"}), goes_with(Path("a.txt"), {"a"})
    (False, False)
    """
    beside = (path.with_name(f"{name}.nii.gz") for name in names)
    return any(path in (probabilities_file(map_), atlases_file(map_), details_file(map_)) for map_ in beside)
