from __future__ import annotations

import numpy as np
import pytest

from atlaseg.atlases.registration.transforms.frames import affine_of, to_itk
from atlaseg.atlases.templates.template_measures import change, sharpness


def test_sharpness_of_a_ramp_is_its_slope() -> None:

    ramp = np.broadcast_to(np.arange(6.0, dtype=np.float32)[:, None, None], (6, 5, 4)).copy()
    image = to_itk(ramp, np.diag([2.0, 1, 1, 1]))
    assert affine_of(image)[0, 0] == 2
    assert sharpness(image, np.ones(ramp.shape, bool)) == pytest.approx(0.5)


def test_change_is_the_difference_over_the_spread() -> None:
    after = np.zeros((4, 4, 4), np.float32)
    after[::2] = 2
    region = np.ones(after.shape, bool)
    assert change(after, after, region) == 0
    # a difference of 3 everywhere, and a standard deviation of 1
    assert change(after + 3, after, region) == pytest.approx(3)
    assert change(after, after[:1].repeat(4, axis=0), region) == 0
