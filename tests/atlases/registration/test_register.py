"""Registration of a pair: what is checked before an engine runs, and how it is said."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from atlaseg.atlases.registration.engine import RegistrationError
from atlaseg.atlases.registration.register import engine_for, register
from atlaseg.atlases.registration.stage import stages_of
from atlaseg.atlases.registration.transforms.frames import to_itk
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.errors import AtlasegError, DatasetError, GeometryError, OptionError

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
    with pytest.raises(OptionError, match="different modalities; engines that can: torch, greedy"):
        register(good, good, "deformable", engine="simpleitk", same_modality=False)


@pytest.mark.parametrize(
    ("transform", "engine"),
    [("rigid", "elastix"), ("bspline", "elastix"), ("syn", "ants"), ("deformable", "torch")],
)
def test_engine_where_none_is_named(transform: str, engine: str) -> None:
    assert engine_for(stages_of(transform)).name == engine


def test_images_with_next_to_nothing_or_out_of_this_world_are_named() -> None:
    good = to_itk(noise(), np.eye(4))
    assert "fixed image: 2 x 2 x 2 voxels are too few" in one_line(
        GeometryError, to_itk(noise()[:2, :2, :2], np.eye(4)), good
    )
    assert "moving image: 14 x 1 x 1 voxels" in one_line(
        GeometryError, good, to_itk(noise()[:, :1, :1], np.eye(4))
    )
    far = np.eye(4)
    far[:3, 3] = 1e20
    assert "lies 1e+20 mm from the origin" in one_line(GeometryError, good, to_itk(noise(), far))


def test_what_a_library_says_never_stands_alone(tmp_path: Path) -> None:
    class Failing:
        name = "failing"
        kinds, metrics = frozenset({"rigid"}), frozenset({"ncc"})

        def register(self, *_: object) -> Transform:
            raise RuntimeError(
                "Exception thrown in X.hxx:12:\nITK ERROR: Foo(0x1): something of the inside.\n"
            )

    files = []
    for name in "ab":
        files.append(tmp_path / f"{name}.nii")
        nib.save(nib.Nifti1Image(noise(), np.eye(4)), files[-1])
    message = one_line(RegistrationError, *files, engine=Failing())
    assert message.startswith(f"{files[0]} and {files[1]}: failing failed (")
    assert message.endswith("; try another initialisation, metric or engine")
    assert "X.hxx" not in message


def test_a_start_that_is_not_invertible_is_refused_before_images_are_read() -> None:
    flat = sitk.ScaleTransform(3, (1.0, 1.0, 1e-9))
    with pytest.raises(GeometryError, match="the initial transform has no inverse"):
        register("nowhere.nii", "nowhere.nii", "rigid", initial=Transform(flat))


def test_what_is_filled_in_around_a_field_of_view_does_not_lead() -> None:
    where = np.stack(np.meshgrid(*[np.arange(24) - 11.5] * 3, indexing="ij"), axis=-1)
    shift = np.array([1.0, 0.5, -1.0])

    def body(points: np.ndarray) -> np.ndarray:
        scale, place = np.array([7.0, 9, 8]), np.array([2.0, 3, -1])
        return (
            1000 / (1 + np.exp((np.linalg.norm(points / scale, axis=-1) - 1) * 12))
            + 300 * np.exp(-(((points - place) / 2.5) ** 2).sum(axis=-1))
            - 1000
        ).astype(np.float32)

    fixed, moving = body(where), body(where + shift)
    moving[np.hypot(*np.moveaxis(where[..., :2], -1, 0)) > 11.5] = -3024
    found = register(to_itk(fixed, np.eye(4)), to_itk(moving, np.eye(4)), "rigid").transform
    inside = where[fixed > -500]
    assert np.linalg.norm(found.points(inside) - inside + shift, axis=1).mean() < 0.5
