"""A correction never learns from votes in which a scan's own labels took part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import atlaseg.atlases.correction.learn_correction as subject
from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.atlases.fusion.candidates import Candidates
from atlaseg.atlases.fusion.registry import make_rule
from atlaseg.atlases.propagation.propagation import PropagationOptions
from atlaseg.pipeline.errors import DatasetError
from atlaseg.pipeline.io.volume import read_label_map


@pytest.fixture(scope="module")
def shapes(shapes_folder):
    return AtlasSet.read(shapes_folder)


@dataclass
class Found:
    """Stands for a propagation: every atlas exactly where it lies, which is somewhere else in each scan."""

    atlases: AtlasSet
    target: np.ndarray

    def candidates(self):
        table = self.atlases.labels
        maps = np.stack([table.to_indices(read_label_map(a.label)) for a in self.atlases.atlases])
        images = np.stack([a.channels() for a in self.atlases.atlases])
        return Candidates(maps.astype(np.uint8), len(table), images, self.target)


@pytest.fixture
def seen(monkeypatch):
    """Names of the atlases of each propagation, none of which registers anything."""
    names = []

    def propagate(atlases, scan, options, **_):
        names.append(atlases.names)
        return Found(atlases, scan[0].astype(np.float32))

    monkeypatch.setattr(subject, "propagate", propagate)
    return names


@pytest.mark.thorough
def test_each_atlas_is_labelled_by_the_others(shapes, seen):
    steps = []
    learnt = subject.learn_correction(
        shapes,
        PropagationOptions(),
        make_rule("majority"),
        progress=lambda done, total, what: steps.append((done, total)),
    )
    names = set(shapes.names)
    assert seen == [tuple(sorted(names - {name})) for name in shapes.names]
    assert steps == [(done, 5) for done in range(6)]
    assert learnt.classes == len(shapes.labels)


@pytest.mark.thorough
def test_of_many_atlases_some_are_labelled_by_all_others(shapes, seen, monkeypatch):
    monkeypatch.setattr(subject, "MOST_SCANS", 2)
    subject.learn_correction(shapes, PropagationOptions(), make_rule("majority"))
    first, second = (shapes.names[n] for n in (1, 3))
    assert seen == [tuple(n for n in shapes.names if n != name) for name in (first, second)]


@pytest.mark.parametrize(("atlases", "learns"), [(3, False), (4, True), (20, True), (21, False)])
def test_by_itself_it_is_learnt_where_it_is_worth_it(atlases, learns):
    assert subject.learns_by_itself("joint", atlases) is learns
    assert not subject.learns_by_itself("majority", atlases)


def test_few_atlases_are_refused_before_any_work(shapes):
    with pytest.raises(DatasetError, match="4 atlases or more, found 3"):
        subject.learn_correction(shapes.subset(shapes.names[:3]), PropagationOptions(), make_rule("majority"))
