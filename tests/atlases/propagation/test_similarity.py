from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr

from atlaseg.atlases.propagation.similarity import correlation, local_correlation, mutual_information
from atlaseg.pipeline.errors import AtlasegError, DatasetError, GeometryError

SHAPE = (16, 18, 14)
RNG = np.random.default_rng(0)


def one_line(kind: type[AtlasegError], match: str, call) -> None:
    with pytest.raises(kind, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_local_correlation_is_the_mean_over_windows():
    fixed, warped = RNG.normal(size=(2, *SHAPE))
    region = np.zeros(SHAPE, bool)
    region[4:8, 5, 6:9] = True
    expected = np.mean(
        [
            pearsonr(
                *(image[tuple(slice(c - 2, c + 3) for c in centre)].ravel() for image in (fixed, warped))
            ).statistic
            for centre in np.argwhere(region)
        ]
    )
    assert local_correlation(fixed, warped, region) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("measure", [local_correlation, correlation, mutual_information])
def test_scale_and_offset_of_the_intensities_do_not_matter(measure):
    fixed = RNG.normal(size=SHAPE)
    warped = fixed + RNG.normal(size=SHAPE)
    assert measure(fixed, warped) == pytest.approx(measure(fixed * 1e4 + 1e6, warped * 0.01 - 3), abs=1e-6)
    assert measure(fixed, fixed) > measure(fixed, warped) > measure(fixed, RNG.normal(size=SHAPE))


def test_correlation_is_pearsons():
    fixed, warped = RNG.normal(size=(2, *SHAPE))
    region = RNG.random(SHAPE) < 0.3
    assert correlation(fixed, warped, region) == pytest.approx(
        pearsonr(fixed[region], warped[region]).statistic
    )
    assert correlation(fixed, -fixed) == pytest.approx(-1)


def test_mutual_information_knows_inverted_contrast():
    fixed = RNG.normal(size=SHAPE)
    assert mutual_information(fixed, -fixed) == pytest.approx(2, abs=0.05)
    assert local_correlation(fixed, -fixed) == pytest.approx(-1)


def test_even_windows_say_nothing():
    fixed = np.zeros(SHAPE)
    fixed[:3] = RNG.normal(size=(3, *SHAPE[1:]))
    far = np.zeros(SHAPE, bool)
    far[10:] = True
    assert local_correlation(fixed, fixed, far) == 0
    assert correlation(fixed, fixed, far) == 0
    assert mutual_information(fixed, fixed, far) == 1


def test_bad_input_is_one_line():
    fixed = RNG.normal(size=SHAPE)
    nan = fixed.copy()
    nan[0, 0, 0] = np.nan
    empty = np.zeros(SHAPE, bool)
    for measure in (local_correlation, correlation, mutual_information):
        one_line(GeometryError, "resample it", lambda m=measure: m(fixed, fixed[:-1]))
        one_line(GeometryError, "resample it", lambda m=measure: m(fixed, fixed[..., 0]))
        one_line(GeometryError, "region has shape", lambda m=measure: m(fixed, fixed, empty[:-1]))
        one_line(DatasetError, "scan: all voxels", lambda m=measure: m(np.ones(SHAPE), fixed))
        one_line(DatasetError, "warped image: all voxels", lambda m=measure: m(fixed, np.ones(SHAPE)))
        one_line(DatasetError, "NaN", lambda m=measure: m(fixed, nan))
        one_line(DatasetError, "region to compare in is empty", lambda m=measure: m(fixed, fixed, empty))
