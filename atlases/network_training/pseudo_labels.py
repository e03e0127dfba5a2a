"""Labels that atlases give to scans without any, for a network to learn from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.network_training.prior import prior_of
from atlaseg.pipeline.errors import DatasetError, OptionError
from atlaseg.pipeline.io.files import read_json, taking_apart, write_text
from atlaseg.pipeline.io.volume import read_image, write_label_map, write_probabilities
from atlaseg.pipeline.progress import Progress

if TYPE_CHECKING:
    from atlaseg.atlases.multi_atlas_segmenter import MultiAtlasSegmenter

__all__ = ["PseudoCase", "certainty", "write_pseudo_labels"]

SETTINGS = "unlabelled.json"
#: Background with more than this probability says nothing about how certain the structures are.
_SURELY_BACKGROUND = 0.99


@dataclass(frozen=True)
class PseudoCase:
    """A scan without manual labels, with pseudo-labels from atlases.

    Args:
        name: of the scan.
        images: its files.
        label: label map by the atlases.
        prior: their probabilities, 4-D, or ``None``.
        certainty: how certain they are, in (0, 1] (:func:`certainty`).
    """

    name: str
    images: tuple[Path, ...]
    label: Path
    prior: Path | None
    certainty: float


def certainty(probabilities: npt.NDArray[Any]) -> float:
    """Mean probability of the chosen label, over the voxels that are not background beyond doubt.

    Args:
        probabilities: ``(K, *spatial)``, background first.

    >>> certainty(np.array([[1.0, 0.2, 0.5], [0.0, 0.8, 0.5]]))
    0.65
    """
    doubtful = probabilities[0] <= _SURELY_BACKGROUND
    return float(probabilities.max(axis=0)[doubtful].mean()) if doubtful.any() else 0.0


def write_pseudo_labels(
    segmenter: MultiAtlasSegmenter,
    scans: Mapping[str, tuple[Path, ...]],
    folder: Path,
    *,
    with_prior: bool,
    progress: Progress | None = None,
) -> list[PseudoCase]:
    """Label scans by atlases, as new scans are; the corrected labels where a correction was learnt, the prior without.

    Each file is written whole or not at all, and finished scans are kept, so that an interrupted call resumes.

    Args:
        segmenter: with the atlases.
        scans: name -> files of its channels.
        folder: for ``labels/``, ``priors/`` and a note for each scan.
        with_prior: whether priors are written too.
        progress: told the number of finished scans and of all.

    Returns:
        The scans in which any structure was found, in their order.

    Raises:
        OptionError: the folder holds labels that were made with other settings.
        DatasetError: a scan has the name of an atlas.
        AtlasegError: a scan is broken, or the atlases could not be carried to it.
    """
    if known := sorted(set(scans) & set(segmenter.atlases.names)):
        raise DatasetError(f"{known[0]}: a scan without labels has the name of a labelled one; rename it")
    _claim(folder, {**segmenter.settings.as_dict(), "corrected": segmenter.is_corrected, "prior": with_prior})
    made = []
    for number, (name, files) in enumerate(scans.items(), start=1):
        made.append(_label(segmenter, name, files, folder, with_prior=with_prior))
        if progress:
            progress(number, len(scans), "labelling scans without labels")
    return [case for case in made if case.certainty > 0]


def _label(
    segmenter: MultiAtlasSegmenter, name: str, files: tuple[Path, ...], folder: Path, *, with_prior: bool
) -> PseudoCase:
    note, label = folder / f"{name}.json", folder / "labels" / f"{name}.nii.gz"
    prior = folder / "priors" / f"{name}.nii.gz" if with_prior else None
    if not note.is_file():
        image = read_image(files)
        found = segmenter.propagate(image)
        result = segmenter.fuse(found, probabilities=True)
        write_label_map(label, result.label_map, files[0])
        if prior is not None:
            write_probabilities(prior, prior_of(segmenter, found, image).numpy(), files[0])
        chances = np.asarray(result.probabilities)
        sure = certainty(chances) if result.label_map.any() else 0.0
        write_text(note, json.dumps({"certainty": round(sure, 5)}) + "\n")
    with taking_apart(note, "the certainty of labels by atlases"):
        sure = float(read_json(note)["certainty"])
    return PseudoCase(name, files, label, prior, sure)


def _claim(folder: Path, content: dict[str, Any]) -> None:
    path, content = folder / SETTINGS, json.loads(json.dumps(content))
    if path.is_file() and read_json(path) != content:
        raise OptionError(f"{path}: labels here were made with other settings; choose an empty folder")
    write_text(path, json.dumps(content, indent=1) + "\n")
