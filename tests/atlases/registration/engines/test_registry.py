"""The table of engines: its facts agree with the classes; unknown names; libraries that are missing."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from atlaseg.atlases.registration.defaults import default_engine, default_linear_engine
from atlaseg.atlases.registration.engine import RegistrationEngine
from atlaseg.atlases.registration.engine_facts import EngineFacts, facts_of
from atlaseg.atlases.registration.engines import registry
from atlaseg.atlases.registration.engines.registry import ENGINES, is_installed, make_engine, versions_behind
from atlaseg.atlases.registration.stage import KINDS, LINEAR, METRICS, STAGES_OF, Stage, stages_of
from atlaseg.pipeline.errors import OptionError


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
