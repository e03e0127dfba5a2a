"""Warped cases by real registrations: done once, without a part of the targets' labels, right on real scans."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

import atlaseg.atlases.network_training.anatomical_augmentation as anatomical_augmentation
import atlaseg.atlases.propagation.carrying as carrying
from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.atlases.multi_atlas_segmenter import MultiAtlasSegmenter
from atlaseg.atlases.network_training.anatomical_augmentation import write_warped_cases
from atlaseg.atlases.network_training.joined_training import JoinedOptions, train_joined
from atlaseg.atlases.network_training.prior import FusedPrior, write_priors
from atlaseg.atlases.propagation.propagation import PropagationOptions
from atlaseg.atlases.registration.stage import Stage
from atlaseg.pipeline.errors import DatasetError
from atlaseg.pipeline.io.volume import read_label_map, read_voxels

QUICK = PropagationOptions(
    transform=(
        Stage("rigid", shrink=(2,), smoothing_mm=(1.0,), iterations=(40,), samples=0),
        Stage("bspline", shrink=(2,), smoothing_mm=(1.0,), iterations=(8,), samples=0),
    ),
    engine="elastix",
)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.nii.gz"))}


@pytest.mark.thorough
def test_nothing_is_registered_twice(balls, tmp_path, monkeypatch):
    atlases, work = AtlasSet.read(balls(5, 6, 7)), tmp_path / "work"
    runs: list[str] = []
    register = carrying.register
    monkeypatch.setattr(carrying, "register", lambda *a, **k: (runs.append("run"), register(*a, **k))[1])
    segmenter = MultiAtlasSegmenter(fusion="majority", options=QUICK, work=work).fit_atlases(atlases)
    cases = [atlas.case for atlas in atlases.atlases]
    priors = write_priors(cases, FusedPrior(segmenter), tmp_path / "priors", labels=atlases.labels)
    assert len(runs) == 12  # six pairs, two steps each
    warped = write_warped_cases(atlases, tmp_path / "out", QUICK, priors=priors, work=work)
    assert len(runs) == 12
    assert len(warped) == 6
    for case in warped:
        label, image = read_label_map(case.label), read_voxels(case.images[0])
        assert dice(label > 0, image > 50) > 0.9


@pytest.mark.thorough
def test_labels_of_targets_have_no_part(balls, tmp_path):
    """With other labels of c, all that is warped to c, and all that comes from others, is the same to the last byte."""
    atlases = AtlasSet.read(balls(5, 6, 7))
    options, made = replace(QUICK, seed=1), []
    for name in ("before", "after"):
        write_warped_cases(atlases, tmp_path / name, options)
        made.append(contents(tmp_path / name))
        label = atlases.atlases[2].label
        other = np.roll(read_label_map(label)[::-1], 4, axis=1).astype(np.uint8)
        nib.save(nib.Nifti1Image(other, np.eye(4)), label)
    changed = {name for name in made[0] if made[0][name] != made[1][name]}
    assert {name for name in made[0] if "-to-c" in name}.isdisjoint(changed)
    assert {name for name in changed if "labels/" in name} == {"labels/c-to-a.nii.gz", "labels/c-to-b.nii.gz"}
    assert all("/c-to-" in name for name in changed)


@pytest.mark.slow
@pytest.mark.real
def test_hippocampi_are_warped_with_their_labels(real_data, tmp_path):
    every = AtlasSet.read(real_data / "Task04_Hippocampus")
    atlases = every.subset(every.names[:3])
    cases = write_warped_cases(atlases, tmp_path, PropagationOptions(), count=9)
    known = {atlas.name: atlas for atlas in atlases.atlases}
    for case in cases:
        source, target = known[case.source], known[case.target]
        image, label = read_voxels(case.images[0]), read_label_map(case.label)
        before, truth = read_label_map(source.label), read_label_map(target.label)
        assert np.mean([dice(label == k, truth == k) for k in (1, 2)]) > 0.65
        # intensities of the source, under labels of the source
        original = source.channels()[0]
        assert image[label > 0].mean() == pytest.approx(original[before > 0].mean(), rel=0.05)
        assert original.min() <= image.min() <= image.max() <= original.max()


@pytest.mark.thorough
def test_training_without_any_warped_scan_that_was_asked_for_is_refused(balls, tmp_path, monkeypatch):
    def nothing_fits(atlases, image, options, **_):
        return SimpleNamespace(
            carried=(), chosen=(), left_out=(), failed=tuple((n, "no way") for n in atlases.names)
        )

    monkeypatch.setattr(anatomical_augmentation, "propagate", nothing_fits)
    atlases = AtlasSet.read(balls(5, 6, 7))
    cases = list(atlases.dataset.labelled)
    options = JoinedOptions(propagation=QUICK, warped=6, correct=False, combine="none")
    with pytest.raises(
        DatasetError, match=r"no training scan could be warped onto another .* set warped to 0"
    ):
        train_joined(tmp_path / "run", atlases.dataset, cases, cases[:1], options, device="cpu")
    assert not list((tmp_path / "run").rglob("*.pt"))
