"""The table of engines: its facts agree with the classes; unknown names; libraries that are missing."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import pytest

from atlaseg.atlases.registration.defaults import default_engine, default_linear_engine
from atlaseg.atlases.registration.engine import RegistrationEngine
from atlaseg.atlases.registration.engine_facts import EngineFacts, facts_of
from atlaseg.atlases.registration.engines import registry
from atlaseg.atlases.registration.engines.registry import ENGINES, is_installed, make_engine, versions_behind
from atlaseg.atlases.registration.register import register
from atlaseg.atlases.registration.stage import KINDS, LINEAR, METRICS, STAGES_OF, Stage, stages_of
from atlaseg.atlases.registration.transforms.frames import to_itk
from atlaseg.pipeline.errors import OptionError

#: A package with an engine that moves every scan by 3 mm.
SHIFTING = """
import numpy as np
from atlaseg.atlases.registration.engines.registry import EngineRow
from atlaseg.atlases.registration.transforms.transform import Transform

class Shifting:
    name = "shifting"
    kinds, metrics = frozenset({"rigid"}), frozenset({"ncc", "mi"})

    def register(self, problem, stages):
        matrix = np.eye(4)
        matrix[0, 3] = 3.0
        return Transform.compose([Transform.from_matrix(matrix), problem.initial])

ROW = EngineRow("shifting", "moves by 3 mm", "shifting:Shifting"{more})
"""


@pytest.mark.parametrize("name", ENGINES.names())
def test_each_engine_says_the_same_of_itself_as_its_row(name: str) -> None:
    row, engine = ENGINES.find(name), ENGINES.load(name)
    assert engine.name == name
    assert isinstance(engine(), RegistrationEngine)
    assert row.summary
    assert row.source
    assert engine.kinds <= set(KINDS)
    assert engine.metrics <= set(METRICS)
    facts = facts_of(engine)
    # presets are of kinds that it has, with metrics that it has
    assert set(facts.presets) == {"linear" if kind in LINEAR else kind for kind in engine.kinds}
    for preset in facts.presets.values():
        assert {preset.same, preset.different, preset.same_in_slabs} - {None} <= engine.metrics
    assert set(facts.fewest_slices) <= engine.kinds


@pytest.mark.parametrize("transform", [name for name in STAGES_OF if name != "tps"])
def test_default_engines_can_do_what_they_are_the_default_for(transform: str) -> None:
    stages = stages_of(transform)
    assert {stage.kind for stage in stages} <= ENGINES.load(default_engine(stages)).kinds
    for same in (True, False):
        engine = ENGINES.load(default_linear_engine(same))
        assert engine.kinds >= LINEAR
        assert same or facts_of(engine).preset("rigid").different == "mi"


def test_unknown_and_missing_engines_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        OptionError,
        match=r"^no registration engine 'fnirt'; choose one of elastix, ants, simpleitk, torch, greedy",
    ):
        make_engine("fnirt")
    monkeypatch.setattr(registry, "find_spec", lambda _: None)
    assert not is_installed("greedy")
    with pytest.raises(OptionError, match=r"engine greedy .* pip install 'atlaseg\[greedy\]'$"):
        make_engine("greedy")
    with pytest.raises(OptionError, match=r"engine elastix .* pip install 'itk-elastix'$"):
        make_engine("elastix")


def test_versions_are_those_of_the_library_and_of_our_own_algorithm() -> None:
    assert versions_behind("elastix") == {"itk-elastix": version("itk-elastix")}
    assert versions_behind("torch") == {"torch": version("torch"), "engine torch": "1"}


def test_an_engine_that_says_nothing_of_itself_gets_modest_presets() -> None:
    assert facts_of(object()) == EngineFacts()
    assert facts_of(object()).preset("bspline").same == "ncc"
    assert Stage("rigid").kind in LINEAR


def test_an_installed_package_adds_an_engine(installed) -> None:
    installed.add(
        "their-engine",
        {"atlaseg.engines": {"shifting": "shifting:ROW"}},
        shifting=SHIFTING.replace("{more}", ""),
    )
    voxels = np.random.default_rng(0).normal(size=(12, 12, 12)).astype(np.float32)
    scan = to_itk(voxels, np.eye(4))
    found = register(scan, scan, "rigid", engine="shifting", initial="identity")
    np.testing.assert_allclose(found.transform.points(np.zeros((1, 3))), [[3.0, 0, 0]])
    assert found.engine == "shifting"
    assert found.stages[0].metric == "ncc"
    assert versions_behind("shifting") == {"package of shifting": "their-engine 1.0"}
    with pytest.raises(
        OptionError, match=r"shifting has no affine stage; engines that have it: elastix, .*greedy$"
    ):
        register(scan, scan, "affine", engine="shifting")


def test_an_engine_of_a_package_whose_library_is_missing(installed) -> None:
    more = ", module='no_such_library', distribution='no-such-library'"
    installed.add(
        "their-engine",
        {"atlaseg.engines": {"shifting": "shifting:ROW"}},
        shifting=SHIFTING.replace("{more}", more),
    )
    with pytest.raises(OptionError, match=r"engine shifting needs .* pip install 'no-such-library'$"):
        make_engine("shifting")
    assert versions_behind("shifting")["no-such-library"] == "unknown"
