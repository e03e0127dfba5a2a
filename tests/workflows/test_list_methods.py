"""``atlaseg methods``: everything is listed with its kind, and explained with source and options."""

from __future__ import annotations

import pytest

from atlaseg.pipeline.errors import OptionError
from atlaseg.workflows.cli import main
from atlaseg.workflows.list_methods import ListMethods
from atlaseg.workflows.methods.families import all_methods


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["methods", *words]) == 0
    return capsys.readouterr().out


def test_all_methods_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys)
    for method in all_methods().values():
        assert f"\n  {method.name} " in text
        assert method.summary in text
    assert "networks with atlases (--kind joined):" in text


def test_only_one_kind(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "--kind", "atlas")
    assert "majority" in text
    assert "gmm" not in text


def test_one_is_explained_with_its_source_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "joint-fusion")
    assert text.startswith("joint: ")
    assert "kind: atlas" in text
    assert "source: Wang et al." in text
    assert "earlier name: joint-fusion" in text
    assert "alpha=0.1, beta=2.0" in text
    assert "--transform --engine" in text
    assert "components=none" in said(capsys, "gmm")


def test_a_name_may_be_of_several_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "--kind", "engine").startswith("registration engines (--kind engine):")
    assert "kind: engine" in said(capsys, "elastix")


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (ListMethods("nothing"), "nothing is called 'nothing'"),
        (ListMethods("gmm", "network"), "nothing of kind network is called 'gmm'"),
        (ListMethods(kind="colour"), "no kind 'colour'; choose one of network, atlas"),
    ],
)
def test_refusals(job: ListMethods, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        job.run()
