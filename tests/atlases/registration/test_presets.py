"""Presets: nothing left open, what was given kept, and sizes that fit the data."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from atlaseg.atlases.registration.engines.registry import ENGINES
from atlaseg.atlases.registration.presets import axis_shrink, complete
from atlaseg.atlases.registration.stage import Stage, stages_of
from atlaseg.pipeline.errors import OptionError

MOUSE = ((112, 128, 80), (0.15, 0.15, 0.15))
HIPPOCAMPUS = ((35, 50, 35), (1.0, 1.0, 1.0))
THICK = ((320, 280, 22), (0.6875, 0.6875, 5.0))
CT = ((512, 512, 400), (0.8, 0.8, 1.0))


def blank(size, spacing):
    image = sitk.Image(size, sitk.sitkUInt8)
    image.SetSpacing(spacing)
    return image


class OfOnesOwn:
    """An engine that says nothing of itself."""

    name = "of-ones-own"
    kinds, metrics = frozenset({"rigid"}), frozenset({"ncc"})


def class_of(engine):
    return OfOnesOwn if engine == OfOnesOwn.name else ENGINES.load(engine)


def completed(data, transform="bspline", engine="elastix", **options):
    image = blank(*data)
    return complete(stages_of(transform), image, image, class_of(engine), **options)


@pytest.mark.parametrize("engine", [*ENGINES.names(), OfOnesOwn.name])
@pytest.mark.parametrize("data", [MOUSE, HIPPOCAMPUS, THICK])
@pytest.mark.parametrize("transform", ["similarity", "bspline", "syn", "deformable"])
def test_nothing_is_left_open(engine, data, transform):
    stages = completed(data, transform, engine)
    assert stages[-1].kind == transform
    for stage in stages:
        assert stage.metric is not None
        assert stage.samples is not None
        assert stage.shrink is not None
        assert stage.smoothing_mm is not None
        assert stage.iterations is not None
        assert len(stage.shrink) == len(stage.smoothing_mm) == len(stage.iterations)
        assert (stage.grid_spacing_mm is not None) == (stage.kind == "bspline")
        assert (stage.metric_radius is not None) == (stage.metric == "lncc")


def test_final_grids_follow_voxel_size_and_extent():
    assert completed(MOUSE)[-1].grid_spacing_mm == pytest.approx(0.9)
    assert completed(HIPPOCAMPUS)[-1].grid_spacing_mm == pytest.approx(35 / 11.5, abs=1e-3)


def test_a_whole_body_scan_does_not_get_a_million_control_points():
    spacing = completed(CT)[-1].grid_spacing_mm
    assert 512 * 512 * 400 * 0.64 / spacing**3 < 50_000


def test_small_crops_are_smoothed_but_not_shrunk_away():
    stage = completed(HIPPOCAMPUS)[-1]
    assert max(stage.shrink) == 2
    assert max(stage.smoothing_mm) == 2.0
    assert stage.smoothing_mm[-1] == 0.0


def test_thick_slices_are_left_alone():
    stage = completed(THICK)[-1]
    assert max(stage.smoothing_mm) < 5.0
    assert axis_shrink(4, THICK[1]) == (4, 4, 1)
    assert axis_shrink(8, THICK[1], THICK[0]) == (8, 8, 1)
    assert axis_shrink(8, (1, 1, 1), (40, 40, 5)) == (8, 8, 1)


def test_small_crops_use_every_voxel_and_few_iterations():
    stage = completed(HIPPOCAMPUS)[-1]
    assert (stage.samples, stage.iterations) == (0, (30, 30, 30))
    across = completed(HIPPOCAMPUS, same_modality=False)[-1]
    assert (across.samples, across.iterations) == (4096, (250, 250, 250))
    assert completed(MOUSE)[-1].samples == 4096


def test_large_images_get_a_fourth_level_and_dense_fields_a_coarser_end():
    assert completed(CT)[-1].shrink == (8, 4, 2, 1)
    assert completed(CT, "syn", "ants")[-1].shrink[-1] == 2


@pytest.mark.parametrize("data", [HIPPOCAMPUS, MOUSE, ((182, 218, 182), (1.0,) * 3), CT])
def test_every_voxel_of_a_linear_stage_is_at_most_a_million(data):
    """The engine torch draws no samples, so its finest level is a coarser one on larger scans."""
    for stage in completed(data, "affine", "torch"):
        voxels = np.prod(data[0]) / stage.shrink[-1] ** 3
        assert voxels <= 1_000_000
        # and no coarser than it must be
        assert stage.shrink[-1] == 1 or 8 * voxels > 1_000_000
        assert stage.samples == 0
    bent = completed(data, "deformable", "torch")[-1]
    assert np.prod(data[0]) / bent.shrink[-1] ** 3 <= 16_000_000


def test_different_modalities_get_mutual_information():
    assert {stage.metric for stage in completed(MOUSE, same_modality=False)} == {"mi"}
    assert [stage.metric for stage in completed(MOUSE)] == ["ncc", "ncc", "lncc"]


def test_demons_have_no_metric_for_different_modalities():
    with pytest.raises(OptionError, match="no metric for scans of different modalities"):
        completed(MOUSE, "deformable", "simpleitk", same_modality=False)
    for engine in ("greedy", "torch"):
        assert completed(MOUSE, "deformable", engine, same_modality=False)[-1].metric == "lncc"
    assert completed(MOUSE, "deformable", "simpleitk")[-1].metric == "ssd"


def test_the_window_of_local_correlation():
    assert {s.metric_radius for s in completed(MOUSE, "deformable", "greedy")} == {2}
    assert completed(MOUSE)[-1].metric_radius == 3
    (wide,) = complete([Stage("rigid", "lncc")], blank(*MOUSE), blank(*MOUSE), class_of("simpleitk"))
    assert wide.metric_radius == 4


def test_what_was_given_is_kept():
    image = blank(*MOUSE)
    given = Stage("bspline", "ssd", iterations=(7, 5), grid_spacing_mm=2.0, samples=123)
    (stage,) = complete([given], image, image, class_of("elastix"))
    assert (stage.metric, stage.iterations, stage.grid_spacing_mm, stage.samples) == ("ssd", (7, 5), 2.0, 123)
    assert len(stage.shrink) == len(stage.smoothing_mm) == 2
    assert complete([stage], image, image, class_of("elastix")) == (stage,)


def test_shrink_that_was_given_sets_the_smoothing():
    image = blank(*MOUSE)
    (stage,) = complete([Stage("rigid", shrink=(6, 3, 2, 1, 1))], image, image, class_of("elastix"))
    assert stage.smoothing_mm == pytest.approx((0.45, 0.225, 0.15, 0, 0))
    assert stage.iterations == (250,) * 5


def test_a_coarser_moving_image_widens_the_grid():
    fixed, moving = blank(*MOUSE), blank((60, 60, 40), (0.3, 0.3, 0.3))
    assert complete([Stage("bspline")], fixed, moving, class_of("elastix"))[
        0
    ].grid_spacing_mm == pytest.approx(12 / 11.5, abs=1e-3)


def test_landmark_stages_stay_as_they_are():
    image = blank(*MOUSE)
    assert complete([Stage("tps")], image, image, class_of("elastix")) == (Stage("tps"),)
