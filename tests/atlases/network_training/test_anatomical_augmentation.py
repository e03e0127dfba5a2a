"""Warped cases: image, labels and prior move together, labels of targets have no part, nothing is done twice."""

from __future__ import annotations

import logging
import multiprocessing
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

import atlaseg.atlases.network_training.anatomical_augmentation as subject
from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.atlases.network_training.anatomical_augmentation import unused_pairs, write_warped_cases
from atlaseg.atlases.propagation.propagation import PropagationOptions
from atlaseg.atlases.registration.transforms.displacement import displacement_transform
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.errors import AtlasegError, DatasetError, GeometryError, OptionError
from atlaseg.pipeline.io.volume import grid_difference, read_header, read_label_map, read_voxels

OPTIONS = PropagationOptions()
#: Balls of these radii are a, b, c, d.
RADII = (5.0, 6.0, 7.0, 6.5)


@dataclass
class Propagating:
    """Stands for registration: maps every ball to every other, exactly, and counts."""

    seen: list[str] = field(default_factory=list)
    left_out: set[tuple[str, str]] = field(default_factory=set)
    failed: set[tuple[str, str]] = field(default_factory=set)

    def __call__(self, atlases, image, options, *, progress=None, **_):
        target = next(name for name in "abcdefgh" if name not in atlases.names)
        self.seen.append(target)
        carried, chosen = [], []
        for number, source in enumerate(n for n in atlases.names if (n, target) not in self.failed):
            carried.append(SimpleNamespace(name=source, transform=exact(source, target)))
            if (source, target) not in self.left_out:
                chosen.append(number)
            if progress:
                progress(number + 1, len(atlases), "registering atlases")
        return SimpleNamespace(
            carried=tuple(carried),
            chosen=tuple(chosen),
            left_out=tuple((s, "a wreck") for s, t in self.left_out if t == target),
            failed=tuple((s, "no way") for s, t in self.failed if t == target),
        )


def exact(source: str, target: str) -> Transform:
    """Points of a target ball -> points of a source ball, which bend on the way."""
    places = ["abcdefgh".index(name) for name in (source, target)]
    (centre, radius), (other, wanted) = [
        (np.array([11 + 0.7 * (n % 3 - 1), 12 - 0.7 * (n % 3 - 1), 10.0]), RADII[n]) for n in places
    ]
    points = np.moveaxis(np.indices((22, 24, 20), float), 0, -1) - other
    # a swirl, which keeps a ball a ball
    angle = 0.4 * np.sin(points[..., 2] / 2 + places[0] - places[1])
    x, y, z = np.moveaxis(points, -1, 0)
    turned = np.stack(
        [np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y, z], axis=-1
    )
    moved = centre + turned * (radius / wanted)
    shifts = np.moveaxis(moved - other - points, -1, 0)
    return displacement_transform(shifts, np.eye(4))


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Propagating:
    found = Propagating()
    monkeypatch.setattr(subject, "propagate", found)
    return found


@pytest.fixture
def three(balls) -> AtlasSet:
    return AtlasSet.read(balls(*RADII[:3]))


@pytest.fixture
def four(balls) -> AtlasSet:
    return AtlasSet.read(balls(*RADII))


def priors_of(atlases: AtlasSet, folder: Path) -> dict[str, Path]:
    """A prior that is easily told: the labels themselves, with a little doubt."""
    found = {}
    folder.mkdir()
    for atlas in atlases.atlases:
        indices = atlases.labels.to_indices(read_label_map(atlas.label))
        maps = 0.9 * np.eye(len(atlases.labels))[indices] + 0.1 / len(atlases.labels)
        found[atlas.name] = folder / f"{atlas.name}.nii.gz"
        nib.save(nib.Nifti1Image(maps.astype(np.float32), np.eye(4)), found[atlas.name])
    return found


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for kind in ("images", "labels", "priors")
        for path in sorted((folder / kind).glob("*"))
    }


def test_every_pair_is_warped_with_labels_and_prior_on_the_grid_of_its_target(registered, three, tmp_path):
    priors = priors_of(three, tmp_path / "given")
    cases = write_warped_cases(three, tmp_path / "out", OPTIONS, priors=priors)
    pairs = {(case.source, case.target) for case in cases}
    assert pairs == {(a, b) for a in "abc" for b in "abc" if a != b}
    assert len(cases) == len({case.name for case in cases}) == 6
    known = {atlas.name: atlas for atlas in three.atlases}
    for case in cases:
        assert case.case.label == case.label
        target = read_header(known[case.target].images[0])
        assert all(grid_difference(target, read_header(path)) is None for path in case.files)
        image, label = read_voxels(case.images[0]), read_label_map(case.label)
        assert image.dtype == np.float32
        assert set(np.unique(label)) == {0, 1, 4}
        # the ball of the source, of its brightness, where and as large as the target's
        truth = read_label_map(known[case.target].label)
        assert dice(label > 0, truth > 0) > 0.95
        assert dice(label > 0, image > 50) > 0.91
        prior = read_voxels(case.prior)
        assert prior.shape == (*target.spatial_shape, 3)
        np.testing.assert_allclose(prior.sum(axis=-1), 1, atol=1e-6)
        assert (np.array([0, 1, 4])[prior.argmax(axis=-1)] == label).mean() > 0.999


def test_a_turned_grid_and_channels_of_several_files(registered, tmp_path):
    rng, affine = (
        np.random.default_rng(0),
        np.array([[0, -2.0, 0, 7], [0, 0, 1, 3], [1.5, 0, 0, -9], [0, 0, 0, 1]]),
    )
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for name in "ab":
        nib.save(
            nib.Nifti1Image(rng.normal(size=(6, 7, 8, 2)).astype(np.float32), affine),
            folder / f"images/{name}.nii",
        )
        nib.save(
            nib.Nifti1Image(rng.integers(0, 2, (6, 7, 8), np.uint8), affine), folder / f"labels/{name}.nii"
        )
    atlases = replace(AtlasSet.read(folder), channels=("T1", "T2"))
    registered_to = {
        "b": Transform.identity(),
        "a": Transform.from_matrix(affine @ shift(2) @ np.linalg.inv(affine)),
    }

    def propagate(others, image, options, **_):
        target = next(name for name in "ab" if name not in others.names)
        one = SimpleNamespace(name=others.names[0], transform=registered_to[target])
        return SimpleNamespace(carried=(one,), chosen=(0,), left_out=(), failed=())

    subject.propagate = propagate  # put back by the fixture
    cases = {case.target: case for case in write_warped_cases(atlases, tmp_path / "out", OPTIONS)}
    source = read_voxels(folder / "images/a.nii")
    for channel, path in enumerate(cases["b"].images):
        np.testing.assert_array_equal(read_voxels(path), source[..., channel])
    np.testing.assert_array_equal(read_label_map(cases["b"].label), read_label_map(folder / "labels/a.nii"))
    assert np.allclose(read_header(cases["b"].label).affine, affine)
    # two voxels further along the first axis: beyond the border the image goes on, labels end
    source, labels = read_voxels(folder / "images/b.nii"), read_label_map(folder / "labels/b.nii")
    for channel, path in enumerate(cases["a"].images):
        moved = np.concatenate([source[2:], source[-1:], source[-1:]])[..., channel]
        np.testing.assert_allclose(read_voxels(path), moved, atol=1e-5)
    np.testing.assert_array_equal(
        read_label_map(cases["a"].label), np.concatenate([labels[2:], 0 * labels[:2]])
    )


def shift(voxels: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[0, 3] = voxels
    return matrix


def test_priors_end_in_background(registered, three, tmp_path):
    priors = priors_of(three, tmp_path / "given")
    far = SimpleNamespace(name="a", transform=Transform.from_matrix(shift(30)))
    subject.propagate = lambda *_, **__: SimpleNamespace(carried=(far,), chosen=(0,), left_out=(), failed=())
    two = three.subset(["a", "b"])
    found = {c.source: c for c in write_warped_cases(two, tmp_path / "out", OPTIONS, priors=priors, count=1)}
    prior = read_voxels(found["a"].prior)
    assert (prior[..., 0] == 1).all()
    assert (prior[..., 1:] == 0).all()
    assert not read_label_map(found["a"].label).any()


@pytest.mark.thorough
def test_further_cases_lie_between_the_affine_and_the_whole_registration(registered, three, tmp_path):
    cases = write_warped_cases(three, tmp_path / "out", OPTIONS, count=30)
    assert len({case.name for case in cases}) == 30
    further = cases[6:]
    images = {case.name: read_voxels(case.images[0]) for case in cases}
    whole = {(case.source, case.target): images[case.name] for case in cases[:6]}
    assert len({image.tobytes() for image in images.values()}) == 30
    known = {atlas.name: read_label_map(atlas.label) for atlas in three.atlases}
    for case in further:
        difference = np.abs(images[case.name] - whole[case.source, case.target]).mean()
        assert 0.01 < difference < 8
        assert dice(read_label_map(case.label) > 0, images[case.name] > 50) > 0.91
        # a pose and a size of the target's, by the affine part
        assert dice(read_label_map(case.label) > 0, known[case.target] > 0) > 0.9


@pytest.mark.parametrize("names", ["ab", "abcd", "abcdefg"])
def test_sources_and_targets_take_turns(names):
    usable = {name: [other for other in names if other != name] for name in names}
    pairs = len(names) * (len(names) - 1)
    for seed in range(5):
        warps = list(subject._plan(usable, 3 * pairs, seed))
        for count in range(1, 3 * pairs + 1):
            # fewer are the first of more
            assert list(subject._plan(usable, count, seed))[: min(count, pairs)] == warps[: min(count, pairs)]
            for role in ([w.source for w in warps[:count]], [w.shares[0][0] for w in warps[:count]]):
                counts = Counter(dict.fromkeys(names, 0))
                counts.update(role)
                assert max(counts.values()) - min(counts.values()) <= 1
        assert len({(w.source, w.shares[0][0]) for w in warps[:pairs]}) == pairs
        assert [w.shares[0][1] for w in warps[:pairs]] == [1] * pairs
        assert list(subject._plan(usable, None, seed)) == warps[:pairs]


@pytest.mark.thorough
def test_same_seed_same_files_and_another_seed_others(registered, three, tmp_path):
    def made(name: str, seed: int) -> dict[str, bytes]:
        write_warped_cases(three, tmp_path / name, OPTIONS, count=10, seed=seed)
        return contents(tmp_path / name)

    first = made("first", 3)
    assert first == made("second", 3)
    assert first != made("third", 4)


@pytest.mark.thorough
def test_what_is_there_is_kept_and_what_is_missing_made_again(registered, three, tmp_path):
    out, priors = tmp_path / "out", priors_of(three, tmp_path / "given")
    cases = write_warped_cases(three, out, OPTIONS, priors=priors, count=10)
    before = contents(out)
    for path in [path for case in cases for path in case.files][::2]:
        path.unlink()
    kept = {path: path.stat().st_mtime_ns for case in cases for path in case.files if path.is_file()}
    registered.seen.clear()
    steps: list[tuple[int, int]] = []
    again = write_warped_cases(
        three,
        out,
        OPTIONS,
        priors=priors,
        count=10,
        progress=lambda done, total, what: steps.append((done, total)),
    )
    assert again == cases
    assert contents(out) == before
    assert registered.seen == []
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert steps[-1] == (16, 16)
    # a target whose registrations were not finished is registered again
    (out / "registrations/b.json").unlink()
    next((out / "registrations/c").iterdir()).unlink()
    assert write_warped_cases(three, out, OPTIONS, priors=priors, count=10) == cases
    assert registered.seen == ["b", "c"]


@pytest.mark.thorough
def test_an_interrupted_call_resumes_with_the_same_files(registered, three, tmp_path, monkeypatch):
    cases = write_warped_cases(three, tmp_path / "whole", OPTIONS, count=8)
    done: list[str] = []

    def failing(task):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(task.case.name)
        write(task)

    write = subject.write_warped_case
    monkeypatch.setattr(subject, "write_warped_case", failing)
    with pytest.raises(KeyboardInterrupt):
        write_warped_cases(three, tmp_path / "broken", OPTIONS, count=8)
    monkeypatch.setattr(subject, "write_warped_case", write)
    again = write_warped_cases(three, tmp_path / "broken", OPTIONS, count=8)
    assert [case.name for case in again] == [case.name for case in cases]
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


@pytest.mark.thorough
def test_failures_are_not_used_and_logged(registered, four, tmp_path, caplog):
    registered.left_out, registered.failed = {("a", "c")}, {("b", "d"), ("c", "d")}
    with caplog.at_level(logging.WARNING):
        cases = write_warped_cases(four, tmp_path / "out", OPTIONS)
    pairs = {(case.source, case.target) for case in cases}
    unused = {("a", "c"), ("b", "d"), ("c", "d")}
    assert len(cases) == 9
    assert not pairs & unused
    assert unused_pairs(tmp_path / "out") == [
        ("a", "c", "a wreck"),
        ("b", "d", "no way"),
        ("c", "d", "no way"),
    ]
    assert "3 pair(s) of scans are not used" in caplog.text
    # neither are they scaled or mixed
    more = write_warped_cases(four, tmp_path / "more", OPTIONS, count=14)
    assert len(more) == 14
    assert not {(case.source, case.target) for case in more} & unused
    plan = subject._plan({"a": "bcd", "b": "acd", "c": "bd", "d": "a"}, 400, 0)
    assert not {(warp.source, target) for warp in plan for target, _ in warp.shares} & unused


def test_shares_are_what_is_promised():
    warps = list(subject._plan({name: [n for n in "abcd" if n != name] for name in "abcd"}, 2012, 5))[12:]
    scaled = np.array([warp.shares[0][1] for warp in warps if len(warp.shares) == 1])
    mixed = [warp.shares for warp in warps if len(warp.shares) == 2]
    assert 800 < len(scaled) < 1200
    assert 0.3 <= scaled.min() < 0.31
    assert 0.99 < scaled.max() <= 1
    assert all(first[0] != second[0] and sum((first[1], second[1])) == 1 for first, second in mixed)
    # two scans leave nothing to mix
    assert all(len(warp.shares) == 1 for warp in subject._plan({"a": "b", "b": "a"}, 20, 0))


def one_line(kind: type[AtlasegError], match: str, call) -> None:
    with pytest.raises(kind, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_other_settings_are_refused(registered, three, tmp_path):
    out, priors = tmp_path / "out", priors_of(three, tmp_path / "given")
    write_warped_cases(three, out, OPTIONS, priors=priors, count=3)
    for change in (
        {"count": 4},
        {"seed": 1},
        {"priors": None},
        {"options": replace(OPTIONS, keep=1)},
        {"atlases": three.subset(["a", "b"])},
        {"atlases": replace(three, labels=LabelTable(three.labels.values, ("background", "x", "y")))},
    ):
        given = {"atlases": three, "options": OPTIONS, "priors": priors, "count": 3} | change
        one_line(OptionError, "other settings", lambda given=given: write_warped_cases(folder=out, **given))
    voxels = read_voxels(three.atlases[0].images[0])
    nib.save(nib.Nifti1Image(voxels + 1, np.eye(4)), three.atlases[0].images[0])
    one_line(
        OptionError, "other files", lambda: write_warped_cases(three, out, OPTIONS, priors=priors, count=3)
    )
    (tmp_path / "foreign/images").mkdir(parents=True)
    one_line(
        OptionError,
        "other than warped cases",
        lambda: write_warped_cases(three, tmp_path / "foreign", OPTIONS),
    )


def test_what_cannot_be_is_refused_before_any_work(registered, three, tmp_path):
    out, priors = tmp_path / "out", priors_of(three, tmp_path / "given")
    one_line(OptionError, "at least 1", lambda: write_warped_cases(three, out, OPTIONS, count=0))
    one_line(DatasetError, "two or more", lambda: write_warped_cases(three.subset(["a"]), out, OPTIONS))
    some = {"a": priors["a"]}
    one_line(DatasetError, "b: no prior", lambda: write_warped_cases(three, out, OPTIONS, priors=some))
    maps = read_voxels(priors["b"])
    nib.save(nib.Nifti1Image(maps[..., :2], np.eye(4)), priors["b"])
    one_line(
        GeometryError, "2 maps, expected 3", lambda: write_warped_cases(three, out, OPTIONS, priors=priors)
    )
    nib.save(nib.Nifti1Image(maps[1:], np.eye(4)), priors["b"])
    one_line(GeometryError, "not on the grid", lambda: write_warped_cases(three, out, OPTIONS, priors=priors))
    assert not out.exists()
    assert registered.seen == []


@pytest.mark.thorough
def test_a_worker_needs_no_torch_and_writes_the_same(registered, three, tmp_path):
    write_warped_cases(three, tmp_path / "here", OPTIONS, count=8)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        write_warped_cases(three, tmp_path / "there", OPTIONS, count=8, executor=executor)
        heavy = "[name for name in ('torch', 'monai') if name in __import__('sys').modules]"
        assert executor.submit(eval, heavy).result() == []
    assert contents(tmp_path / "here") == contents(tmp_path / "there")
