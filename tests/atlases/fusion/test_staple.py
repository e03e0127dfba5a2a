"""STAPLE beside SimpleITK's, its invariants, and what it does with atlases that have not seen everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from atlaseg.atlases.fusion.candidates import Candidates
from atlaseg.atlases.fusion.majority import Majority
from atlaseg.atlases.fusion.staple import Patterns, Staple
from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.errors import NotConvergedWarning, OptionError


def raters(truth: np.ndarray, accuracies: list[float], classes: int, seed: int = 0) -> np.ndarray:
    """Label maps that are right with the given probability at each voxel, else any other label."""
    rng = np.random.default_rng(seed)
    maps = []
    for accuracy in accuracies:
        wrong = (truth + rng.integers(1, classes, truth.shape)) % classes
        maps.append(np.where(rng.random(truth.shape) < accuracy, truth, wrong))
    return np.stack(maps).astype(np.uint8)


@pytest.fixture
def truth() -> np.ndarray:
    labels = np.zeros((20, 22, 24), np.uint8)
    labels[5:14, 6:16, 7:18] = 1
    labels[8:12, 8:14, 3:12] = 2
    return labels


def test_two_classes_agree_with_simpleitk(truth: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    yes = truth > 0
    maps = np.stack(
        [
            np.where(yes, rng.random(yes.shape) < sensitivity, rng.random(yes.shape) > specificity)
            for sensitivity, specificity in ((0.95, 0.99), (0.8, 0.97), (0.9, 0.9), (0.7, 0.99))
        ]
    ).astype(np.uint8)
    reference = sitk.STAPLEImageFilter()
    probability = reference.Execute([sitk.GetImageFromArray(one) for one in maps])
    fused = Staple(region="all", tolerance=1e-8).fuse(Candidates(maps, classes=2))
    assert fused.probabilities is not None
    assert fused.details is not None
    performance = np.array(fused.details["performance"])
    np.testing.assert_allclose(performance[:, 1, 1], reference.GetSensitivity(), atol=1e-4)
    np.testing.assert_allclose(performance[:, 0, 0], reference.GetSpecificity(), atol=1e-4)
    np.testing.assert_allclose(fused.probabilities[1], sitk.GetArrayFromImage(probability), atol=1e-4)


def test_too_few_iterations_warn(truth: np.ndarray, recwarn: pytest.WarningsRecorder) -> None:
    maps = Candidates(raters(truth, [0.95, 0.8, 0.9, 0.7], classes=3), classes=3)
    assert Staple().fuse(maps).details["converged"]  # type: ignore[index]
    assert not [w for w in recwarn if w.category is NotConvergedWarning]
    with pytest.warns(NotConvergedWarning, match="staple has not converged in 2 iterations"):
        assert not Staple(max_iterations=2).fuse(maps).details["converged"]  # type: ignore[index]


def test_several_classes_agree_with_simpleitk(truth: np.ndarray) -> None:
    maps = raters(truth, [0.95, 0.8, 0.9, 0.7], classes=3)
    reference = sitk.MultiLabelSTAPLEImageFilter()
    reference.SetTerminationUpdateThreshold(1e-8)
    labels = reference.Execute([sitk.GetImageFromArray(one) for one in maps])
    fused = Staple(region="all", tolerance=1e-8).fuse(Candidates(maps, classes=3))
    np.testing.assert_array_equal(fused.labels, sitk.GetArrayFromImage(labels))
    assert fused.details is not None
    for atlas, performance in enumerate(fused.details["performance"]):
        # ITK's rows are votes, one more for the undecided; ours are true labels
        theirs = np.reshape(reference.GetConfusionMatrix(atlas), (-1, 3))[:3]
        np.testing.assert_allclose(np.transpose(performance), theirs, atol=1e-3)


@pytest.mark.parametrize("region", ["disagreement", "all"])
def test_known_performance_is_found_and_beats_the_majority(truth: np.ndarray, region: str) -> None:
    accuracies = [0.98, 0.6, 0.6, 0.6, 0.6]
    candidates = Candidates(raters(truth, accuracies, classes=3), classes=3)
    fused = Staple(region=region, prior="estimated").fuse(candidates, probabilities=False)
    majority = Majority().fuse(candidates, probabilities=False)
    assert (fused.labels != truth).sum() < 0.5 * (majority.labels != truth).sum()
    assert fused.details is not None
    assert fused.details["converged"]
    if region == "all":
        found = np.array([np.diag(one) for one in fused.details["performance"]])
        np.testing.assert_allclose(found[:, 0], accuracies, atol=0.02)  # of background, 8 in 10 voxels


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["disagreement", "all"]),
    st.sampled_from(["frequency", "votes", "estimated"]),
    st.integers(1, 5),
    st.integers(2, 5),
)
def test_likelihood_never_falls(seed: int, region: str, prior: str, atlases: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    maps = rng.integers(0, classes, (atlases, 4, 5, 6)).astype(np.uint8)
    inside = rng.random(maps.shape) < 0.8
    before = maps.copy()
    fused = Staple(region=region, prior=prior, max_iterations=30).fuse(
        Candidates(maps, classes, inside=inside)
    )
    assert fused.details is not None
    history = np.array(fused.details["log_likelihood"])
    assert (np.diff(history) >= -1e-9 * np.abs(history[1:]).max(initial=1)).all()
    assert fused.probabilities is not None
    np.testing.assert_allclose(fused.probabilities.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(np.sum(fused.details["performance"], axis=2), 1, atol=1e-9)
    np.testing.assert_array_equal(fused.probabilities.argmax(axis=0), fused.labels)
    assert (fused.labels[~inside.any(axis=0)] == 0).all()
    np.testing.assert_array_equal(maps, before)


def test_patterns_count_every_voxel(truth: np.ndarray) -> None:
    maps = raters(truth, [0.9] * 30, classes=3)  # 4**30 combinations: more than 64 bits can number
    patterns = Patterns.of(Candidates(maps, classes=3))
    assert patterns.counts.sum() == truth.size
    dense = patterns.votes.toarray().reshape(len(patterns), 30, 3).argmax(axis=2)
    np.testing.assert_array_equal(dense[patterns.pattern_of], maps.reshape(30, -1).T)


def test_blocks_change_nothing(truth: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = Candidates(raters(truth, [0.9, 0.8, 0.7], classes=3), classes=3)
    whole = Staple().fuse(candidates)
    monkeypatch.setattr("atlaseg.atlases.fusion.staple.SLAB_BYTES", 7 * 8 * 4 * 3)
    parts = Staple().fuse(candidates)
    np.testing.assert_array_equal(whole.labels, parts.labels)
    assert whole.probabilities is not None
    assert parts.probabilities is not None
    np.testing.assert_allclose(whole.probabilities, parts.probabilities, atol=1e-6)


def test_order_of_atlases_does_not_matter(truth: np.ndarray) -> None:
    maps = raters(truth, [0.9, 0.8, 0.7, 0.6], classes=3)
    one = Staple().fuse(Candidates(maps, classes=3))
    other = Staple().fuse(Candidates(maps[::-1].copy(), classes=3))
    np.testing.assert_array_equal(one.labels, other.labels)


def test_atlases_that_agree_leave_nothing_to_do(truth: np.ndarray) -> None:
    for region in ("disagreement", "all"):
        fused = Staple(region=region).fuse(Candidates(np.stack([truth] * 3), classes=3))
        np.testing.assert_array_equal(fused.labels, truth)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"region": "some"}, "no region 'some'; choose one of disagreement, all"),
        ({"prior": "flat"}, "no prior 'flat'"),
        ({"initial": 1.0}, "initial must lie between"),
        ({"tolerance": 0.0}, "tolerance must be more than 0"),
        ({"max_iterations": 0}, "max_iterations at least 1"),
    ],
)
def test_options_are_checked(options: dict, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Staple(**options)


@pytest.mark.real
@pytest.mark.slow
def test_mouse_label_maps_agree_with_simpleitk(real_data: Path) -> None:
    """One structure of real label maps; the figures for speed are in the benchmarks."""
    import nibabel as nib

    files = sorted((real_data / "mouse_brain_fvb" / "labels").iterdir())[:4]
    maps = np.stack([np.asarray(nib.load(file).dataobj) for file in files]).astype(np.int64)
    table = LabelTable.from_values([20])
    binary = np.stack([table.to_indices(np.where(one == 20, 20, 0)) for one in maps]).astype(np.uint8)
    reference = sitk.STAPLEImageFilter()
    reference.Execute([sitk.GetImageFromArray(one) for one in binary])
    fused = Staple(region="all", tolerance=1e-8, max_iterations=1000).fuse(Candidates(binary, classes=2))
    assert fused.details is not None
    performance = np.array(fused.details["performance"])
    np.testing.assert_allclose(performance[:, 1, 1], reference.GetSensitivity(), atol=1e-3)
    np.testing.assert_allclose(performance[:, 0, 0], reference.GetSpecificity(), atol=1e-3)
