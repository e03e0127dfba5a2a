"""Majority vote against SimpleITK's, and by counting."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from atlaseg.atlases.fusion.candidates import Candidates
from atlaseg.atlases.fusion.majority import Majority


def test_agrees_with_simpleitk_wherever_there_is_no_tie() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (5, 8, 9, 10)).astype(np.uint8)
    undecided = 255
    images = [sitk.GetImageFromArray(a) for a in labels]
    theirs = sitk.GetArrayFromImage(sitk.LabelVoting(images, undecided))
    ours = Majority().fuse(Candidates(labels, 4)).labels
    clear = theirs != undecided
    assert 0.4 < clear.mean() < 1
    assert np.array_equal(ours[clear], theirs[clear])


def test_ties_go_to_the_lowest_label_and_probabilities_are_shares() -> None:
    labels = np.array([[2, 1], [1, 1], [2, 0], [1, 2]], np.uint8).reshape(4, 1, 1, 2)
    fused = Majority().fuse(Candidates(labels, 3))
    assert fused.labels.ravel().tolist() == [1, 1]
    assert fused.probabilities is not None
    assert fused.probabilities.reshape(3, 2).T.tolist() == [[0, 0.5, 0.5], [0.25, 0.5, 0.25]]


def test_shares_are_of_those_who_have_seen_the_place() -> None:
    labels = np.array([1, 1, 2], np.uint8).reshape(3, 1, 1, 1)
    inside = np.array([True, False, True]).reshape(3, 1, 1, 1)
    fused = Majority().fuse(Candidates(labels, 3, inside=inside))
    assert fused.probabilities is not None
    assert fused.probabilities.ravel().tolist() == [0, 0.5, 0.5]
