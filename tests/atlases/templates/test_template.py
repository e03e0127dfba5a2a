"""Groupwise templates: known shape, resume, failures."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.atlases.registration.stage import Stage
from atlaseg.atlases.registration.transforms.frames import from_itk
from atlaseg.atlases.templates.probabilistic import Members
from atlaseg.atlases.templates.template import TemplateOptions, build_template
from atlaseg.atlases.templates.template_measures import sharpness
from atlaseg.pipeline.errors import DatasetError, OptionError

#: Scaling is all that the balls differ by, so that an affine template has a known size.
AFFINE = TemplateOptions(stages=(Stage("rigid"), Stage("affine")), iterations=2)


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    return tmp_path / "work"


@pytest.mark.thorough
def test_template_has_the_mean_size_from_any_start(balls, begun: Path) -> None:
    """Radii 5, 5.2 and 8: the first template is an atlas of 5.2; the geometric mean is 5.92."""
    atlases = AtlasSet.read(balls(5, 5.2, 8))
    template = build_template(atlases, begun, AFFINE)
    assert template.centre == "b"
    maps = Members(atlases, template.transforms, template.image).atlas().probabilities
    radius = (3 * (1 - maps[0]).sum() / (4 * np.pi)) ** (1 / 3)
    geometric = (5 * 5.2 * 8) ** (1 / 3)
    assert abs(radius - geometric) < 0.2
    assert set(template.transforms) == {"a", "b", "c"}
    first, last = template.iterations
    assert last.affine_mm < 0.35 * first.affine_mm
    assert last.change < first.change
    assert last.agreement > 0.8


@pytest.mark.thorough
def test_finished_registrations_are_not_repeated(balls, begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atlases = AtlasSet.read(balls(5, 6))
    options = TemplateOptions(stages="rigid", iterations=1)
    whole = build_template(atlases, begun, options)
    files = sorted(begun.rglob("[ab].h5"))
    lost = next(path for path in files if path.parent.name == "iteration-01")
    lost.unlink()
    times = {path: path.stat().st_mtime_ns for path in files if path != lost and path.stem != whole.centre}
    again = build_template(atlases, begun, options)
    assert lost.is_file()
    assert times
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    assert np.array_equal(from_itk(again.image)[0], from_itk(whole.image)[0])

    def refuse(*_args: object, **_options: object) -> None:
        raise AssertionError("registered again")

    monkeypatch.setattr("atlaseg.atlases.templates.template_tasks.fit", refuse)
    build_template(atlases, begun, options)
    with pytest.raises(AssertionError, match="again"):
        build_template(atlases, begun, TemplateOptions(stages="rigid", iterations=1, seed=1))


@pytest.mark.thorough
def test_an_executor_changes_nothing_and_progress_is_reported(balls, begun: Path, tmp_path: Path) -> None:
    atlases = AtlasSet.read(balls(5, 6))
    options = TemplateOptions(stages="rigid", iterations=1)
    seen: list[tuple[int, int]] = []
    alone = build_template(
        atlases, begun, options, progress=lambda done, total, what: seen.append((done, total))
    )
    with ThreadPoolExecutor(2) as executor:
        together = build_template(atlases, tmp_path / "other", options, executor=executor)
    assert np.array_equal(from_itk(alone.image)[0], from_itk(together.image)[0])
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.thorough
def test_an_atlas_that_does_not_fit_is_left_out_with_a_reason(balls, begun: Path) -> None:
    import nibabel as nib

    folder = balls(5, 5.5, 6, 6.5, 6)
    noise = np.random.default_rng(0).normal(0, 1, (22, 24, 20)).astype(np.float32)
    label = np.zeros(noise.shape, np.uint8)
    label[1:4, 1:4, 1:4] = 1
    nib.save(nib.Nifti1Image(noise, np.eye(4)), folder / "images" / "e.nii.gz")
    nib.save(nib.Nifti1Image(label, np.eye(4)), folder / "labels" / "e.nii.gz")
    template = build_template(AtlasSet.read(folder), begun, TemplateOptions(stages="rigid", iterations=1))
    assert list(template.left_out) == ["e"]
    assert "usual" in template.left_out["e"]
    assert "e" not in template.transforms
    assert template.report()["iterations"][0]["left_out"] == template.left_out


@pytest.mark.thorough
def test_sharpening_sharpens(balls, begun: Path) -> None:
    atlases = AtlasSet.read(balls(5, 6))
    region = None
    found = []
    for share in (0.0, 0.5):
        options = TemplateOptions(stages="rigid", iterations=1, sharpening=share)
        image = build_template(atlases, begun, options).image
        region = np.ones(image.GetSize(), bool) if region is None else region
        found.append(sharpness(image, region))
    assert found[1] > 1.05 * found[0]


def test_one_atlas_makes_no_template(balls, begun: Path) -> None:
    with pytest.raises(DatasetError, match="at least two"):
        build_template(AtlasSet.read(balls(5)), begun)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"iterations": 0}, "iterations"),
        ({"sharpening": 2}, "sharpening"),
        ({"channel": -1}, "channel"),
        ({"stages": "bsline"}, "no transform"),
    ],
)
def test_options_out_of_range_are_refused(options: dict, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        TemplateOptions(**options)
