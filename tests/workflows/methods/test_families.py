"""The families name everything that can be trained or fused, once, and know their runs and their options."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from atlaseg.atlases.fusion.registry import FUSION_RULES
from atlaseg.pipeline.classical.registry import CLASSICAL_METHODS
from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.networks.registry import NETWORKS
from atlaseg.pipeline.planning.plan import NetworkPlan
from atlaseg.workflows.methods.families import (
    FAMILIES,
    SOURCES,
    all_methods,
    default_method,
    find_method,
    refuse_options_of_others,
)
from atlaseg.workflows.methods.labelling_job import LabellingJob
from atlaseg.workflows.methods.option_groups import option_types
from atlaseg.workflows.methods.training_job import TrainingJob


def names(family: str) -> list[str]:
    return [method.name for method in all_methods().values() if method.family.name == family]


def test_everything_that_labels_is_a_method() -> None:
    assert names("network") == list(NETWORKS.names())
    assert set(names("atlas")) == set(FUSION_RULES.names())
    assert names("joined") == [f"atlas-{name}" for name in NETWORKS.names()]
    assert names("classical") == list(CLASSICAL_METHODS.names())
    assert names("atlas-classical") == [
        f"atlas-{name}" for name in CLASSICAL_METHODS.names() if name != "knn"
    ]


def test_names_are_taken_once() -> None:
    every = [method.name for family in FAMILIES for method in family.methods()]
    assert sorted(every) == sorted(set(every))
    assert all(find_method(name).name == name for name in every)


def test_each_is_explained_in_one_line() -> None:
    methods = all_methods().values()
    assert all(m.summary and len(m.summary) < 80 and "\n" not in m.summary for m in methods)


def test_earlier_names() -> None:
    assert find_method("joint-fusion") == find_method("joint")
    assert find_method("joint-fusion").aliases == ("joint-fusion",)


def test_default_is_the_network_of_a_plan() -> None:
    assert default_method().name == NetworkPlan().name


def test_unknown_names_list_all() -> None:
    with pytest.raises(OptionError, match="'join' is not known") as caught:
        find_method("join")
    assert all(name in str(caught.value) for name in all_methods())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("job", [TrainingJob, LabellingJob])
def test_families_take_options_that_there_are(job: type) -> None:
    taken = "training" if job is TrainingJob else "labelling"
    known = option_types(job)
    sources = FAMILIES if job is TrainingJob else SOURCES
    assert all(set(getattr(source, taken)) <= set(known) for source in sources)
    own = {field.name for field in fields(job)}
    every = {name for source in sources for name in getattr(source, taken)}
    assert set(known) - own <= every  # an option in a group belongs to some family


def refused(method: str, **options: object) -> str:
    job = TrainingJob.of(Path("a"), Path("b"), method=method, **options)
    family = find_method(method).family
    with pytest.raises(OptionError) as caught:
        refuse_options_of_others(job, "training", FAMILIES, family, f"method {method}")
    return str(caught.value)


def test_options_of_others_are_refused() -> None:
    said = refused("majority", epochs=1, depth="context")
    assert said.startswith("--epochs, --depth: for networks and networks with atlases only")
    assert refused("unet", option=("a=1",)).startswith(
        "--option: for classical methods and classical methods with"
    )
    assert refused("gmm", prior="yes").startswith("--prior: for networks with atlases only")
    job = TrainingJob.of(Path("a"), Path("b"), method="majority", keep=3, epochs=None)
    refuse_options_of_others(job, "training", FAMILIES, find_method("majority").family, "method majority")


def test_light_to_import() -> None:
    code = (
        "import sys, atlaseg.workflows.methods.families; "
        "heavy = ('numpy', 'torch', 'monai', 'atlaseg.atlases', 'atlaseg.pipeline.networks'); "
        "print([n for n in heavy if n in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
