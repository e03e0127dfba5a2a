"""Methods with options, from words and from YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from atlaseg.pipeline.errors import AtlasegError, OptionError
from atlaseg.workflows.benchmarking.entries import read_entries


def test_options_find_their_job() -> None:
    unet, fusion = read_entries(["unet:minutes=2,depth=context,tta=true,joint-fusion:keep=3,transform=rigid"])
    assert (unet.name, unet.method, unet.family.name) == (
        "unet:minutes=2,depth=context,tta=true",
        "unet",
        "network",
    )
    assert unet.train == {"minutes": 2.0, "depth": "context"}
    assert unet.segment == {"tta": True}
    assert fusion.train == {"keep": 3, "transform": "rigid"}


def test_classical_options_and_lists() -> None:
    kmeans, unet = read_entries(
        ["kmeans:clusters=4", "unet:override=patch_size=[16,16,16];training.batch_size=2"]
    )
    assert kmeans.train == {"option": ("clusters=4",)}
    assert unet.train == {"override": ("patch_size=[16,16,16]", "training.batch_size=2")}


def test_a_common_budget_does_not_replace_an_own_one() -> None:
    own, epochs, common, atlas = read_entries(
        ["unet:minutes=2", "unet:epochs=3", "unet", "majority"], minutes=7
    )
    assert own.train == {"minutes": 2.0}
    assert epochs.train == {"epochs": 3}
    assert common.train == {"minutes": 7.0}
    assert atlas.train == {}


def test_every_method_of_the_table_can_take_part() -> None:
    from atlaseg.workflows.methods.families import all_methods

    assert [entry.method for entry in read_entries([",".join(all_methods())])] == list(all_methods())


def test_yaml(tmp_path: Path) -> None:
    file = tmp_path / "many.yaml"
    file.write_text(
        "- unet:depth=context\n"
        "- majority\n"
        "- unet: {minutes: 12, override: [training.batch_size=2]}\n"
        "- joint-fusion:\n"
        "- {name: short, method: unet, minutes: 2}\n"
    )
    entries = read_entries([str(file)])
    assert [entry.name for entry in entries][1::3] == ["majority", "short"]
    assert entries[2].train == {"minutes": 12.0, "override": ("training.batch_size=2",)}
    assert (entries[3].name, entries[3].method) == ("joint", "joint")
    assert entries[4].train == {"minutes": 2.0}


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("unet:keep=3", "no option 'keep'"),
        ("unet:depth=deep", "option depth"),
        ("majority:keep=many", "option keep"),
        ("unet:minutes=2,minutes=3", "given twice"),
        ("minutes=3", "of no method"),
        ("unet,unet", "named twice"),
        ("joint-fusion:transform=sideways", "sideways"),
        ("kmeans:bla=1", "no option 'bla'"),
        ("nothing", "not known"),
        ("missing.yaml", "no such file"),
        ("unet:fold=1", "no option 'fold'"),
        (",", "names none"),
    ],
)
def test_mistakes_are_reported(word: str, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        read_entries([word])


@pytest.mark.parametrize("content", ["unet: 3", "- 3", "- {method: 3, x: 1}", "- [", "- unet: 3"])
def test_wrong_yaml_is_reported(tmp_path: Path, content: str) -> None:
    file = tmp_path / "many.yaml"
    file.write_text(content)
    with pytest.raises(AtlasegError, match=r"many\.yaml"):
        read_entries([str(file)])


def slug(*words: str, minutes: float | None = None, **decided: int) -> str:
    return read_entries(words, minutes)[0].slugs(**decided)[0]


def test_slugs_differ_where_results_may() -> None:
    assert slug("unet", minutes=2, seed=0) != slug("unet", minutes=3, seed=0)
    assert slug("unet", minutes=2, seed=0) != slug("unet", minutes=2, seed=1)
    assert slug("unet", minutes=2, seed=0) == slug("unet:minutes=2", seed=0).replace("unet-minutes-2", "unet")
    assert "/" not in slug("majority:engine=elastix,transform=rigid")


def test_folders_of_version_0_1_are_found_again() -> None:
    """As 0.1 called them, when `joint` was `joint-fusion`: written down from a benchmark of that version."""
    import hashlib

    def of(version: str, readable: str) -> str:
        content = (
            f'{{"device": "auto", "method": "{version}", "seed": 0, "segment": {{}}, "train": {{"keep": 2}}}}'
        )
        return f"{readable}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"

    for word in ("joint:keep=2", "joint-fusion:keep=2"):
        (entry,) = read_entries([word])
        assert entry.name == "joint:keep=2"
        assert entry.slugs(seed=0, device="auto") == [
            of("joint", "joint-keep-2"),
            of("joint-fusion", "joint-fusion-keep-2"),
        ]


def test_yes_and_no_are_words(tmp_path: Path) -> None:
    (one,) = read_entries(["atlas-unet:prior=no,borders=yes,correct=auto,combine=none,depth=context"])
    assert one.train == {"prior": "no", "borders": "yes", "correct": "auto", "depth": "context"}
    assert one.segment == {"combine": "none"}
    (tmp_path / "methods.yaml").write_text("- atlas-unet: {prior: no, borders: yes, warped: 3}\n")
    (other,) = read_entries([str(tmp_path / "methods.yaml")])
    assert other.train == {"prior": "no", "borders": "yes", "warped": 3}
    with pytest.raises(OptionError, match="option prior: expected one of yes, no"):
        read_entries(["atlas-unet:prior=perhaps"])


def test_tables_do_not_say_where_files_lie(tmp_path: Path) -> None:
    folder = tmp_path / "of Dr Doe"
    first, second = read_entries([f"atlas-unet:unlabelled={folder / 'more'},minutes=2", "majority"])
    assert first.name == "atlas-unet:unlabelled=more,minutes=2"
    assert first.options["unlabelled"] == "more"
    assert first.train["unlabelled"] == (folder / "more").resolve()
    assert second.name == "majority"
    with pytest.raises(OptionError, match="named twice"):
        read_entries([f"atlas-unet:unlabelled={tmp_path / name / 'more'}" for name in "ab"])
