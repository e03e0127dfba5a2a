"""The table of methods names everything that can be trained or fused, once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from atlaseg.atlases.fusion.registry import FUSION_RULES
from atlaseg.pipeline.classical.registry import CLASSICAL_METHODS
from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.networks.registry import NETWORKS
from atlaseg.workflows.methods.names import DEFAULT_METHOD, FUSION_METHODS, find_method, methods


def test_everything_that_labels_is_a_method() -> None:
    known = methods()
    assert [m.name for m in known.values() if m.kind == "network"] == list(NETWORKS)
    assert {m.fusion for m in known.values() if m.kind == "atlas"} == set(FUSION_RULES.names())
    assert set(FUSION_METHODS) == set(FUSION_RULES.names())
    assert all((m.fusion is None) == (m.kind != "atlas") for m in known.values())
    assert [m.name for m in known.values() if m.kind == "classical"] == list(CLASSICAL_METHODS)


def test_each_is_explained_in_one_line() -> None:
    assert all(m.summary and len(m.summary) < 80 and "\n" not in m.summary for m in methods().values())


def test_names() -> None:
    assert find_method("joint-fusion").fusion == "joint"
    assert find_method(DEFAULT_METHOD).kind == "network"


def test_unknown_names_list_all() -> None:
    with pytest.raises(OptionError, match="'joint' is not known") as caught:
        find_method("joint")
    assert all(name in str(caught.value) for name in methods())
    assert "\n" not in str(caught.value)


def test_light_to_import() -> None:
    code = (
        "import sys, atlaseg.workflows.methods.names; "
        "heavy = ('numpy', 'torch', 'monai', 'atlaseg.atlases', 'atlaseg.pipeline.networks'); "
        "print([n for n in heavy if n in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
