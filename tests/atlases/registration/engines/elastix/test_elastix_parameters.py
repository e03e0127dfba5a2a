"""Parameter files of elastix: written, read, and what cannot be said."""

from __future__ import annotations

import pytest
import SimpleITK as sitk

from atlaseg.atlases.registration.engines.elastix.elastix_engine import ElastixEngine
from atlaseg.atlases.registration.engines.elastix.elastix_parameters import (
    parameter_map,
    read_parameter_file,
    write_parameter_file,
)
from atlaseg.atlases.registration.presets import complete
from atlaseg.atlases.registration.stage import Stage
from atlaseg.atlases.registration.transforms.elastix_text import read_map, write_map
from atlaseg.atlases.registration.transforms.elastix_transform import is_transform_parameters
from atlaseg.pipeline.errors import MissingFileError, OptionError, UnreadableFileError


def blank(size, spacing):
    image = sitk.Image(size, sitk.sitkFloat32)
    image.SetSpacing(spacing)
    return image


@pytest.fixture
def image():
    return blank((112, 128, 80), (0.15, 0.15, 0.15))


@pytest.mark.parametrize("metric", ["ssd", "ncc", "mi"])
@pytest.mark.parametrize("kind", ["rigid", "similarity", "affine", "bspline"])
@pytest.mark.parametrize("samples", [0, 3000])
def test_a_stage_comes_back_from_its_file(kind, metric, samples, image, tmp_path):
    (stage,) = complete([Stage(kind, metric, samples=samples)], image, image, ElastixEngine())
    path = tmp_path / "parameters.txt"
    write_parameter_file(stage, image, image, path, seed=3)
    found, left = read_parameter_file(path)
    assert left == ()
    assert not is_transform_parameters(path)
    if samples == 0:
        assert found.samples == 0
    assert found == stage


def test_elastix_reads_what_is_written(image, tmp_path):
    import itk.elxParameterObjectPython as module

    (stage,) = complete([Stage("bspline", "ncc")], image, image, ElastixEngine())
    path = tmp_path / "parameters.txt"
    write_parameter_file(stage, image, image, path)
    theirs = module.elastixParameterObject.New()
    theirs.ReadParameterFile(str(path))
    expected = parameter_map(stage, image, image)
    assert {k: tuple(v) for k, v in theirs.GetParameterMap(0).items()} == expected


def test_thick_slices_are_not_shrunk_and_the_moving_image_goes_by_mm():
    fixed, moving = blank((64, 64, 20), (0.7, 0.7, 5.0)), blank((40, 40, 40), (1.4, 1.4, 1.4))
    stage = Stage("rigid", "ncc", shrink=(4,), smoothing_mm=(1.4,), iterations=(5,), samples=0)
    found = parameter_map(stage, fixed, moving)
    assert found["FixedImagePyramidRescaleSchedule"] == ("4", "4", "1")
    assert found["MovingImagePyramidRescaleSchedule"] == ("2", "2", "2")


def test_files_of_elastix_users_are_read(tmp_path):
    path = tmp_path / "par.txt"
    path.write_text(
        '// from the model zoo\n(Transform "BSplineTransform") // free form\n\n'
        '(Metric "AdvancedMattesMutualInformation")\n(NumberOfResolutions 2)\n(MaximumNumberOfIterations 600)\n'
        "(FinalGridSpacingInPhysicalUnits 10 10 10)\n(NumberOfSpatialSamples 2000)\n(SP_a 1000.0)\n"
        "(ImagePyramidSchedule 4 4 2  1 1 1)\n(NumberOfHistogramBins 64)\n"
    )
    stage, left = read_parameter_file(path)
    assert stage == Stage(
        "bspline", "mi", shrink=(4, 1), iterations=(600, 600), grid_spacing_mm=10.0, samples=2000
    )
    assert left == ("SP_a", "NumberOfHistogramBins")


def test_what_a_stage_cannot_be_is_refused(tmp_path):
    path = tmp_path / "par.txt"
    path.write_text(
        '(Transform "BSplineTransform")\n(Metric "AdvancedMeanSquares" "TransformBendingEnergyPenalty")\n'
    )
    with pytest.raises(OptionError, match="TransformBendingEnergyPenalty"):
        read_parameter_file(path)
    path.write_text('(Transform "SplineKernelTransform")\n(Metric "AdvancedMeanSquares")\n')
    with pytest.raises(OptionError, match="SplineKernelTransform"):
        read_parameter_file(path)
    path.write_text(
        '(Transform "AffineTransform")\n(Metric "AdvancedMeanSquares")\n(NumberOfResolutions many)\n'
    )
    with pytest.raises(UnreadableFileError, match="NumberOfResolutions"):
        read_parameter_file(path)
    with pytest.raises(MissingFileError):
        read_parameter_file(tmp_path / "none.txt")


def test_incomplete_stages_are_refused(image):
    with pytest.raises(OptionError, match="not complete"):
        parameter_map(Stage("rigid", "ncc"), image, image)


def test_a_file_cannot_say_local_correlation(image, tmp_path):
    (stage,) = complete([Stage("bspline", "lncc")], image, image, ElastixEngine())
    with pytest.raises(OptionError, match="choose ncc"):
        write_parameter_file(stage, image, image, tmp_path / "parameters.txt")
    assert not (tmp_path / "parameters.txt").exists()


def test_text_keeps_numbers_words_and_slashes(tmp_path):
    values = {"A": ("1", "-2.5e-3", "word"), "B": ("//server/share/file name.txt",)}
    write_map(values, tmp_path / "m.txt")
    assert read_map(tmp_path / "m.txt") == values
    (tmp_path / "empty.txt").write_text("// nothing\n")
    with pytest.raises(UnreadableFileError, match="truncated"):
        read_map(tmp_path / "empty.txt")
