"""Pair predictions and references by name."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from atlaseg.pipeline.errors import DatasetError, MissingFileError
from atlaseg.pipeline.io.result_files import goes_with
from atlaseg.pipeline.io.scan_names import enumerated, list_volumes, volume_name

__all__ = ["Pair", "Pairing", "pair_files"]


@dataclass(frozen=True)
class Pair:
    """A reference and the prediction of the same case, ``None`` where there is none."""

    case: str
    reference: Path
    prediction: Path | None


@dataclass(frozen=True)
class Pairing:
    """Pairs of label maps to compare, and further files found.

    Args:
        pairs: sorted by name.
        problems: files that are most likely label maps and cannot be read, and why.
        notes: what else was left out, a line each.
    """

    pairs: list[Pair]
    problems: dict[str, str]
    notes: tuple[str, ...]


def pair_files(predictions: Path, references: Path, known: Collection[Path] = ()) -> Pairing:
    """Cases to compare.

    Two folders: every reference, with the prediction of the same name. A file and a folder: the case of the
    file. Two files: these, whatever their names. Predictions without a reference are left out. Files that atlaseg has
    written beside a label map are passed over.

    Args:
        predictions: folder or file.
        references: folder or file.
        known: other files that nothing needs to be said of.

    Raises:
        MissingFileError: a path is not there.
        DatasetError: no case is in both, or two files of a folder have one case name.
    """
    for path in (predictions, references):
        if not path.exists():
            raise MissingFileError(f"{path}: no such file or folder; give label maps (.nii or .nii.gz)")
    if predictions.is_file() and references.is_file():
        return Pairing([Pair(volume_name(references), references, predictions)], {}, ())
    notes: list[str] = []
    problems: dict[str, str] = {}
    found, wanted = (_volumes(path, known, problems, notes) for path in (predictions, references))
    wanted = {name: path for name, path in wanted.items() if not goes_with(path, wanted)}
    found = {name: path for name, path in found.items() if name in wanted or not goes_with(path, found)}
    both = found.keys() & wanted.keys()
    if not both:
        raise DatasetError(
            f"{predictions}: nothing to compare, no label map in it has the name of one in {references}; "
            f"found {enumerated(sorted(found), 5) or 'no .nii or .nii.gz'}, "
            f"expected {enumerated(sorted(wanted), 5) or 'names of .nii or .nii.gz files there, but it holds none'}"
            + "".join(f"; {note}" for note in notes)
        )
    if predictions.is_file():
        wanted = {name: path for name, path in wanted.items() if name in found}
    if references.is_dir() and (extra := sorted(found.keys() - wanted.keys())):
        notes.append(f"{predictions}: left out, no reference of the name: {enumerated(extra)}")
    return Pairing(
        [Pair(name, path, found.get(name)) for name, path in sorted(wanted.items())], problems, tuple(notes)
    )


def _volumes(
    path: Path, known: Collection[Path], problems: dict[str, str], notes: list[str]
) -> dict[str, Path]:
    """Volumes of a folder, or the one that is named, by case name."""
    if path.is_file():
        return {volume_name(path): path}
    listed = list_volumes(path)
    for file, problem in listed.refused.items():
        raise DatasetError(f"{file}: {problem}")
    problems.update({file.name: f"{file}: {problem}" for file, problem in listed.scans.items()})
    names = {volume_name(file) for file in listed.volumes}
    passed = {file for file in (*listed.pictures, *listed.others) if goes_with(file, names) or file in known}
    left = replace(
        listed,
        pictures={file: said for file, said in listed.pictures.items() if file not in passed},
        others=tuple(file for file in listed.others if file not in passed),
    )
    notes.extend(left.notes())
    return {volume_name(file): file for file in listed.volumes}
