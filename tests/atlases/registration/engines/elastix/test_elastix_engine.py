"""elastix: known warps come back, runs do not disturb each other, failures have a reason."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter

from atlaseg.atlases.registration.engine import Problem, RegistrationEngine, RegistrationError
from atlaseg.atlases.registration.engines.elastix import elastix_engine as elastix
from atlaseg.atlases.registration.engines.elastix.elastix_engine import ElastixEngine
from atlaseg.atlases.registration.presets import complete
from atlaseg.atlases.registration.stage import Stage, stages_of
from atlaseg.atlases.registration.transforms.frames import to_itk
from atlaseg.atlases.registration.transforms.transform import Transform


def texture(shape=(32, 36, 28), seed=0):
    blurred = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2).astype(np.float32)
    return (blurred - blurred.min()) / np.ptp(blurred)


def oblique():
    turn = sitk.Euler3DTransform()
    turn.SetRotation(0.3, -0.2, 0.4)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(turn.GetMatrix(), (3, 3)) @ np.diag((1.0, 1.0, 1.4))
    affine[:3, 3] = (10, -20, 30)
    return to_itk(texture(), affine)


def warp_of(image, shift=(2.0, -1.0, 1.5)):
    centre = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()])
    return sitk.Euler3DTransform(centre, 0.08, 0.04, -0.06, shift)


@pytest.fixture(scope="module")
def pair():
    fixed = oblique()
    truth = warp_of(fixed)
    # the edge voxels go on outside: a black rim would be taken for anatomy
    moving = sitk.Resample(
        fixed,
        fixed,
        truth.GetInverse(),
        sitk.sitkLinear,
        0.0,
        sitk.sitkUnknown,
        useNearestNeighborExtrapolator=True,
    )
    return fixed, moving, truth


def inner_points(image, margin=6):
    axes = [np.linspace(margin, n - 1 - margin, 5) for n in image.GetSize()]
    index = np.stack(np.meshgrid(*axes), -1).reshape(-1, 3)
    return [image.TransformContinuousIndexToPhysicalPoint(i) for i in index.tolist()]


def error_mm(found, truth, image):
    return np.mean(
        [
            np.linalg.norm(np.subtract(found.itk.TransformPoint(p), truth.TransformPoint(p)))
            for p in inner_points(image)
        ]
    )


def quick(fixed, moving, kinds=("rigid",), iterations=60, **choices):
    stages = complete([Stage(kind) for kind in kinds], fixed, moving, ElastixEngine())
    return [replace(s, iterations=(iterations,) * len(s.shrink), **choices) for s in stages]


def test_is_an_engine():
    assert isinstance(ElastixEngine(), RegistrationEngine)


@pytest.mark.thorough
@pytest.mark.parametrize("transform", ["rigid", "similarity", "affine", "bspline"])
def test_known_motion_comes_back(pair, transform):
    fixed, moving, truth = pair
    stages = complete(stages_of(transform), fixed, moving, ElastixEngine())
    stages = [replace(s, iterations=tuple(min(n, 100) for n in s.iterations)) for s in stages]
    found = ElastixEngine().register(Problem(fixed, moving, Transform.identity()), stages)
    assert error_mm(found, truth, fixed) < 0.35
    assert found.is_linear == (transform != "bspline")


@pytest.mark.parametrize("metric", ["ssd", "ncc", "mi", "lncc"])
def test_every_metric_and_all_voxels(pair, metric):
    fixed, moving, truth = pair
    stages = quick(fixed, moving, iterations=10, metric=metric, metric_radius=4, samples=0)
    found = ElastixEngine().register(Problem(fixed, moving, Transform.identity()), stages)
    assert error_mm(found, truth, fixed) < 0.3


def test_linear_initial_transform_is_part_of_the_result(pair):
    fixed, moving, truth = pair
    away = Transform(sitk.TranslationTransform(3, (40.0, -30.0, 20.0)))
    back = away.itk.GetInverse()
    moved = sitk.Resample(moving, sitk.Image(moving), sitk.Transform(3, sitk.sitkIdentity))
    moved.SetOrigin(np.add(moving.GetOrigin(), (40.0, -30.0, 20.0)).tolist())
    found = ElastixEngine().register(Problem(fixed, moved, away), quick(fixed, moved))
    assert error_mm(Transform(sitk.CompositeTransform([back, found.itk])), truth, fixed) < 0.35


def test_deformable_initial_transform_is_part_of_the_result(pair):
    fixed, moving, truth = pair
    field = sitk.TransformToDisplacementField(
        warp_of(fixed, (1.5, -1.0, 1.0)),
        sitk.sitkVectorFloat64,
        fixed.GetSize(),
        fixed.GetOrigin(),
        fixed.GetSpacing(),
        fixed.GetDirection(),
    )
    initial = Transform(sitk.DisplacementFieldTransform(field))
    assert error_mm(initial, truth, fixed) > 0.6
    found = ElastixEngine().register(Problem(fixed, moving, initial), quick(fixed, moving))
    assert error_mm(found, truth, fixed) < 0.4


@pytest.mark.thorough
def test_runs_do_not_disturb_each_other(pair):
    fixed, moving, _ = pair
    problem = Problem(fixed, moving, Transform.identity(), seed=5)
    stages = quick(fixed, moving, ("rigid", "bspline"), iterations=8)
    before = sitk.GetArrayFromImage(fixed).copy()
    first = ElastixEngine().register(problem, stages).points(np.array(inner_points(fixed)))
    other = replace(problem, seed=6)
    second = ElastixEngine().register(other, stages).points(np.array(inner_points(fixed)))
    with pytest.raises(RegistrationError):
        ElastixEngine().register(replace(problem, fixed_mask=far_mask(fixed)), stages)
    again = ElastixEngine().register(problem, stages).points(np.array(inner_points(fixed)))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)
    assert np.array_equal(before, sitk.GetArrayFromImage(fixed))


def far_mask(image):
    """A mask of one corner voxel, on which no metric can work."""
    mask = sitk.Image(image.GetSize(), sitk.sitkUInt8)
    mask.CopyInformation(image)
    mask[0, 0, 0] = 1
    return mask


def test_masks_limit_where_the_metric_counts(pair):
    fixed, moving, truth = pair
    voxels = sitk.GetArrayFromImage(moving).copy()
    voxels[:8] = texture((8, 36, 32), seed=9)
    spoilt = sitk.GetImageFromArray(voxels)
    spoilt.CopyInformation(moving)
    inside = np.zeros(voxels.shape, np.uint8)
    inside[10:, 4:-4, 4:-4] = 1
    mask = sitk.GetImageFromArray(inside)
    mask.CopyInformation(fixed)
    problem = Problem(fixed, spoilt, Transform.identity(), fixed_mask=mask, moving_mask=mask)
    found = ElastixEngine().register(problem, quick(fixed, spoilt))
    assert error_mm(found, truth, fixed) < 0.5


def test_two_threads_agree_with_one(pair):
    fixed, moving, _ = pair
    problem = Problem(fixed, moving, Transform.identity())
    one, two = (
        ElastixEngine().register(replace(problem, threads=n), quick(fixed, moving)).matrix for n in (1, 2)
    )
    assert np.allclose(one, two, atol=1e-2)


def test_failures_have_one_line_with_the_reason(pair):
    fixed, moving, _ = pair
    far = sitk.Image(moving)
    far.SetOrigin((1e4, 0, 0))
    with pytest.raises(RegistrationError, match="carries nothing") as caught:
        ElastixEngine().register(Problem(fixed, far, Transform.identity()), quick(fixed, far))
    assert "\n" not in str(caught.value)
    with pytest.raises(RegistrationError, match="no contrast"):
        ElastixEngine().register(Problem(fixed, moving * 0, Transform.identity()), quick(fixed, moving))
    # a sliver of overlap: elastix itself gives up
    sliver = sitk.Image(moving)
    along = np.reshape(moving.GetDirection(), (3, 3))[:, 0] * (moving.GetSize()[0] - 1)
    sliver.SetOrigin(np.add(moving.GetOrigin(), along).tolist())
    with pytest.raises(RegistrationError, match="overlap too little") as caught:
        ElastixEngine().register(Problem(fixed, sliver, Transform.identity()), quick(fixed, sliver))
    assert "\n" not in str(caught.value)


@pytest.mark.thorough
def test_writes_and_says_nothing_and_does_not_load_torch(tmp_path):
    program = """
import sys
import numpy as np, SimpleITK as sitk
from atlaseg.atlases.registration.engines.elastix.elastix_engine import ElastixEngine
from atlaseg.atlases.registration.engine import Problem
from atlaseg.atlases.registration.stage import Stage
from atlaseg.atlases.registration.transforms.transform import Transform
image = sitk.GaussianSource(sitk.sitkFloat32, [20] * 3, [4.0] * 3, [9.0] * 3, 1.0)
stage = Stage("rigid", "ssd", shrink=(1,), smoothing_mm=(0.0,), iterations=(5,), samples=0)
ElastixEngine().register(Problem(image, image, Transform.identity()), [stage])
sys.exit("torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())


def test_itk_is_kept_from_importing_torch_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    from itk.support import helpers

    monkeypatch.setattr(helpers, "_HAVE_TORCH", True)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    elastix._leave_out_torch()
    assert helpers._HAVE_TORCH is False
    # versions of itk without the flag, or without its module, load as they are
    monkeypatch.delattr(helpers, "_HAVE_TORCH")
    elastix._leave_out_torch()
    assert not hasattr(helpers, "_HAVE_TORCH")
    monkeypatch.setitem(sys.modules, "itk.support.helpers", None)
    monkeypatch.delattr("itk.support.helpers")
    elastix._leave_out_torch()
