"""Robust means and exact votes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from atlaseg.atlases.templates.population import VOTE, Votes, common_names, robust_mean
from atlaseg.pipeline.errors import DatasetError, OptionError

RNG = np.random.default_rng(3)


def images(count: int) -> list[np.ndarray]:
    return [RNG.normal(1, 0.1, (6, 5, 4)).astype(np.float32) for _ in range(count)]


def test_few_images_are_averaged_plainly_where_seen() -> None:
    found = images(3)
    found[0][:2] = np.nan
    assert np.allclose(robust_mean(found), np.nanmean(found, axis=0), atol=1e-6)


def test_an_outlier_is_drawn_in_and_the_others_keep_their_mean() -> None:
    found = images(9)
    wrong = [*found, np.full((6, 5, 4), 100, np.float32)]
    plain, robust = np.mean(wrong, axis=0), robust_mean(wrong)
    assert np.abs(plain - 1).min() > 5
    assert np.abs(robust - np.mean(found, axis=0)).max() < 0.3


def test_mean_of_unseen_voxels_is_zero() -> None:
    found = images(5)
    for image in found:
        image[0] = np.nan
    found[0][1] = 7
    for image in found[1:]:
        image[1] = np.nan
    mean = robust_mean(found)
    assert (mean[0] == 0).all()
    assert (mean[1] == 7).all()


def test_mean_of_files_is_that_of_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atlaseg.atlases.templates.population._AT_ONCE", 50)  # several slabs
    found = images(4)
    paths = [tmp_path / f"{n}.npy" for n in range(4)]
    for path, image in zip(paths, found, strict=True):
        np.save(path, image)
    assert np.array_equal(robust_mean(paths), robust_mean(found))
    with pytest.raises(OptionError, match="at least one"):
        robust_mean([])


def memberships() -> np.ndarray:
    shares = RNG.dirichlet(np.ones(3), (4, 5, 6)).transpose(3, 0, 1, 2)
    return (np.round(shares / VOTE) * VOTE).astype(np.float32)


def test_votes_taken_away_leave_no_trace() -> None:
    members = [memberships() for _ in range(40)]
    everyone, others = Votes(3, (4, 5, 6)), Votes(3, (4, 5, 6))
    for number, votes in enumerate(members):
        everyone.add(votes)
        if number != 7:
            others.add(votes)
    assert np.array_equal(everyone.without(members[7]), others.probabilities())
    assert not np.array_equal(everyone.probabilities(), others.probabilities())


def test_votes_sum_to_one_and_unseen_is_background() -> None:
    votes = Votes(3, (4, 5, 6))
    seen = memberships()
    seen[:, 0] = 0
    votes.add(seen)
    found = votes.probabilities()
    assert found.dtype == np.float32
    assert np.allclose(found.sum(axis=0), 1, atol=1e-6)
    assert (found[0, 0] == 1).all()


def test_transforms_of_unknown_atlases_are_refused(balls) -> None:
    from atlaseg.atlases.atlas_set import AtlasSet

    atlases = AtlasSet.read(balls(5, 6))
    assert common_names(atlases, ["b", "a"]) == ("a", "b")
    with pytest.raises(DatasetError, match="no atlas z"):
        common_names(atlases, ["a", "z"])
    with pytest.raises(DatasetError, match="no transform"):
        common_names(atlases, [])
