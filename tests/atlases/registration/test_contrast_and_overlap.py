from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from atlaseg.atlases.registration.contrast_and_overlap import require_contrast, require_overlap
from atlaseg.atlases.registration.engine import Problem, RegistrationError
from atlaseg.atlases.registration.transforms.frames import to_itk
from atlaseg.atlases.registration.transforms.transform import Transform


@pytest.fixture
def problem() -> Problem:
    voxels = np.random.default_rng(0).random((10, 12, 14)).astype(np.float32)
    affine = np.diag((-1.0, 2, 3, 1))
    return Problem(to_itk(voxels, affine), to_itk(voxels, affine), Transform.identity())


def shift(x: float) -> Transform:
    matrix = np.eye(4)
    matrix[0, 3] = x
    return Transform.from_matrix(matrix)


@pytest.mark.parametrize(
    ("x", "there"), [(0.0, True), (8.9, True), (-8.9, True), (10.5, False), (-10.5, False)]
)
def test_overlap_ends_where_the_images_end(problem: Problem, x: float, there: bool) -> None:
    # 10 voxels of 1 mm: a shift of 9 still carries one face of the fixed image into the moving one
    if there:
        require_overlap("ants", problem, shift(x), "the result")
    else:
        with pytest.raises(RegistrationError, match="ants: the result carries nothing"):
            require_overlap("ants", problem, shift(x), "the result")


@pytest.mark.parametrize("role", ["fixed", "moving"])
@pytest.mark.parametrize("value", [0.0, np.nan])
def test_images_without_contrast_are_refused(problem: Problem, role: str, value: float) -> None:
    flat = to_itk(np.full((10, 12, 14), value, np.float32), np.eye(4))
    require_contrast("greedy", problem)
    with pytest.raises(RegistrationError, match=f"greedy: the {role} image has no contrast"):
        require_contrast("greedy", replace(problem, **{role: flat}))
