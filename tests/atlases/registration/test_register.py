"""Registration of a pair: what is checked before an engine runs, and how it is said."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from atlases.registration.frames import to_itk
from atlases.registration.register import default_engine, register
from atlases.registration.stage import stages_of
from pipeline.errors import AtlasegError, DatasetError, GeometryError, OptionError

SHAPE = (14, 12, 10)


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)


def one_line(kind: type[AtlasegError], *args: object, **options: object) -> str:
    with pytest.raises(kind) as caught:
        register(*args, "rigid", **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_constant_or_broken_image_is_named_once() -> None:
    good, even = to_itk(noise(), np.eye(4)), to_itk(np.full(SHAPE, 3, np.float32), np.eye(4))
    assert one_line(DatasetError, even, good).startswith("fixed image: every voxel is 3;")
    assert one_line(DatasetError, good, even).startswith("moving image: every voxel is 3;")
    broken = noise()
    broken[2, 3, 4] = np.nan
    assert one_line(DatasetError, good, to_itk(broken, np.eye(4))).startswith(
        "moving image: 1 of 1680 voxels are NaN"
    )


def test_a_file_is_named_once(tmp_path: Path) -> None:
    even, two = tmp_path / "even.nii", tmp_path / "two.nii"
    nib.save(nib.Nifti1Image(np.full(SHAPE, 3, np.float32), np.eye(4)), even)
    nib.save(nib.Nifti1Image(np.stack([noise(), noise(1)], axis=3), np.eye(4)), two)
    good = to_itk(noise(), np.eye(4))
    assert one_line(DatasetError, even, good).startswith(f"{even}: every voxel is 3;")
    message = one_line(GeometryError, two, good, channel=2)
    assert message.startswith(f"{two}: has 2 channel(s)")
    assert message.count("two.nii") == 1


def test_masks_and_stages_are_checked() -> None:
    good = to_itk(noise(), np.eye(4))
    shifted = np.eye(4)
    shifted[0, 3] = 1
    ones = np.ones(SHAPE, np.uint8)
    assert "fixed mask: not on the grid" in one_line(
        GeometryError, good, good, fixed_mask=to_itk(ones, shifted)
    )
    assert "moving mask: the mask is empty" in one_line(
        DatasetError, good, good, moving_mask=to_itk(0 * ones, np.eye(4))
    )
    with pytest.raises(OptionError, match="no stages"):
        register(good, good, ())
    with pytest.raises(OptionError, match="elastix has no syn stage; engines that have it: ants"):
        register(good, good, "syn", engine="elastix")


def test_demons_of_two_modalities_are_refused_before_anything_runs() -> None:
    good = to_itk(noise(), np.eye(4))
    with pytest.raises(OptionError, match="different modalities; take the transform syn of ants"):
        register(good, good, "deformable", engine="simpleitk", same_modality=False)


@pytest.mark.parametrize(
    ("transform", "engine"),
    [("rigid", "elastix"), ("bspline", "elastix"), ("syn", "ants"), ("deformable", "torch")],
)
def test_engine_where_none_is_named(transform: str, engine: str) -> None:
    assert default_engine(stages_of(transform)).name == engine
