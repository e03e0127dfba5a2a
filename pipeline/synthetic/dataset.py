"""Writes synthetic cases as a Medical Segmentation Decathlon data set, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.case import Case, Dataset, LabelTable
from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.io.files import WRITING

__all__ = ["SyntheticCase", "case_seeds", "require_new_folder", "write_synthetic_dataset"]


class SyntheticCase(NamedTuple):
    """One labelled scan to be written.

    Args:
        name: of the case; its files are ``NAME.nii.gz``.
        image: ``(*spatial)``; 2-D ones are written as a single slice.
        label: ``(*spatial)`` integers.
        affine: ``(4, 4)``, voxel index -> RAS+ mm.
    """

    name: str
    image: npt.NDArray[Any]
    label: npt.NDArray[Any]
    affine: npt.NDArray[np.float64]


def case_seeds(seed: int, cases: int) -> list[int]:
    """One seed per case, such that data sets of different seeds share none (practically).

    The first cases of a larger data set are those of a smaller one with the same seed.

    Raises:
        OptionError: fewer than one case is asked for, or the seed is negative.

    >>> case_seeds(0, 2) == case_seeds(0, 5)[:2]
    True
    """
    if cases < 1:
        raise OptionError(f"number of cases: expected at least 1, found {cases}")
    if seed < 0:
        raise OptionError(f"seed: expected 0 or more, found {seed}")
    return [int(np.random.SeedSequence([seed, index]).generate_state(1)[0]) for index in range(cases)]


def require_new_folder(folder: Path) -> None:
    """Check that nothing would be overwritten.

    Raises:
        OptionError: the folder holds something, or is a file.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise OptionError(f"{folder}: the folder is not empty; choose a new one, or remove its content first")
    if folder.exists() and not folder.is_dir():
        raise OptionError(f"{folder}: expected a folder, found a file; choose another name")


def write_synthetic_dataset(
    folder: Path,
    cases: Iterable[SyntheticCase],
    *,
    name: str,
    labels: LabelTable,
    channels: tuple[str, ...],
    description: str,
    licence: str,
) -> Dataset:
    """Write ``dataset.json``, ``imagesTr`` and ``labelsTr`` beside their place and rename the folder into it.

    Layout: Antonelli et al., Nature Communications 13, 4128 (2022). The same cases give the same bytes.

    Args:
        folder: to be made; it may exist if it is empty.
        cases: taken one at a time, so that only one is in memory.
        name: of the data set.
        labels: label values and names.
        channels: names of the image channels.
        description: one sentence for ``dataset.json``.
        licence: terms of use for ``dataset.json``.

    Raises:
        OptionError: the folder is not empty.
    """
    require_new_folder(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f"{WRITING}{folder.name}-"))
    try:
        names = [_write_case(temporary, case) for case in cases]
        table = _decathlon_table(
            names, name=name, labels=labels, channels=channels, description=description, licence=licence
        )
        (temporary / "dataset.json").write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
        _let_everyone_in(temporary)
        if folder.is_dir():
            folder.rmdir()
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Dataset(
        name,
        tuple(
            Case(n, (folder / "imagesTr" / f"{n}.nii.gz",), folder / "labelsTr" / f"{n}.nii.gz")
            for n in sorted(names)
        ),
        labels,
        channels,
    )


def _let_everyone_in(folder: Path) -> None:
    """Give the folder the permissions that mkdir would have given it; mkdtemp's are the owner's only."""
    mask = os.umask(0)
    os.umask(mask)
    folder.chmod(0o777 & ~mask)


def _write_case(folder: Path, case: SyntheticCase) -> str:
    for part, voxels in (("imagesTr", case.image), ("labelsTr", case.label)):
        (folder / part).mkdir(exist_ok=True)
        _write_volume(folder / part / f"{case.name}.nii.gz", voxels, case.affine)
    return case.name


def _write_volume(path: Path, voxels: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> None:
    import nibabel as nib

    volume = voxels.reshape(voxels.shape + (1,) * (3 - voxels.ndim))
    image = nib.Nifti1Image(volume, affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, code="scanner")
    image.set_sform(affine, code="scanner")
    nib.save(image, path)


def _decathlon_table(
    names: list[str],
    *,
    name: str,
    labels: LabelTable,
    channels: tuple[str, ...],
    description: str,
    licence: str,
) -> dict[str, Any]:
    return {
        "name": name,
        "description": description,
        "licence": licence,
        "tensorImageSize": "3D",
        "modality": {str(i): channel for i, channel in enumerate(channels)},
        "labels": {str(v): n for v, n in zip(labels.values, labels.names, strict=True)},
        "numTraining": len(names),
        "numTest": 0,
        "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in names],
        "test": [],
    }
