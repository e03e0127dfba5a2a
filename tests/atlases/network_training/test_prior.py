"""Priors: on the scan's grid, sums to one, and never with a hand in one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.atlases.network_training.prior import (
    FusedPrior,
    LeaveOneOutPrior,
    ProbabilisticPrior,
    PropagatesProbabilities,
    carry_probabilities,
    write_priors,
)
from atlaseg.atlases.registration.transforms.resampling import resample_image
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.atlases.templates.probabilistic import Members
from atlaseg.pipeline.errors import DatasetError, GeometryError, OptionError
from atlaseg.pipeline.io.volume import read_image, read_voxels
from atlaseg.pipeline.segmenter import Prior


class Majority:
    """Stands for several atlases: the mean of their label maps, which share one grid."""

    def __init__(self, atlases: AtlasSet) -> None:
        self.atlases = atlases

    def propagate_probabilities(self, image: MetaTensor, without: str | None = None) -> Any:
        from atlaseg.atlases.registration.transforms.frames import from_itk

        others = self.atlases if without is None else self.atlases.without(without)
        labels = np.stack([from_itk(a.labels(others.labels))[0] for a in others.atlases])
        return np.stack([(labels == k).mean(axis=0) for k in range(len(others.labels))])


def members_of(folder: Path) -> Members:
    atlases = AtlasSet.read(folder)
    transforms = {name: Transform.identity() for name in atlases.names}
    return Members(atlases, transforms, atlases.atlases[0].image())


def fused(folder: Path) -> LeaveOneOutPrior:
    return FusedPrior(Majority(AtlasSet.read(folder)))


def probabilistic(folder: Path) -> LeaveOneOutPrior:
    members = members_of(folder)
    return ProbabilisticPrior(members.atlas(), "rigid", members=members)


@pytest.mark.thorough
@pytest.mark.parametrize("make", [fused, probabilistic])
def test_no_case_takes_part_in_its_own_prior(balls, tmp_path: Path, make) -> None:
    """The last case's core is labelled 9, as no other's is: 9 is in the priors of the others, and never in its own."""
    folder = balls(5, 5.5, 6, marker=9)
    atlases = AtlasSet.read(folder)
    marker = atlases.labels.values.index(9)
    written = write_priors(atlases.dataset.cases, make(folder), tmp_path / "priors", labels=atlases.labels)
    assert list(written) == ["a", "b", "c"]
    maps = {name: read_voxels(path) for name, path in written.items()}
    assert (maps["c"][..., marker] == 0).all()
    assert maps["a"][..., marker].max() > 0.1
    assert maps["b"][..., marker].max() > 0.1
    for voxels in maps.values():
        assert voxels.shape == (22, 24, 20, 4)
        assert np.allclose(voxels.sum(axis=-1), 1, atol=1e-5)
    # a new scan gets them all
    scan = read_image(atlases.atlases[2].images)
    assert make(folder).probabilities(scan)[marker].max() > 0.1


def test_both_are_priors(balls) -> None:
    folder = balls(5, 6)
    atlases = AtlasSet.read(folder)
    assert isinstance(Majority(atlases), PropagatesProbabilities)
    for make in (fused, probabilistic):
        prior = make(folder)
        assert isinstance(prior, Prior)
        assert isinstance(prior, LeaveOneOutPrior)
        scan = read_image(atlases.atlases[0].images)
        before = scan.clone()
        found = prior.probabilities(scan)
        assert isinstance(found, MetaTensor)
        assert found.shape == (3, *scan.shape[1:])
        assert found.dtype == torch.float32
        assert torch.allclose(found.sum(0), torch.ones(1), atol=1e-5)
        assert torch.equal(found.affine, scan.affine)
        assert torch.equal(scan, before)


def test_maps_follow_the_scan_and_beyond_them_is_background(balls) -> None:
    """A scan of twice the voxel size, turned to LPS and shifted by 60 mm, shows the structures where they are."""
    folder = balls(5, 6, 7)
    members = members_of(folder)
    atlas = members.atlas()
    fine = read_image(AtlasSet.read(folder).atlases[1].images)
    wide = torch.nn.functional.pad(fine, (8, 8, 8, 8, 8, 8))
    voxels = wide.as_tensor().flip(1).flip(2)[:, ::2, ::2, ::2]
    affine = np.diag([-2.0, -2, 2, 1])
    affine[:3, 3] = (22 - 1 + 8 + 60, 24 - 1 + 8, -8)
    scan = MetaTensor(voxels.clone(), affine=torch.as_tensor(affine))
    found = ProbabilisticPrior(atlas, "rigid").probabilities(scan).numpy()
    ball = (voxels[0] > 50).numpy()
    labelled = found[0] < 0.5
    assert 2 * (labelled & ball).sum() / (labelled.sum() + ball.sum()) > 0.85
    assert (found[0, :3] == 1).all()
    assert np.allclose(found.sum(axis=0), 1, atol=1e-5)


def test_carried_maps_are_itks_linear_interpolation(balls) -> None:
    from atlaseg.atlases.registration.transforms.frames import affine_of, from_itk, to_itk

    atlas = members_of(balls(5, 6)).atlas()
    matrix = np.eye(4)
    matrix[:3, 3] = (0.4, -0.3, 0.6)
    found = carry_probabilities(atlas, atlas.template, Transform.from_matrix(matrix))
    one = to_itk(atlas.probabilities[1], affine_of(atlas.template))
    expected = from_itk(resample_image(one, atlas.template, Transform.from_matrix(matrix)))[0]
    assert np.allclose(found[1], expected, atol=1e-5)


def test_priors_resume_after_an_interruption(balls, tmp_path: Path) -> None:
    folder, out = balls(5, 5.5, 6), tmp_path / "priors"
    atlases = AtlasSet.read(folder)
    prior = fused(folder)
    first = write_priors(atlases.dataset.cases[:2], prior, out, labels=atlases.labels, settings={"rule": "m"})
    times = [path.stat().st_mtime_ns for path in first.values()]
    seen: list[tuple[int, int]] = []
    every = write_priors(
        atlases.dataset.cases,
        prior,
        out,
        labels=atlases.labels,
        settings={"rule": "m"},
        progress=lambda done, total, what: seen.append((done, total)),
    )
    assert [every[name].stat().st_mtime_ns for name in first] == times
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert json.loads((out / "priors.json").read_text())["settings"] == {"rule": "m"}
    with pytest.raises(OptionError, match="other settings"):
        write_priors(atlases.dataset.cases, prior, out, labels=atlases.labels, settings={"rule": "n"})
    with pytest.raises(OptionError, match="volumes other than priors"):
        write_priors(atlases.dataset.cases, prior, folder / "images", labels=atlases.labels)


def test_names_that_are_no_case_are_refused(balls) -> None:
    """A misspelt name would leave nobody out, and the case would see itself."""
    folder = balls(5, 6)
    scan = read_image(AtlasSet.read(folder).atlases[0].images)
    for make in (fused, probabilistic):
        with pytest.raises(DatasetError, match="z"):
            make(folder).without("z").probabilities(scan)
    with pytest.raises(DatasetError, match="members"):
        ProbabilisticPrior(members_of(folder).atlas()).without("a")


class Wrong:
    def __init__(self, votes: np.ndarray) -> None:
        self.votes = votes

    def propagate_probabilities(self, image: MetaTensor, without: str | None = None) -> Any:
        return self.votes


def test_votes_that_are_no_prior_are_refused() -> None:
    scan = MetaTensor(torch.zeros(1, 4, 4, 4))
    good = np.full((2, 4, 4, 4), 0.5)
    assert FusedPrior(Wrong(good)).probabilities(scan).shape == (2, 4, 4, 4)
    with pytest.raises(GeometryError, match="shape"):
        FusedPrior(Wrong(good[:, :2])).probabilities(scan)
    with pytest.raises(DatasetError, match="probabilities"):
        FusedPrior(Wrong(good * 3)).probabilities(scan)
    with pytest.raises(DatasetError, match="probabilities"):
        FusedPrior(Wrong(good * np.nan)).probabilities(scan)
