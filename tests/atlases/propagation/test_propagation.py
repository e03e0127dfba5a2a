from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import atlaseg.atlases.propagation.carrying as carrying
from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.atlases.propagation.propagation import PropagationOptions, propagate
from atlaseg.atlases.registration.engine import RegistrationError
from atlaseg.pipeline.errors import (
    DatasetError,
    GeometryError,
    OptionError,
    UnreadableFileError,
)
from tests.atlases.propagation.heads import (
    AFFINE,
    QUICK,
    SHAPE,
    SHIFTS,
    TABLE,
    TWO_STEPS,
    carry_all,
    head,
    make,
    one_line,
    same,
    write,
)


@pytest.fixture
def atlases(tmp_path: Path) -> AtlasSet:
    return make(tmp_path)


def test_atlases_arrive_where_the_scan_has_its_structures(atlases):
    found = carry_all(atlases)
    truth = TABLE.to_indices(head()[1])
    for carried in found.carried:
        for index in (1, 2):
            a, b = carried.labels == index, truth == index
            assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.83
        x, y, z = SHIFTS[carried.name]
        # the scan's centre lies where the atlas was moved to
        centre = AFFINE @ [10, 11, 9, 1]
        moved = AFFINE @ [10 + x, 11 + y, 9 + z, 1]
        assert carried.transform.points(centre[None, :3]) == pytest.approx(moved[None, :3], abs=0.3)
        assert carried.images.shape == (1, *SHAPE)
        assert carried.images.dtype == np.float32
        assert carried.labels.dtype == np.uint8
        assert carried.quality.local_correlation > 0.8
        assert carried.linear == "rigid"
        assert carried.jacobian.log_sd == pytest.approx(0, abs=1e-6)
    candidates = found.candidates()
    # atlas b is three times as bright on disk
    assert np.abs(candidates.images - candidates.target)[candidates.inside[:, None]].mean() < 0.02
    assert found.chosen == (0, 1, 2, 3)
    assert found.left_out == found.failed == ()


def test_a_tensor_and_an_array_are_the_same_scan(atlases):
    import torch
    from monai.data import MetaTensor

    image = head()[0]
    given = MetaTensor(torch.from_numpy(image), affine=torch.from_numpy(AFFINE))
    assert same(propagate(atlases, given, QUICK), carry_all(atlases))
    assert np.array_equal(given.numpy(), image)


@pytest.mark.thorough
def test_results_do_not_depend_on_the_executor(atlases):
    here = carry_all(atlases)
    seen: list[tuple[int, int]] = []
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as executor:
        there = carry_all(
            atlases, executor=executor, progress=lambda done, total, what: seen.append((done, total))
        )
        # a function of this file could only be found by a worker whose path holds the folder of the tests
        heavy = "[name for name in ('torch', 'monai') if name in __import__('sys').modules]"
        assert executor.submit(eval, heavy).result() == []
    assert same(here, there)
    assert [c.name for c in there.carried] == list(atlases.names)
    assert seen == [(n, 4) for n in (1, 2, 3, 4)]


def test_a_pool_that_is_broken_already_is_one_line(atlases):
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        with pytest.raises(BrokenProcessPool):
            executor.submit(os._exit, 1).result()
        one_line(RegistrationError, "a worker process ended", lambda: carry_all(atlases, executor=executor))


@pytest.mark.thorough
def test_a_task_needs_neither_torch_nor_monai(atlases, tmp_path):
    import pickle

    scan = carrying.Scan(head()[0][0], AFFINE)
    task = carrying.Task(atlases.atlases[0], TABLE, 1, scan, QUICK.steps())
    (tmp_path / "task").write_bytes(pickle.dumps(task))
    script = (
        "import pickle, sys; from pathlib import Path; from atlaseg.atlases.propagation.carrying import carry\n"
        f"carry(pickle.loads(Path({str(tmp_path / 'task')!r}).read_bytes()))\n"
        "assert not {'torch', 'monai'} & set(sys.modules), 'slow imports'"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_all_channels_are_carried_and_one_is_registered(tmp_path):
    atlases = make(tmp_path, channels=2)
    image = head(channels=2)[0]
    found = propagate(atlases, (image, AFFINE), replace(QUICK, channel=1))
    assert found.candidates().images.shape == (4, 2, *SHAPE)
    assert found.target.shape == (2, *SHAPE)
    scrambled = image.copy()
    scrambled[0] = np.random.default_rng(0).normal(size=SHAPE)
    other = propagate(atlases, (scrambled, AFFINE), replace(QUICK, channel=1))
    assert np.array_equal(other.candidates().labels, found.candidates().labels)


@pytest.mark.thorough
def test_the_most_similar_atlases_are_kept(atlases, tmp_path):
    noisy = head(SHIFTS["b"])[0][0] + np.random.default_rng(0).normal(0, 30, SHAPE).astype(np.float32)
    write(tmp_path / "images/b_0.nii", noisy)
    calls: list[tuple[int, int]] = []
    found = carry_all(
        atlases, replace(TWO_STEPS, keep=3), progress=lambda done, total, what: calls.append((done, total))
    )
    assert [c.name for c in found.carried] == ["a", "c", "d"]
    (left,) = found.left_out
    assert left[0] == "b"
    assert "place 4 of 4" in left[1]
    assert calls[-1] == (7, 7)
    everything = carry_all(atlases, TWO_STEPS)
    # what an atlas comes to does not depend on whether others were left out
    assert np.array_equal(everything.carried[0].images, found.carried[0].images)
    linear_only = carry_all(atlases, replace(QUICK, keep=3))
    assert [c.name for c in linear_only.carried] == ["a", "c", "d"]


def test_quality_control_leaves_out_a_wreck_and_can_be_switched_off(atlases, tmp_path):
    labels = head(SHIFTS["d"])[1]
    write(tmp_path / "images/d_0.nii", np.random.default_rng(0).normal(size=SHAPE).astype(np.float32))
    write(tmp_path / "labels/d.nii", np.roll(labels, 9, axis=1))
    found = carry_all(atlases)
    assert [name for name, _ in found.left_out] == ["d"]
    assert found.chosen == (0, 1, 2)
    assert len(found.carried) == 4
    assert len(found.candidates()) == 3
    assert carry_all(atlases, replace(QUICK, quality_control=False)).chosen == (0, 1, 2, 3)


def test_masks_steer_the_metric_and_are_carried(atlases, tmp_path):
    with_masks = replace(
        atlases,
        atlases=tuple(
            replace(
                a,
                mask=write(tmp_path / f"masks/{a.name}.nii", (head(SHIFTS[a.name])[1] > 0).astype(np.uint8)),
            )
            for a in atlases.atlases
        ),
    )
    mask = np.ones(SHAPE, bool)
    mask[:, :, :2] = False
    found = carry_all(with_masks, mask=mask)
    assert all(c.mask is not None and c.mask.shape == SHAPE for c in found.carried)
    assert all(c.quality.mask_overlap is not None for c in found.carried)
    assert not same(found, carry_all(atlases))


def test_one_failure_is_listed_and_the_others_continue(atlases, tmp_path):
    write(tmp_path / "images/c_0.nii", np.full(SHAPE, 3, np.float32))
    found = carry_all(atlases)
    ((name, reason),) = found.failed
    assert name == "c"
    assert "c_0.nii" in reason
    assert [c.name for c in found.carried] == ["a", "b", "d"]
    for other in "abd":
        write(tmp_path / f"images/{other}_0.nii", np.full(SHAPE, 3, np.float32))
    one_line(RegistrationError, "none of 4 atlases .* a: .*every voxel is 3", lambda: carry_all(atlases))


def test_scans_that_cannot_be_carried_to(atlases):
    image = head()[0]

    def of(voxels, affine=AFFINE, options=QUICK, **choices):
        return lambda: propagate(atlases, (voxels, affine), options, **choices)

    one_line(DatasetError, "scan: every voxel is 0", of(np.zeros_like(image)))
    broken = image.copy()
    broken[0, 3, 3, 3] = np.nan
    one_line(DatasetError, "scan: .* voxels are NaN", of(broken))
    one_line(GeometryError, r"expected a 3-D scan as \(channels, x, y, z\)", of(image[0]))
    one_line(GeometryError, r"has 1 channel\(s\), the scan 2", of(np.concatenate([image, image])))
    one_line(GeometryError, "mask has shape", of(image, mask=np.ones((2, 2, 2))))
    one_line(DatasetError, "mask", of(image, mask=np.zeros(SHAPE)))
    one_line(OptionError, "no channel 1", of(image, options=replace(QUICK, channel=1)))
    far = AFFINE.copy()
    far[:3, 3] += 1000
    one_line(GeometryError, "do not overlap", of(image, far, replace(QUICK, initial="identity")))


def test_a_thin_scan_works(atlases):
    found = propagate(atlases, (head()[0][..., 8:11], _moved(8)), QUICK)
    assert found.candidates().spatial_shape == (*SHAPE[:2], 3)


def _moved(slices: int) -> np.ndarray:
    affine = AFFINE.copy()
    affine[:3, 3] += slices * AFFINE[:3, 2]
    return affine


def test_files_that_are_not_as_they_must_be_end_it(atlases, tmp_path):
    (tmp_path / "labels/b.nii").write_bytes(b"no volume")
    one_line(UnreadableFileError, "b.nii", lambda: carry_all(atlases))
    with ThreadPoolExecutor(1) as executor:
        one_line(UnreadableFileError, "b.nii", lambda: carry_all(atlases, executor=executor))


@pytest.mark.parametrize(
    "wrong",
    [{"linear": "similarity"}, {"selection_metric": "cc"}, {"keep": 0}, {"transform": "elastic"}],
)
def test_options_are_checked(wrong):
    one_line(OptionError, "no linear|no metric|at least 1|no transform", lambda: PropagationOptions(**wrong))


def test_demons_of_two_modalities_are_refused_before_anything_is_read(atlases, tmp_path):
    for path in tmp_path.rglob("*.nii"):
        path.unlink()
    options = PropagationOptions("deformable", "simpleitk", same_modality=False)
    one_line(OptionError, "different modalities", lambda: carry_all(atlases, options))


def test_an_engine_that_lacks_a_stage_is_refused_before_anything_is_read(atlases, tmp_path):
    for path in tmp_path.rglob("*.nii"):
        path.unlink()
    one_line(
        OptionError, "elastix has no syn", lambda: carry_all(atlases, PropagationOptions("syn", "elastix"))
    )


@pytest.mark.thorough
def test_named_transforms_begin_at_the_best_linear_mapping(atlases, tmp_path):
    options = PropagationOptions("bspline")
    found = propagate(atlases.subset(["a"]), (head()[0], AFFINE), options, work=tmp_path / "work")
    assert found.carried[0].linear in {"rigid", "focused", "affine"}
    assert found.carried[0].quality.agreement is None
    kept = sorted(path.name.rsplit("-", 1)[0] for path in (tmp_path / "work").glob("*.json"))
    assert kept == ["a-full", "a-linear"]
    truth = TABLE.to_indices(head()[1])
    assert np.mean(found.carried[0].labels == truth) > 0.98
