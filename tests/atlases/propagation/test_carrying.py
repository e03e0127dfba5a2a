"""Kept registrations: what names them stays the same, so that work folders of version 0.1 go on being found."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from atlaseg.atlases.atlas import Atlas
from atlaseg.atlases.propagation import work_folder
from atlaseg.atlases.propagation.carrying import Scan, Task, carry
from atlaseg.atlases.propagation.propagation import PropagationOptions
from atlaseg.atlases.propagation.work_folder import Finished, WorkFolder
from atlaseg.atlases.registration.engines import registry
from atlaseg.atlases.registration.stage import Stage
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.case import LabelTable

SHAPE = (20, 24, 18)
AFFINE = np.diag((1.0, 1.5, 2.0, 1.0))

OPTIONS = {
    "default": PropagationOptions(),
    "elastix": PropagationOptions("bspline", linear="rigid", same_modality=False),
    "ants": PropagationOptions("syn", seed=3),
    "simpleitk": PropagationOptions("bspline", "simpleitk", linear_engine="simpleitk"),
    "greedy": PropagationOptions("deformable", "greedy", linear="affine"),
    "stages": PropagationOptions((Stage("rigid"), Stage("bspline", "ncc", iterations=(9, 7))), "elastix"),
}
#: First digits of the keys of the linear step and of the whole, as version 0.1.0 made them (its Python code run on the
#: same atlas and scan, every library being of version 1.0).
KEYS = {
    "default": ("1c03b5964ad1e19a", "eea5b5704732fac2"),
    "elastix": ("63778a41dd920e7c", "caa61064ddf229fd"),
    "ants": ("8b8b4503b0938194", "28e7b4e68f23a801"),
    "simpleitk": ("0a7a8c1bbf64a906", "d4a5f39525ba5fb2"),
    "greedy": ("31a68ff8b13d1864", "e6f81e2bd54ee0f6"),
    "stages": ("a1a8af77f07f0fa0", "c6846b5ea2e89169"),
}


def intensities(shift: int) -> np.ndarray:
    x, y, z = np.indices(SHAPE)
    return ((7 * x + 3 * y * y + 11 * z + shift * x * z) % 101).astype(np.float32)


@pytest.mark.parametrize("name", OPTIONS)
def test_keys_are_those_of_version_0_1(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def read(_: WorkFolder, name: str, key: str) -> Finished:
        asked.append((name, key[:16]))
        return Finished(Transform.identity(), 0.0, {"kind": "rigid"}, key)

    monkeypatch.setattr(WorkFolder, "read", read)
    for module in (registry, work_folder):
        monkeypatch.setattr(module, "version", lambda _: "1.0")
    label = np.zeros(SHAPE, np.uint8)
    label[5:9, 6:12, 4:9] = 1
    for file, voxels in (("image", intensities(1)), ("label", label)):
        nib.save(nib.Nifti1Image(voxels, AFFINE), tmp_path / f"{file}.nii.gz")
    atlas = Atlas("a", (tmp_path / "image.nii.gz",), tmp_path / "label.nii.gz")
    scan = Scan(intensities(2), AFFINE, digest="scan")
    carry(Task(atlas, LabelTable.from_values((0, 1)), 1, scan, OPTIONS[name].steps(), work=tmp_path))
    assert asked == [("a-linear", KEYS[name][0]), ("a-full", KEYS[name][1])]
