from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import dice as dissimilarity
from scipy.stats import pearsonr

from atlaseg.atlases.fusion.candidates import Candidates
from atlaseg.atlases.propagation.quality import (
    FEWEST,
    Quality,
    agreement,
    assess,
    correlation,
    coverage,
    leave_out,
    local_correlation,
    mask_overlap,
    mutual_information,
    region_of_interest,
)
from atlaseg.atlases.registration.transforms.jacobian import JacobianStatistics
from atlaseg.pipeline.errors import AtlasegError, DatasetError, GeometryError, LabelError, OptionError

SHAPE = (16, 18, 14)
RNG = np.random.default_rng(0)
STRETCHED = JacobianStatistics(0.1, 0.2, 0.3, -0.1, 2)
FOLDED = JacobianStatistics(1, np.nan, np.nan, -2, -1)


def blobs(shift: int = 0) -> np.ndarray:
    """Two structures, moved along the first axis."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[3 + shift : 9 + shift, 5:12, 4:10] = 1
    labels[5 + shift : 8 + shift, 12:15, 4:10] = 2
    return labels


def scan(labels: np.ndarray, noise: float = 0.05, seed: int = 0) -> np.ndarray:
    texture = np.random.default_rng(seed).normal(0, noise, SHAPE)
    return (labels * 0.4 + texture).astype(np.float32)


def candidates(shifts: list[int], **changes) -> Candidates:
    labels = np.stack([blobs(shift) for shift in shifts])
    images = np.stack([scan(m, seed=n + 1)[None] for n, m in enumerate(labels)])
    return Candidates(
        **({"labels": labels, "classes": 3, "images": images, "target": scan(blobs())[None]} | changes)
    )


def one_line(kind: type[AtlasegError], match: str, call) -> None:
    with pytest.raises(kind, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_local_correlation_is_the_mean_over_windows():
    fixed, warped = RNG.normal(size=(2, *SHAPE))
    region = np.zeros(SHAPE, bool)
    region[4:8, 5, 6:9] = True
    expected = np.mean(
        [
            pearsonr(
                *(image[tuple(slice(c - 2, c + 3) for c in centre)].ravel() for image in (fixed, warped))
            ).statistic
            for centre in np.argwhere(region)
        ]
    )
    assert local_correlation(fixed, warped, region) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("measure", [local_correlation, correlation, mutual_information])
def test_scale_and_offset_of_the_intensities_do_not_matter(measure):
    fixed = RNG.normal(size=SHAPE)
    warped = fixed + RNG.normal(size=SHAPE)
    assert measure(fixed, warped) == pytest.approx(measure(fixed * 1e4 + 1e6, warped * 0.01 - 3), abs=1e-6)
    assert measure(fixed, fixed) > measure(fixed, warped) > measure(fixed, RNG.normal(size=SHAPE))


def test_correlation_is_pearsons():
    fixed, warped = RNG.normal(size=(2, *SHAPE))
    region = RNG.random(SHAPE) < 0.3
    assert correlation(fixed, warped, region) == pytest.approx(
        pearsonr(fixed[region], warped[region]).statistic
    )
    assert correlation(fixed, -fixed) == pytest.approx(-1)


def test_mutual_information_knows_inverted_contrast():
    fixed = RNG.normal(size=SHAPE)
    assert mutual_information(fixed, -fixed) == pytest.approx(2, abs=0.05)
    assert local_correlation(fixed, -fixed) == pytest.approx(-1)


def test_even_windows_say_nothing():
    fixed = np.zeros(SHAPE)
    fixed[:3] = RNG.normal(size=(3, *SHAPE[1:]))
    far = np.zeros(SHAPE, bool)
    far[10:] = True
    assert local_correlation(fixed, fixed, far) == 0
    assert correlation(fixed, fixed, far) == 0
    assert mutual_information(fixed, fixed, far) == 1


def test_agreement_is_the_dice_of_every_two():
    labels = np.stack([blobs(), blobs(1), blobs(3)])
    found = agreement(labels, 3)
    for i in range(3):
        for j in range(3):
            expected = np.mean(
                [1 - dissimilarity((labels[i] == k).ravel(), (labels[j] == k).ravel()) for k in (1, 2)]
            )
            assert found[i, j] == pytest.approx(expected)


def test_agreement_of_structures_that_are_not_there():
    labels = np.stack([blobs(), blobs(), np.zeros_like(blobs())])
    np.testing.assert_allclose(agreement(labels, 40), [[1, 1, 0], [1, 1, 0], [0, 0, 1]])
    np.testing.assert_allclose(agreement(np.zeros((2, *SHAPE), np.uint8), 3), 1)


def test_coverage_and_masks():
    inside = np.zeros(SHAPE, bool)
    assert coverage(inside) == 0
    inside[:8] = True
    assert coverage(inside) == 0.5
    assert coverage(inside, inside) == 1
    assert mask_overlap(inside, inside) == 1
    assert mask_overlap(~inside, inside) == 0


def test_region_of_interest():
    labels = np.zeros((2, 9, 9, 9), np.uint8)
    labels[0, 4, 4, 4] = 1
    assert region_of_interest(labels, 0).sum() == 1
    assert region_of_interest(labels, 1).sum() == 7


def test_assess_says_which_atlas_is_off():
    given = candidates([0, 0, 1, 5], inside=np.ones((4, *SHAPE), bool))
    masks = given.labels > 0
    found = assess(given, jacobians=[STRETCHED] * 3 + [FOLDED], masks=masks, target_mask=blobs() > 0)
    assert [q.mask_overlap for q in found] == sorted((q.mask_overlap for q in found), reverse=True)
    assert (found[0].folding, found[0].log_jacobian_mean, found[0].log_jacobian_sd) == (0.1, 0.2, 0.3)
    assert (found[3].folding, found[3].log_jacobian_mean) == (1, None)
    for name in ("agreement", "local_correlation", "correlation", "mutual_information"):
        assert np.argmin([getattr(q, name) for q in found]) == 3
    assert all(q.coverage == 1 for q in found)
    assert [index for index, _ in leave_out(found)] == [3]


def test_an_atlas_that_missed_the_scan_is_left_out():
    given = candidates([0, 0, 1, 0])
    labels, images = given.labels.copy(), given.images.copy()
    labels[1], images[1] = 0, 0
    inside = np.ones((4, *SHAPE), bool)
    inside[1] = False
    found = assess(candidates([0, 0, 1, 0], labels=labels, images=images, inside=inside))
    assert (found[1].coverage, found[1].agreement, found[1].local_correlation) == (0, 0, 0)
    ((index, reason),) = leave_out(found)
    assert index == 1
    assert "hardly overlap" in reason


def test_a_single_atlas_has_no_agreement():
    (found,) = assess(candidates([0]))
    assert found.agreement is None
    assert leave_out([found]) == []


def figures(agreements: list[float], local: float = 0.7) -> list[Quality]:
    return [Quality(a, local, 0.8, 1.1, 1.0) for a in agreements]


def test_alike_atlases_all_stay():
    assert leave_out(figures([0.78, 0.8, 0.81, 0.79, 0.76, 0.74, 0.8])) == []


def test_modest_atlases_stay():
    # far outside the spread of the others, yet useful: leaving such atlases out cost accuracy
    assert leave_out(figures([0.8, 0.8, 0.8, 0.8, 0.8, 0.6])) == []


def test_failures_go_worst_first_with_a_reason():
    found = leave_out(figures([0.8, 0.2, 0.79, 0.1, 0.81, 0.8, 0.78]))
    assert [index for index, _ in found] == [3, 1]
    assert "0.10" in found[0][1]


@pytest.mark.parametrize("number", range(1, 9))
def test_half_and_at_least_three_stay(number):
    wrecks = [Quality(0.0, 0.0, 0.0, 1.0, 0.0)] * number
    assert len(leave_out(wrecks)) == max(0, number - max(FEWEST, (number + 1) // 2))


def test_images_that_do_not_correspond():
    found = figures([0.8] * 4)
    found[2] = Quality(0.8, 0.02, 0.8, 1.1, 1.0)
    ((index, reason),) = leave_out(found)
    assert index == 2
    assert "local correlation" in reason


def test_a_scan_of_another_contrast_leaves_nobody_out():
    assert leave_out([Quality(0.8, local, -0.4, 1.1, 1.0) for local in (-0.5, -0.4, 0.01, 0.1, -0.3)]) == []


def test_widely_differing_atlases_stay():
    # small structures: low agreement is usual there, and half of the median lies within the spread
    assert leave_out(figures([0.5, 0.2, 0.7, 0.3, 0.6, 0.4])) == []


def test_the_order_of_the_atlases_does_not_matter():
    given = figures([0.8, 0.2, 0.79, 0.1, 0.81, 0.8, 0.78])
    order = [4, 6, 1, 0, 3, 2, 5]
    found = leave_out([given[n] for n in order])
    assert [order[index] for index, _ in found] == [index for index, _ in leave_out(given)]


def test_bad_input_is_one_line():
    fixed = scan(blobs())
    nan = fixed.copy()
    nan[0, 0, 0] = np.nan
    empty = np.zeros(SHAPE, bool)
    for measure in (local_correlation, correlation, mutual_information):
        one_line(GeometryError, "resample it", lambda m=measure: m(fixed, fixed[:-1]))
        one_line(GeometryError, "resample it", lambda m=measure: m(fixed, fixed[..., 0]))
        one_line(GeometryError, "region has shape", lambda m=measure: m(fixed, fixed, empty[:-1]))
        one_line(DatasetError, "scan: all voxels", lambda m=measure: m(np.ones(SHAPE), fixed))
        one_line(DatasetError, "warped image: all voxels", lambda m=measure: m(fixed, np.ones(SHAPE)))
        one_line(DatasetError, "NaN", lambda m=measure: m(fixed, nan))
        one_line(DatasetError, "region to compare in is empty", lambda m=measure: m(fixed, fixed, empty))
    one_line(LabelError, "must be integers", lambda: agreement(np.zeros((2, *SHAPE)), 3))
    one_line(LabelError, "0 to 1, found 0 to 2", lambda: agreement(blobs()[None], 2))
    one_line(GeometryError, "must be", lambda: agreement(blobs(), 3))
    one_line(LabelError, "no structure", lambda: region_of_interest(np.zeros((2, *SHAPE), np.uint8)))
    one_line(GeometryError, "not on one grid", lambda: mask_overlap(empty, empty[:-1]))
    one_line(DatasetError, "mask is empty", lambda: mask_overlap(~empty, empty))
    one_line(GeometryError, "the grid", lambda: coverage(empty, empty[:-1]))
    one_line(DatasetError, "empty", lambda: coverage(empty, empty))
    one_line(OptionError, "finite", lambda: Quality(0.1, float("nan"), 0, 1, 1))
    one_line(
        OptionError, "jacobians are given for 1", lambda: assess(candidates([0, 1]), jacobians=[STRETCHED])
    )
    one_line(
        DatasetError, "scan: all", lambda: assess(candidates([0, 1], target=np.ones((1, *SHAPE), np.float32)))
    )
    one_line(OptionError, "compare", lambda: assess(candidates([0, 1], images=None)))
    one_line(OptionError, "no channel 1", lambda: assess(candidates([0, 1]), channel=1))
