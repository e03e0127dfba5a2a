"""Fixtures of the atlas tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

SHAPE = (22, 24, 20)

Atlases = Callable[..., Path]


def write_ball(
    folder: Path,
    name: str,
    radius: float,
    centre: tuple[float, float, float] = (11.0, 12.0, 10.0),
    marker: int = 0,
    seed: int = 0,
) -> None:
    """A bright ball (label 1) with a brighter core off its middle (label 4) in noise, 1 mm, as NIfTI."""
    import nibabel as nib

    points = np.moveaxis(np.indices(SHAPE, float), 0, -1) - centre
    distance = np.linalg.norm(points, axis=-1)
    core = np.linalg.norm(points - (radius / 3, 0, radius / 4), axis=-1)
    label = np.where(core < radius / 2.5, 4, np.where(distance < radius, 1, 0)).astype(np.uint8)
    noise = np.random.default_rng(seed).normal(0, 3, SHAPE)
    soft = 1 / (1 + np.exp(distance - radius)) + 1 / (1 + np.exp(core - radius / 2.5))
    if marker:
        label[label == 4] = marker
    for kind, voxels in (("images", (100 * soft + noise).astype(np.float32)), ("labels", label)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), folder / kind / f"{name}.nii.gz")


@pytest.fixture
def balls(tmp_path: Path) -> Atlases:
    """Writes balls of given radii, a little off each other, as a plain data set; returns its folder.

    ``marker`` replaces the core's label in the last of them.
    """

    def write(*radii: float, marker: int = 0) -> Path:
        folder = tmp_path / "balls"
        for number, radius in enumerate(radii):
            off = 0.7 * (number % 3 - 1)
            last = marker if number == len(radii) - 1 else 0
            write_ball(folder, "abcdefgh"[number], radius, (11 + off, 12 - off, 10.0), last, number)
        return folder

    return write


@pytest.fixture
def folder(build) -> Path:
    """Two oblique atlases, the first with a mask and landmarks."""
    for name in "ab":
        build.volume(build.folder / f"images/{name}.nii.gz", build.noise(), build.oblique)
        build.volume(build.folder / f"labels/{name}.nii.gz", build.labels(), build.oblique)
    mask = (build.labels() > 0).astype(np.uint8) * 255
    build.volume(build.folder / "masks/a.nii.gz", mask, build.oblique)
    (build.folder / "landmarks").mkdir()
    (build.folder / "landmarks/a.csv").write_text("x,y,z\n1,2,3\n")
    return build.json("labels.json", {"background": 0, "liver": 1, "lesion": 4})
