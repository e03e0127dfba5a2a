from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import dice as dissimilarity

from atlaseg.atlases.fusion.candidates import Candidates
from atlaseg.atlases.propagation.failed_registrations import leave_out
from atlaseg.atlases.propagation.quality import (
    Quality,
    agreement,
    assess,
    coverage,
    mask_overlap,
    region_of_interest,
)
from atlaseg.atlases.registration.transforms.jacobian import JacobianStatistics
from atlaseg.pipeline.errors import AtlasegError, DatasetError, GeometryError, LabelError, OptionError

SHAPE = (16, 18, 14)
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


def test_bad_input_is_one_line():
    empty = np.zeros(SHAPE, bool)
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
