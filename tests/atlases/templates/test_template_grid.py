"""Where a template begins."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.atlases.registration.transforms.frames import affine_of
from atlaseg.atlases.templates.template_grid import common_grid, medoid


def test_medoid_has_the_usual_volumes(balls) -> None:
    assert medoid(AtlasSet.read(balls(4, 6, 9))) == "b"


def test_grid_holds_all_in_ras_with_the_median_voxel(build, tmp_path: Path) -> None:
    """Scans of 12 x 14 x 16 mm in three orientations and voxel sizes, one on top of the other."""
    folder = tmp_path / "set"
    for name, axes, spacing in (("a", "RAS", (1, 1, 2)), ("b", "LPS", (1, 1, 2)), ("c", "PIR", (2, 2, 1))):
        ornt = nib.orientations.axcodes2ornt(axes)
        world = [12.0, 14.0, 16.0]
        affine = np.zeros((4, 4))
        shape = []
        affine[:3, 3] = 5
        for axis, (to, sign) in enumerate(ornt):
            shape.append(int(world[int(to)] / spacing[axis]))
            affine[int(to), axis] = sign * spacing[axis]
            first = spacing[axis] / 2 if sign > 0 else world[int(to)] - spacing[axis] / 2
            affine[int(to), 3] += first
        affine[3, 3] = 1
        label = np.zeros(shape, np.uint8)
        label[2:4, 2:4, 2:4] = 1
        build.volume(folder / "images" / f"{name}.nii.gz", np.ones(shape, np.float32), affine)
        build.volume(folder / "labels" / f"{name}.nii.gz", label, affine)
    atlases = AtlasSet.read(folder)
    grid = common_grid(atlases, dict.fromkeys("abc", np.eye(4)), "b")
    affine = affine_of(grid)
    assert nib.aff2axcodes(affine) == ("R", "A", "S")
    assert np.allclose(np.diag(affine)[:3], (1, 1, 2))  # PIR 2 x 2 x 1 is 1 x 2 x 2 along R, A, S
    # two voxels of margin on each side
    assert grid.GetSize() == (12 + 4, 14 + 4, 8 + 4)
    assert np.allclose(affine[:3, 3], (5 + 0.5 - 2, 5 + 0.5 - 2, 5 + 1 - 4))
