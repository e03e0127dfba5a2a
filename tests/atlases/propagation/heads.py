"""Heads of known shape at known places, as atlases, and what propagations are compared by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from atlaseg.atlases.atlas import Atlas
from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.atlases.propagation.propagation import Propagation, PropagationOptions, propagate
from atlaseg.atlases.registration.stage import Stage
from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.errors import (
    AtlasegError,
)

SHAPE = (20, 22, 18)


TABLE = LabelTable.from_names({"core": 1, "shell": 7})


#: A turned, shifted grid with voxels of unlike size, millimetres.
AFFINE = np.array([[-1.0, 0.1, 0, 30], [0.1, 1.0, 0, -20], [0, 0, 1.3, 5], [0, 0, 0, 1]])


QUICK = PropagationOptions(
    transform=(Stage("rigid", shrink=(2,), smoothing_mm=(1.0,), iterations=(40,), samples=0),)
)


TWO_STEPS = replace(
    QUICK,
    transform=(
        *QUICK.transform,
        Stage("bspline", shrink=(2,), smoothing_mm=(1.0,), iterations=(5,), samples=0),
    ),
)


def head(shift: tuple[float, float, float] = (0, 0, 0), channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """A ball in a shell, with a bump that tells its sides apart; channels have other contrasts."""
    x, y, z = (np.indices(SHAPE) - np.array([10, 11, 9])[:, None, None, None]).astype(float)
    x, y, z = x - shift[0], y - shift[1], z - shift[2]
    radius = np.sqrt(x**2 + (y / 1.2) ** 2 + (z / 0.9) ** 2)
    bump = np.exp(-((x - 4) ** 2 + (y - 3) ** 2 + z**2) / 6)
    image = 1 / (1 + np.exp(radius - 5.5)) + 0.8 / (1 + np.exp(2 * (radius - 2.5))) + bump
    labels = np.where(radius < 2.5, 1, np.where(radius < 5.5, 7, 0)).astype(np.uint8)
    return np.stack([100 * (image + 0.5 * c * bump) for c in range(channels)]).astype(np.float32), labels


def write(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


SHIFTS = {"a": (1, 0, 0), "b": (0, -1.5, 0), "c": (-1, 1, 0.5), "d": (0, 0, 1)}


def make(folder: Path, channels: int = 1) -> AtlasSet:
    found = []
    for name, shift in SHIFTS.items():
        image, labels = head(shift, channels)
        files = [
            write(folder / f"images/{name}_{n}.nii", voxels * (3 if name == "b" else 1))
            for n, voxels in enumerate(image)
        ]
        found.append(Atlas(name, tuple(files), write(folder / f"labels/{name}.nii", labels)))
    return AtlasSet("heads", tuple(found), TABLE, tuple(f"T{n}" for n in range(channels)))


def carry_all(atlases: AtlasSet, options: PropagationOptions = QUICK, **choices) -> Propagation:
    return propagate(atlases, (head()[0], AFFINE), options, **choices)


def same(a: Propagation, b: Propagation) -> bool:
    x, y = a.candidates(), b.candidates()
    return all(
        np.array_equal(getattr(x, name), getattr(y, name))
        for name in ("labels", "images", "inside", "target")
    )


def one_line(kind: type[AtlasegError], match: str, call) -> None:
    with pytest.raises(kind, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)
