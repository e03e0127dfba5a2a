from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from atlaseg.atlases.propagation.linear_start import (
    LARGEST_STRETCH,
    linear_start,
    stretch,
    without_finest_level,
)
from atlaseg.atlases.registration.engine import RegistrationError
from atlaseg.atlases.registration.stage import Stage
from atlaseg.atlases.registration.transforms.frames import from_itk, to_itk
from atlaseg.atlases.registration.transforms.resampling import resample_image, resample_labels
from atlaseg.atlases.registration.transforms.transform import Transform

AFFINE = np.diag([-1.0, 1.0, 1.5, 1.0])


def scaled(*factors: float) -> Transform:
    """Scaling about the middle of the image, RAS+ mm."""
    middle = AFFINE @ [11.5, 11.5, 11.5, 1]
    matrix = np.diag([*factors, 1.0])
    matrix[:3, 3] = middle[:3] - matrix[:3, :3] @ middle[:3]
    return Transform.from_matrix(matrix)


@pytest.fixture(scope="module")
def atlas():
    rng = np.random.default_rng(0)
    labels = np.zeros((24, 24, 24), np.uint8)
    labels[7:16, 6:18, 8:15] = 1
    image = gaussian_filter(rng.normal(size=labels.shape), 1.5) * 4 + labels
    return to_itk(image.astype(np.float32), AFFINE), to_itk(labels, AFFINE)


def choose(
    scan, atlas, affine: Transform | RegistrationError, how: str = "auto", focused: Transform | None = None
):
    """The rule, with registrations whose outcome is given."""

    def run(kind, start):
        assert (start is None) == (kind == "rigid")
        if kind == "rigid":
            return Transform.identity()
        if isinstance(affine, RegistrationError):
            raise affine
        return affine

    def focus(start, mask):
        # the structures and what is around them
        inside, structures = from_itk(mask)[0] != 0, from_itk(atlas[1])[0] != 0
        assert inside[structures].all()
        assert structures.sum() < inside.sum() < inside.size
        if focused is None:
            raise RegistrationError("too few samples")
        return focused

    return linear_start(scan, *atlas, run, how, focus=focus)


def test_a_rigid_mapping_of_the_structures_is_kept_where_it_fits_best(atlas):
    shift = Transform.from_matrix(np.array([[1, 0, 0, 1.5], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    scan = resample_image(atlas[0], atlas[0], shift)
    found = choose(scan, atlas, scaled(1.1, 1, 1), focused=shift)
    assert found.kind == "focused"
    assert found.transform is shift
    assert set(found.correlations) == {"rigid", "focused", "affine"}
    assert choose(atlas[0], atlas, scaled(1.1, 1, 1), focused=shift).kind == "rigid"


def test_an_affine_mapping_that_fits_better_is_kept(atlas):
    right = scaled(1.1, 0.92, 1.05)
    scan = resample_image(atlas[0], atlas[0], right)
    found = choose(scan, atlas, right)
    assert found.kind == "affine"
    assert found.transform is right
    assert found.correlations["affine"] > found.correlations["rigid"] + 0.05
    assert found.stretch == pytest.approx(1.1)


def test_an_affine_mapping_that_fits_worse_is_not(atlas):
    found = choose(atlas[0], atlas, scaled(1.1, 0.92, 1.05))
    assert found.kind == "rigid"
    assert found.correlations["affine"] < found.correlations["rigid"]
    np.testing.assert_array_equal(found.transform.matrix, np.eye(4))


def test_nor_is_one_that_stretches_too_much_however_well_it_fits(atlas):
    wild = scaled(1.01 * LARGEST_STRETCH, 1, 1)
    scan = resample_image(atlas[0], atlas[0], wild)
    found = choose(scan, atlas, wild)
    assert found.correlations["affine"] > found.correlations["rigid"]
    assert found.kind == "rigid"
    assert choose(scan, atlas, wild, "affine").kind == "affine"


def test_nor_one_that_carries_the_atlas_off_the_scan(atlas):
    away = Transform.from_matrix(np.array([[1, 0, 0, 900.0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    assert choose(atlas[0], atlas, away).kind == "rigid"


def test_an_affine_stage_that_gives_up_matters_only_where_it_is_insisted_on(atlas):
    error = RegistrationError("elastix gave up")
    assert choose(atlas[0], atlas, error).kind == "rigid"
    assert choose(atlas[0], atlas, error, "rigid").kind == "rigid"
    with pytest.raises(RegistrationError, match="gave up"):
        choose(atlas[0], atlas, error, "affine")


def test_structures_decide_not_the_rest_of_the_scan(atlas):
    """The affine mapping makes most of the scan fit better and the structures worse."""
    image, labels = atlas
    wrong = scaled(1.15, 0.88, 1.1)
    elsewhere = from_itk(resample_image(image, image, wrong))[0]
    placed = [from_itk(resample_labels(labels, image, t))[0] != 0 for t in (Transform.identity(), wrong)]
    scan = np.where(
        np.pad(placed[0] | placed[1], 6, mode="edge")[6:-6, 6:-6, 6:-6], from_itk(image)[0], elsewhere
    )
    assert choose(to_itk(scan, AFFINE), atlas, wrong).kind == "rigid"


@pytest.mark.parametrize(("factors", "expected"), [((1, 1, 1), 1), ((2, 1, 1), 2), ((0.25, 1, 2), 4)])
def test_stretch_is_relative_to_the_rigid_mapping(factors, expected):
    turn = Transform.from_matrix(
        np.array([[0.8, -0.6, 0, 5], [0.6, 0.8, 0, 6], [0, 0, 1, 7], [0, 0, 0, 1]], dtype=float)
    )
    affine = Transform.compose([turn, scaled(*factors)])
    assert stretch(turn, affine) == pytest.approx(expected)


@pytest.mark.parametrize(
    "stage",
    [
        Stage("rigid", shrink=(4, 2), smoothing_mm=(2.0, 1.0), iterations=(9, 9), samples=2048),
        Stage("rigid", shrink=(1,), smoothing_mm=(0.0,), iterations=(9,), samples=0),
        Stage("rigid"),
    ],
    ids=["samples", "one level", "nothing filled in"],
)
def test_nothing_is_left_out_where_it_saves_nothing(stage: Stage) -> None:
    assert without_finest_level(stage) == stage
