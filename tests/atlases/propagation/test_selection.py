from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from atlaseg.atlases.propagation.selection import rank, select, similarities
from atlaseg.pipeline.errors import DatasetError, GeometryError, LabelError, OptionError

SHAPE = (20, 18, 16)
METRICS = ("ncc", "lncc", "mi", "ssd")


def labels(shift: int = 0) -> np.ndarray:
    found = np.zeros(SHAPE, np.uint8)
    found[4 + shift : 10 + shift, 6:13, 5:11] = 1
    return found


def image(array: np.ndarray) -> sitk.Image:
    return sitk.GetImageFromArray(array.T)


@pytest.fixture
def scans() -> tuple[sitk.Image, list[sitk.Image], list[sitk.Image]]:
    """A scan, and atlases that are off by 4, 0, 2 and 1 voxels."""
    rng = np.random.default_rng(0)

    def scan(shift: int) -> sitk.Image:
        voxels = labels(shift) + rng.normal(0, 0.1, SHAPE)
        return sitk.SmoothingRecursiveGaussian(image(voxels.astype(np.float32)), 0.7)

    shifts = (4, 0, 2, 1)
    return scan(0), [scan(s) for s in shifts], [image(labels(s)) for s in shifts]


def test_rank():
    assert rank([0.1, 0.5, 0.5, 0.3]) == [1, 2, 3, 0]
    assert rank([0.1, 0.5, 0.3], k=2) == [1, 2]
    assert rank([0.1, 0.5], k=9) == [1, 0]
    for values, k in (([], None), ([0.1, np.nan], None), ([[0.1]], None), ([0.1], 0)):
        with pytest.raises(OptionError):
            rank(values, k)


@pytest.mark.parametrize("metric", METRICS)
def test_the_closest_come_first(scans, metric):
    target, warped, maps = scans
    for options in ({}, {"labels": maps}, {"mask": image(labels() + labels(2))}):
        found = select(target, warped, metric=metric, **options)
        assert [index for index, _ in found][:2] == [1, 3]
        assert sorted(index for index, _ in found) == [0, 1, 2, 3]
        assert [score for _, score in found] == sorted((s for _, s in found), reverse=True)
        assert select(target, warped, metric=metric, k=2, **options) == found[:2]


def test_correlation_is_that_of_itk(scans):
    target, warped, _ = scans
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsCorrelation()
    method.SetInterpolator(sitk.sitkNearestNeighbor)
    method.SetInitialTransform(sitk.TranslationTransform(3))
    for index, score in select(target, warped):
        # ITK gives minus the square of the correlation
        assert score**2 == pytest.approx(-method.MetricEvaluate(target, warped[index]), abs=1e-4)


def test_the_surroundings_decide_where_the_rest_of_the_body_differs(scans):
    target, warped, maps = scans
    noisy = []
    for n, scan in enumerate(warped):
        voxels = sitk.GetArrayFromImage(scan).T.copy()
        voxels[18:] += 3 * (n == 1)  # the best atlas has a bright neighbour far from the structure
        noisy.append(image(voxels))
    assert select(target, noisy)[0][0] != 1
    assert select(target, noisy, labels=maps)[0][0] == 1


@pytest.mark.parametrize("metric", METRICS)
def test_an_atlas_that_missed_the_scan_is_last(scans, metric):
    target, warped, maps = scans
    warped[1] = image(np.zeros(SHAPE, np.float32))
    maps[1] = image(np.zeros(SHAPE, np.uint8))
    found = select(target, warped, metric=metric, labels=maps)
    assert found[-1][0] == 1
    assert len(found) == 4


def test_inputs_are_not_changed(scans):
    target, warped, maps = scans
    before = [sitk.Hash(i) for i in (target, *warped, *maps)]
    select(target, warped, labels=maps)
    assert [sitk.Hash(i) for i in (target, *warped, *maps)] == before


def moved(scan: sitk.Image) -> sitk.Image:
    other = sitk.Image(scan)
    other.SetOrigin((1, 0, 0))
    return other


def test_bad_input_is_one_line(scans):
    target, warped, maps = scans
    flat = sitk.Image(target.GetSize(), sitk.sitkFloat32)
    empty = image(np.zeros(SHAPE, np.uint8))
    cases = [
        (OptionError, "no metric", lambda: select(target, warped, metric="dice")),
        (OptionError, "at least 1", lambda: select(target, warped, k=0)),
        (OptionError, "one finite similarity", lambda: select(target, [])),
        (OptionError, "give one each", lambda: select(target, warped, labels=maps[:2])),
        (GeometryError, "off the scan's grid", lambda: select(target, [moved(warped[0])])),
        (GeometryError, "off the scan's grid", lambda: select(target, warped, mask=moved(maps[0]))),
        (GeometryError, "label map lies", lambda: select(target, warped, labels=[*maps[:3], moved(maps[3])])),
        (GeometryError, "voxels, the scan", lambda: select(target, [warped[0][1:]])),
        (GeometryError, "found 2-D", lambda: select(target, [warped[0][:, :, 3]])),
        (LabelError, "must be integers", lambda: select(target, warped, labels=warped)),
        (LabelError, "no structure", lambda: select(target, warped, labels=[empty] * 4)),
        (DatasetError, "scan: all voxels", lambda: select(flat, warped)),
        (DatasetError, "region to compare in is empty", lambda: select(target, warped, mask=empty)),
    ]
    for kind, match, call in cases:
        with pytest.raises(kind, match=match) as caught:
            call()
        assert "\n" not in str(caught.value)
    with pytest.raises(GeometryError, match="resample"):
        similarities(np.ones((3, 3)), [np.ones((3, 4))])
