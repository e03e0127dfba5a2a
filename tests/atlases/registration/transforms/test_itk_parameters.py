from __future__ import annotations

import re

import numpy as np
import pytest
import SimpleITK as sitk

from atlaseg.atlases.registration.transforms.itk_parameters import (
    Kind,
    Record,
    is_invertible,
    problem_of,
    problem_of_part,
)

GRID = [5.0, 5, 5, 0, 0, 0, 10, 10, 10, 1, 0, 0, 0, 1, 0, 0, 0, 1]


def problem(name: str, parameters: list[float], fixed: list[float], order: int = 3) -> str | None:
    return problem_of(Record(Kind(name, 3, order), np.array(parameters, float), np.array(fixed, float)))


@pytest.mark.parametrize(
    "make",
    [
        sitk.Euler3DTransform,
        sitk.VersorTransform,
        sitk.VersorRigid3DTransform,
        sitk.Similarity3DTransform,
        lambda: sitk.ScaleTransform(3, (1.1, 0.9, 2)),
        sitk.ScaleVersor3DTransform,
        sitk.ScaleSkewVersor3DTransform,
        sitk.ComposeScaleSkewVersor3DTransform,
        lambda: sitk.AffineTransform(3),
        lambda: sitk.TranslationTransform(3),
        lambda: sitk.BSplineTransformInitializer(sitk.Image(9, 9, 9, sitk.sitkUInt8), [2, 2, 2], 3),
        lambda: sitk.BSplineTransformInitializer(sitk.Image(9, 9, 9, sitk.sitkUInt8), [2, 2, 2], 2),
        lambda: sitk.DisplacementFieldTransform(sitk.Image(4, 3, 2, sitk.sitkVectorFloat64)),
        lambda: sitk.DisplacementFieldTransform(sitk.Image(4, 3, 1, sitk.sitkVectorFloat64)),
    ],
)
def test_what_simpleitk_makes_has_no_problem(make):
    assert problem_of_part(make()) is None


@pytest.mark.parametrize(
    ("name", "parameters", "fixed", "message"),
    [
        ("AffineTransform", [1] * 9, [0] * 3, "takes 12 parameters, found 9"),
        ("AffineTransform", [1] * 12, [], "takes 3 fixed parameters, found 0"),
        ("AffineTransform", [1] * 11 + [np.inf], [0] * 3, "NaN or infinite"),
        ("TranslationTransform", [1, 2, 3], [np.nan] * 3, "NaN or infinite"),
        ("Euler3DTransform", [0] * 6, [0] * 5, "takes 3 or 4 fixed parameters"),
        ("VersorRigid3DTransform", [3, 0, 0, 1, 2, 3], [0] * 3, "no longer than 1 .* found 3"),
        ("QuaternionRigidTransform", [0] * 7, [0] * 3, "must have length 1, found 0"),
        ("BSplineTransform", [0] * 300, GRID, "5 x 5 x 5 control points takes 375 parameters, found 300"),
        ("BSplineTransform", [0] * 375, GRID[:9], "takes 18 fixed parameters"),
        ("BSplineTransform", [0] * 81, [3, 3, 3, *GRID[3:]], "at least 4 control points .* found 3 x 3 x 3"),
        ("BSplineTransform", [0] * 375, [1e9] * 3 + GRID[3:], "takes 3e27|takes 3000"),
        ("BSplineTransform", [0] * 375, [-5, *GRID[1:]], "found -5 x 5 x 5"),
        ("BSplineTransform", [0] * 375, [5.5, *GRID[1:]], "found 5.5 x 5 x 5"),
        ("BSplineTransform", [0] * 375, [*GRID[:6], 0, 10, 10, *GRID[9:]], "spacing .* found 0 x 10 x 10"),
        ("BSplineTransform", [0] * 375, [*GRID[:9], *[0.0] * 9], "lie in a plane"),
        ("DisplacementFieldTransform", [0] * 300, GRID, "voxels takes 375 parameters, found 300"),
        ("DisplacementFieldTransform", [0] * 375, [*GRID[:6], -1, 10, 10, *GRID[9:]], "above 0 mm"),
        ("DisplacementFieldTransform", [0] * 375, [*GRID[:9], 1, 0, 0, 1, 0, 0, 0, 0, 1], "lie in a plane"),
    ],
)
def test_what_cannot_be_meant(name: str, parameters: list[float], fixed: list[float], message: str):
    assert re.search(message, str(problem(name, parameters, fixed)))


def test_matrices_that_flatten_space():
    flat = sitk.AffineTransform(3)
    flat.SetMatrix((1, 0, 0, 0, 1, 0, 0, 0, 0))
    assert "singular" in str(problem_of_part(flat))
    assert "singular" in str(problem_of_part(sitk.ScaleTransform(3, (1, 0, 1))))
    # small scales are another unit of length
    assert problem_of_part(sitk.ScaleTransform(3, (1e-6, 1e-6, 1e-6))) is None
    assert not is_invertible(np.full((3, 3), np.nan))


def test_names_of_types():
    assert Kind.parse(" MatrixOffsetTransformBase_float_3_3") == Kind("MatrixOffsetTransformBase")
    assert Kind.parse("Euler2DTransform_double_2_2") == Kind("Euler2DTransform", 2)
    assert Kind.parse("AffineTransform_double_3_2") is None
    assert Kind.parse("words") is None
