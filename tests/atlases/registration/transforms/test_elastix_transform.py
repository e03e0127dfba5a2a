"""elastix's transform parameters: the same points as transformix, there and back."""

from __future__ import annotations

import re

import numpy as np
import pytest
import SimpleITK as sitk

from atlaseg.atlases.registration.engines.elastix.elastix_engine import _image, _library
from atlaseg.atlases.registration.transforms.elastix_transform import (
    is_transform_parameters,
    read_transform_parameters,
    write_transform_parameters,
)
from atlaseg.atlases.registration.transforms.frames import flip_points, to_itk
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.errors import MissingFileError, OptionError, UnreadableFileError


@pytest.fixture(scope="module")
def reference():
    turn = sitk.Euler3DTransform()
    turn.SetRotation(0.3, -0.2, 0.4)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(turn.GetMatrix(), (3, 3)) @ np.diag((1.0, 1.2, 2.5))
    affine[:3, 3] = (10, -20, 30)
    return to_itk(np.zeros((20, 24, 12), np.float32), affine)


def points_of(image, margin=2):
    """Points ``(n, 3)`` in LPS mm, inside and just outside of an image."""
    axes = [np.linspace(-margin, n - 1 + margin, 6) for n in image.GetSize()]
    index = np.stack(np.meshgrid(*axes), -1).reshape(-1, 3)
    return np.array([image.TransformContinuousIndexToPhysicalPoint(i) for i in index.tolist()])


def bspline(image, order=3, seed=0):
    moved = sitk.BSplineTransformInitializer(image, [4, 5, 3], order)
    rng = np.random.default_rng(seed)
    moved.SetParameters(rng.normal(0, 2, len(moved.GetParameters())).tolist())
    return moved


def euler(image, zyx=False):
    turned = sitk.Euler3DTransform(
        image.TransformIndexToPhysicalPoint((10, 12, 6)), 0.2, -0.3, 0.1, (1, 2, 3)
    )
    turned.SetComputeZYX(zyx)
    return turned


def by_transformix(paths, image, points, folder):
    """Points as the transformix of itk-elastix maps them."""
    import itk.itkTransformixFilterPython as module

    library = _library()
    listed = folder / "points.txt"
    rows = "\n".join(" ".join(repr(float(v)) for v in p) for p in points)
    listed.write_text(f"point\n{len(points)}\n{rows}\n")
    parameters = library.parameters.elastixParameterObject.New()
    for path in paths:
        parameters.AddParameterFile(str(path))
    transformix = module.itkTransformixFilterIF3.New()
    transformix.SetMovingImage(moving := _image(library, image))
    transformix.SetTransformParameterObject(parameters)
    transformix.SetFixedPointSetFileName(str(listed))
    transformix.SetOutputDirectory(str(folder))
    transformix.UpdateLargestPossibleRegion()
    del moving
    text = (folder / "outputpoints.txt").read_text()
    return np.array(
        [[float(v) for v in row.split()] for row in re.findall(r"OutputPoint = \[ ([^\]]*)\]", text)]
    )


@pytest.mark.parametrize("case", ["linear", "bspline", "linear bspline", "bspline linear bspline"])
def test_files_give_the_same_points_in_transformix_and_here(case, reference, tmp_path):
    parts = [
        euler(reference) if n == "linear" else bspline(reference, seed=i) for i, n in enumerate(case.split())
    ]
    transform = Transform.compose([Transform(part) for part in parts])
    files = write_transform_parameters(transform, reference, tmp_path / "TransformParameters.txt")
    assert len(files) == len(parts)
    assert files[-1] == tmp_path / "TransformParameters.txt"
    assert all(is_transform_parameters(file) for file in files)
    points = points_of(reference)
    expected = flip_points(transform.points(flip_points(points)))
    assert np.abs(by_transformix(files, reference, points, tmp_path) - expected).max() < 1e-3
    back = flip_points(read_transform_parameters(files[-1]).points(flip_points(points)))
    assert np.abs(back - expected).max() < 1e-9


FILES = {
    "EulerTransform": "0.1 -0.2 0.3 4 5 6",
    "SimilarityTransform": "0.1 -0.2 0.05 4 5 6 1.2",
    "AffineTransform": "1.1 0.1 0 0 0.9 0.05 -0.1 0 1 4 5 6",
    "TranslationTransform": "4 5 6",
}


def written(path, kind, values, *more):
    lines = [
        f'(Transform "{kind}")',
        f"(NumberOfParameters {len(values.split())})",
        f"(TransformParameters {values}) // found by hand",
        '(InitialTransformParameterFileName "NoInitialTransform")',
        '(HowToCombineTransforms "Compose")',
        "(FixedImageDimension 3)",
        "(MovingImageDimension 3)",
        '(FixedInternalImagePixelType "float")',
        '(MovingInternalImagePixelType "float")',
        "(CenterOfRotationPoint 3 -7 11)",
        "(Size 10 10 10)",
        "(Index 0 0 0)",
        "(Spacing 1 1 1)",
        "(Origin 0 0 0)",
        "(Direction 1 0 0 0 1 0 0 0 1)",
        '(UseDirectionCosines "true")',
        '(ResampleInterpolator "FinalLinearInterpolator")',
        '(Resampler "DefaultResampler")',
        "(DefaultPixelValue 0)",
        '(ResultImageFormat "nii")',
        '(ResultImagePixelType "float")',
        *more,
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("zyx", ["true", "false"])
@pytest.mark.parametrize("kind", FILES)
def test_linear_files_of_others_mean_what_transformix_says(kind, zyx, reference, tmp_path):
    path = written(tmp_path / "t.txt", kind, FILES[kind], f'(ComputeZYX "{zyx}")')
    points = points_of(reference)
    here = flip_points(read_transform_parameters(path).points(flip_points(points)))
    assert np.abs(by_transformix([path], reference, points, tmp_path) - here).max() < 1e-3


def test_chain_is_followed_relative_to_its_folder(reference, tmp_path, monkeypatch):
    first = written(tmp_path / "first.txt", "TranslationTransform", "4 5 6")
    last = written(tmp_path / "last.txt", "EulerTransform", FILES["EulerTransform"])
    alone = read_transform_parameters(last)
    # as elastix writes it on the machine where it ran
    last.write_text(last.read_text().replace("NoInitialTransform", "/somewhere/else/first.txt"))
    monkeypatch.chdir("/")
    points = points_of(reference)
    both = read_transform_parameters(last).points(points)
    assert np.allclose(both, alone.points(read_transform_parameters(first).points(points)))


def test_damaged_files_are_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"t\.txt"):
        read_transform_parameters(tmp_path / "t.txt")
    path = written(tmp_path / "t.txt", "EulerTransform", "1 2 3")
    with pytest.raises(UnreadableFileError, match="must be 6 finite numbers"):
        read_transform_parameters(path)
    written(path, "EulerTransform", "1 2 3 4 5 nan")
    with pytest.raises(UnreadableFileError, match="finite"):
        read_transform_parameters(path)
    path.write_text('(Transform "EulerTransform"\n')
    with pytest.raises(UnreadableFileError, match="line 1"):
        read_transform_parameters(path)
    path.write_bytes(b"\x1f\x8b\xff\xfe")
    with pytest.raises(UnreadableFileError, match="binary"):
        read_transform_parameters(path)
    written(path, "SplineKernelTransform", "1 2 3")
    with pytest.raises(OptionError, match="SplineKernelTransform"):
        read_transform_parameters(path)
    written(path, "TranslationTransform", "4 5 6")
    path.write_text(path.read_text().replace("NoInitialTransform", "t.txt"))
    with pytest.raises(UnreadableFileError, match="twice"):
        read_transform_parameters(path)
    path.write_text(path.read_text().replace("Compose", "Add"))
    with pytest.raises(OptionError, match="added"):
        read_transform_parameters(path)


def test_displacement_fields_have_no_parameters(reference, tmp_path):
    field = sitk.Image(reference.GetSize(), sitk.sitkVectorFloat64, 3)
    with pytest.raises(OptionError, match="displacement field"):
        write_transform_parameters(
            Transform(sitk.DisplacementFieldTransform(field)), reference, tmp_path / "t.txt"
        )
