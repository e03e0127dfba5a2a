"""The job that builds an atlas."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.atlases.templates.probabilistic import Members, ProbabilisticAtlas
from atlaseg.atlases.templates.template_picture import draw_atlas
from atlaseg.pipeline.errors import AtlasegError
from atlaseg.pipeline.synthetic.shapes import write_shapes
from atlaseg.workflows.build_atlas import BuildAtlas


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    write_shapes(tmp_path / "data", cases=2, shape=(16, 16, 16))
    return tmp_path / "data"


def job(scans: Path, out: Path, **options: object) -> BuildAtlas:
    return BuildAtlas(scans, out, **{"transform": "rigid", "iterations": 1, "workers": 1} | options)


@pytest.mark.thorough
def test_atlas_picture_and_figures_are_written(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "atlas"
    assert job(scans, out).run() == 0
    atlas = ProbabilisticAtlas.load(out)
    atlases = AtlasSet.read(scans)
    assert atlas.labels == atlases.labels
    assert atlas.cases == atlases.names
    assert AtlasSet.read(out).names == ("template",)
    assert (out / "atlas.png").read_bytes().startswith(b"\x89PNG")
    assert len(json.loads((out / "template.json").read_text())["iterations"]) == 1
    assert "atlas of 2 scans" in capsys.readouterr().out
    # the leave-one-out form needs nothing but the two folders
    others = Members.load(out, atlases).without(atlases.names[0])
    assert others.cases == atlases.names[1:]
    # the same command is done at once
    times = {p: p.stat().st_mtime_ns for p in (out / "work").rglob("shapes*.h5")}
    assert job(scans, out).run() == 0
    assert {p: p.stat().st_mtime_ns for p in times} == times


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"iterations": 0}, "iterations"),
        ({"workers": 0}, "workers"),
        ({"sharpening": -1}, "sharpening"),
        ({"transform": "warp"}, "no transform"),
        ({"engine": "nifty"}, "no registration engine"),
        ({"channel": 3}, "channel"),
    ],
)
def test_bad_options_are_one_line(scans: Path, tmp_path: Path, options: dict, words: str) -> None:
    with pytest.raises(AtlasegError, match=words) as caught:
        job(scans, tmp_path / "atlas", **options).run()
    assert "\n" not in str(caught.value)


def test_bad_folders_are_one_line(scans: Path, tmp_path: Path) -> None:
    with pytest.raises(AtlasegError, match="choose another --out"):
        job(scans, scans).run()
    with pytest.raises(AtlasegError, match="no such folder"):
        job(tmp_path / "nothing", tmp_path / "atlas").run()
    write_shapes(tmp_path / "one", cases=1, shape=(16, 16, 16))
    with pytest.raises(AtlasegError, match="at least two"):
        job(tmp_path / "one", tmp_path / "atlas").run()


@pytest.mark.thorough
def test_structures_show_in_the_picture(tmp_path: Path) -> None:
    import matplotlib.image as images

    image = np.random.default_rng(0).random((12, 14, 10))
    maps = np.zeros((3, 12, 14, 10), np.float32)
    maps[0] = 1
    draw_atlas(tmp_path / "plain.png", image, maps, (1, 1, 2), ("background", "left", "right"))
    maps[0, 4:8, 4:9, 3:7], maps[1, 4:8, 4:9, 3:7] = 0.2, 0.8
    draw_atlas(tmp_path / "shown.png", image, maps, (1, 1, 2), ("background", "left", "right"))
    assert (tmp_path / "shown.png").stat().st_size > 5000
    colour = images.imread(tmp_path / "shown.png")[..., :3]
    assert np.ptp(colour, axis=-1).max() > 0.3
