from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import atlaseg.atlases.propagation.carrying as carrying
from atlaseg.atlases.atlas import Atlas
from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.atlases.propagation.propagation import Propagation, PropagationOptions, propagate
from atlaseg.atlases.registration.engine import RegistrationError
from atlaseg.atlases.registration.stage import Stage
from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.errors import (
    AtlasegError,
    DatasetError,
    GeometryError,
    OptionError,
    UnreadableFileError,
)

SHAPE = (20, 22, 18)
TABLE = LabelTable.from_names({"core": 1, "shell": 7})
#: A turned, shifted grid with voxels of unlike size, millimetres.
AFFINE = np.array([[-1.0, 0.1, 0, 30], [0.1, 1.0, 0, -20], [0, 0, 1.3, 5], [0, 0, 0, 1]])
QUICK = PropagationOptions(
    transform=(Stage("rigid", shrink=(2,), smoothing_mm=(1.0,), iterations=(40,), samples=0),)
)
TWO_STEPS = replace(
    QUICK,
    transform=(
        *QUICK.transform,
        Stage("bspline", shrink=(2,), smoothing_mm=(1.0,), iterations=(5,), samples=0),
    ),
)


def head(shift: tuple[float, float, float] = (0, 0, 0), channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """A ball in a shell, with a bump that tells its sides apart; channels have other contrasts."""
    x, y, z = (np.indices(SHAPE) - np.array([10, 11, 9])[:, None, None, None]).astype(float)
    x, y, z = x - shift[0], y - shift[1], z - shift[2]
    radius = np.sqrt(x**2 + (y / 1.2) ** 2 + (z / 0.9) ** 2)
    bump = np.exp(-((x - 4) ** 2 + (y - 3) ** 2 + z**2) / 6)
    image = 1 / (1 + np.exp(radius - 5.5)) + 0.8 / (1 + np.exp(2 * (radius - 2.5))) + bump
    labels = np.where(radius < 2.5, 1, np.where(radius < 5.5, 7, 0)).astype(np.uint8)
    return np.stack([100 * (image + 0.5 * c * bump) for c in range(channels)]).astype(np.float32), labels


def write(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


SHIFTS = {"a": (1, 0, 0), "b": (0, -1.5, 0), "c": (-1, 1, 0.5), "d": (0, 0, 1)}


@pytest.fixture
def atlases(tmp_path: Path) -> AtlasSet:
    return make(tmp_path)


def make(folder: Path, channels: int = 1) -> AtlasSet:
    found = []
    for name, shift in SHIFTS.items():
        image, labels = head(shift, channels)
        files = [
            write(folder / f"images/{name}_{n}.nii", voxels * (3 if name == "b" else 1))
            for n, voxels in enumerate(image)
        ]
        found.append(Atlas(name, tuple(files), write(folder / f"labels/{name}.nii", labels)))
    return AtlasSet("heads", tuple(found), TABLE, tuple(f"T{n}" for n in range(channels)))


def carry_all(atlases: AtlasSet, options: PropagationOptions = QUICK, **choices) -> Propagation:
    return propagate(atlases, (head()[0], AFFINE), options, **choices)


def same(a: Propagation, b: Propagation) -> bool:
    x, y = a.candidates(), b.candidates()
    return all(
        np.array_equal(getattr(x, name), getattr(y, name))
        for name in ("labels", "images", "inside", "target")
    )


def one_line(kind: type[AtlasegError], match: str, call) -> None:
    with pytest.raises(kind, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)


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


class Counted:
    """Counts registrations."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        original = carrying.register

        def counted(*args, **kwargs):
            self.calls += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(carrying, "register", counted)

    def during(self, call) -> tuple[Propagation, int]:
        before = self.calls
        return call(), self.calls - before


@pytest.mark.thorough
def test_finished_registrations_are_read_not_repeated(atlases, tmp_path, monkeypatch):
    counted, work = Counted(monkeypatch), tmp_path / "work"
    atlases = atlases.subset(["a", "b"])

    def run(atlases=atlases, options=TWO_STEPS, image=None, **choices):
        given = head()[0] if image is None else image
        return counted.during(lambda: propagate(atlases, (given, AFFINE), options, work=work, **choices))

    plain, first, again = carry_all(atlases, TWO_STEPS), run(), run()
    assert first[1] == 4
    assert again[1] == 0
    assert same(plain, first[0])
    assert same(first[0], again[0])
    assert [c.seconds for c in first[0].carried] == [c.seconds for c in again[0].carried]
    # the linear step is shared with other bending, other selection and one atlas more or less
    assert run(options=replace(TWO_STEPS, keep=1))[1] == 0
    assert run(options=QUICK)[1] == 0
    assert run(atlases.without("a"))[1] == 0
    # neither another scan nor another seed, start, mask or file is taken for the same
    assert run(image=head()[0] + 1)[1] == 4
    assert run(options=replace(TWO_STEPS, seed=1))[1] == 4
    assert run(options=replace(TWO_STEPS, initial="centres"))[1] == 4
    assert run(mask=np.ones(SHAPE))[1] == 4
    write(tmp_path / "images/b_0.nii", head(SHIFTS["b"])[0][0] * 1.5)
    assert run()[1] == 2


@pytest.mark.thorough
def test_damaged_registrations_are_made_again(atlases, tmp_path, monkeypatch, caplog):
    counted, work = Counted(monkeypatch), tmp_path / "work"
    first = carry_all(atlases, work=work)
    for name, damage in (("a", b"{"), ("b", b"[]")):
        next(work.glob(f"{name}-*.json")).write_bytes(damage)
    kept = next(work.glob("c-*.h5"))
    kept.write_bytes(kept.read_bytes()[:-100])
    with caplog.at_level(logging.WARNING):
        again, calls = counted.during(lambda: carry_all(atlases, work=work))
    assert calls == 3
    assert same(first, again)
    assert sum("registering again" in record.message for record in caplog.records) == 3
    assert counted.during(lambda: carry_all(atlases, work=work))[1] == 0


@pytest.mark.slow
def test_a_killed_propagation_resumes(tmp_path, monkeypatch):
    atlases, work = make(tmp_path), tmp_path / "work"
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "import test_propagation as t\n"
        "import time, atlaseg.atlases.propagation.carrying as c; carry = c.linear_start\n"
        "folder = Path(sys.argv[2]); register = c.register\n"
        "c.register = lambda *a, **k: (time.sleep(0.5), register(*a, **k))[1]\n"
        "t.carry_all(t.make(folder), t.TWO_STEPS, work=folder / 'work')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path)])
    deadline = time.monotonic() + 300
    while len(list(work.glob("*.json"))) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    # the seals' times say when they were last read
    transforms = [seal.with_suffix(".h5") for seal in work.glob("*.json")]
    finished = {path: path.stat().st_mtime_ns for path in transforms}
    assert 3 <= len(finished) < 8
    counted = Counted(monkeypatch)
    found, calls = counted.during(lambda: carry_all(atlases, TWO_STEPS, work=work))
    assert calls == 8 - len(finished)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert same(found, carry_all(atlases, TWO_STEPS))


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
