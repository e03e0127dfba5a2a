"""Rigid registration of MNI phantoms of unlike resolution and axis order, by the engines that heads are given to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial.transform import Rotation

from atlaseg.atlases.registration.register import register
from atlaseg.atlases.registration.transforms.frames import affine_of, from_itk, to_itk
from atlaseg.atlases.registration.transforms.resampling import resample_labels
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.synthetic.brain_phantom import make_subject

pytest.importorskip("nilearn", reason="phantoms are made from the template that nilearn ships")

if TYPE_CHECKING:
    import SimpleITK as sitk

#: Making heads and registering them takes half a minute of each engine, ANTs two.
pytestmark = pytest.mark.slow

COARSE = (2.75, 2.75, 2.75)
FINE = (1.4, 1.4, 3.0)


@dataclass(frozen=True)
class Head:
    """A scan and its labels, in ITK."""

    image: sitk.Image
    label: sitk.Image

    def lying(self, pose: npt.NDArray[np.float64]) -> Head:
        """The same head elsewhere in the scanner."""
        return Head(*(to_itk(from_itk(i)[0], pose @ affine_of(i)) for i in (self.image, self.label)))


def head(seed: int, spacing: tuple[float, float, float], orientation: str) -> Head:
    made = make_subject(seed, spacing=spacing, orientation=orientation)
    return Head(to_itk(made.image.astype(np.float32), made.affine), to_itk(made.label, made.affine))


def pose_of(angles: tuple[float, float, float], shift: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    pose[:3, 3] = shift
    return pose


POSE = pose_of((9, -6, 12), (14, -9, 6))


@pytest.fixture(scope="module")
def fixed() -> Head:
    return head(11, COARSE, "RAS")


def brain_points(scan: Head) -> npt.NDArray[np.float64]:
    """Points of the brain, RAS+ mm."""
    label, affine = from_itk(scan.label)
    points: npt.NDArray[np.float64] = np.argwhere(label > 0)[::50] @ affine[:3, :3].T + affine[:3, 3]
    return points


def dice(fixed: Head, moving: Head, transform: Transform) -> float:
    """Of the two brains."""
    carried = from_itk(resample_labels(moving.label, fixed.label, transform))[0] > 0
    own = from_itk(fixed.label)[0] > 0
    return float(2 * (own & carried).sum() / (own.sum() + carried.sum()))


ENGINES = ("elastix", "torch", "simpleitk", "ants")


@pytest.mark.parametrize("engine", ENGINES)
def test_one_head_scanned_twice_is_found_to_a_tenth_of_a_voxel(fixed: Head, engine: str) -> None:
    again = head(11, FINE, "LPS").lying(POSE)
    found = register(fixed.image, again.image, "rigid", engine=engine).transform
    points = brain_points(fixed)
    errors = np.linalg.norm(found.points(points) - Transform.from_matrix(POSE).points(points), axis=1)
    assert errors.max() < 0.28
    assert dice(fixed, again, found) > 0.98 > 0.8 > dice(fixed, again, Transform.identity())


@pytest.mark.parametrize("engine", ENGINES)
def test_two_heads_are_found_wherever_they_lie(fixed: Head, engine: str) -> None:
    """No pose of another head is the true one, but it must not depend on how that head lies in the scanner."""
    second = head(12, FINE, "LPS")
    straight, turned = (
        register(fixed.image, scan.image, "rigid", engine=engine).transform
        for scan in (second, second.lying(POSE))
    )
    points = brain_points(fixed)
    there = Transform.from_matrix(POSE).points(straight.points(points))
    assert np.linalg.norm(there - turned.points(points), axis=1).max() < 1.4
    before, after = dice(fixed, second, Transform.identity()), dice(fixed, second, straight)
    assert after > before
    assert after > 0.92
