"""Anatomical augmentation: warp each training scan to the shape of others, with its labels and its prior.

The deformations between scans of the training set are those that anatomy makes, so ten labelled scans become ninety
plausible ones, and more by mixing. (Zhao et al., CVPR 2019, arXiv:1902.09383, learn such deformations; here they are
registered.) A warped case has the intensities and labels of its source, and of its targets the grid and the shape that
their images show: their labels have no part in it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from atlaseg.atlases.atlas import Atlas
from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.atlases.network_training.warped_case import Part, WarpedCase, WarpTask, write_warped_case
from atlaseg.atlases.propagation.propagation import PropagationOptions, propagate
from atlaseg.atlases.propagation.work_folder import digest_of_file
from atlaseg.atlases.registration.engine import RegistrationError
from atlaseg.atlases.registration.transforms.transform_files import write_transform
from atlaseg.atlases.templates.template_tasks import each
from atlaseg.pipeline.errors import DatasetError, GeometryError, OptionError
from atlaseg.pipeline.io.files import read_json, taking_apart, write_text
from atlaseg.pipeline.io.volume import grid_difference, read_header
from atlaseg.pipeline.progress import Progress

__all__ = ["WarpedCase", "unused_pairs", "write_warped_cases"]

logger = logging.getLogger(__name__)

#: What a folder of warped cases was made with; cases made otherwise are not mixed in.
SETTINGS = "warped.json"
#: Raised when the same settings give other files, so that those are not mixed with older ones.
FORMAT = 1
#: Least share of a deformation that a scaled one keeps; below, the case is hardly a new one.
LEAST_SHARE = 0.3


@dataclass(frozen=True)
class _Warp:
    """Which deformations of a source make a case: targets with the share of each; the first gives the grid."""

    source: str
    shares: tuple[tuple[str, float], ...]


def write_warped_cases(
    atlases: AtlasSet,
    folder: Path,
    options: PropagationOptions,
    *,
    priors: Mapping[str, Path] | None = None,
    count: int | None = None,
    executor: Executor | None = None,
    work: Path | None = None,
    threads: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[WarpedCase]:
    """Warp the scans of a set onto each other, image, labels and prior together.

    Every scan in turn is the target that the others are registered to, just as :func:`propagate` does where the target
    is labelled without its own labels, so that registrations kept in ``work`` are shared with that. What selection
    (``options.keep``) or quality control leave out, or no engine could register, makes no case; it is logged and
    listed by :func:`unused_pairs`.

    The first cases are pairs as they were registered. Once they are used up, the deformation of a pair is scaled by a
    share from ``U(0.3, 1)``, or mixed with that of the same source to a second target by a share from ``U(0, 1)``, one
    as often as the other. Only what bends is scaled and mixed
    (:func:`atlaseg.atlases.network_training.warped_case.mixed_transform`): the case always lies where the affine part
    of its registration to the first target places it.

    Images are interpolated linearly and extended beyond their border, since scans that are cut out have content
    up to there; labels and priors end there. The same arguments give the same files with any executor. Each file
    is written whole or not at all, and existing files are kept, so that an interrupted call resumes.

    Args:
        atlases: two or more training cases.
        folder: gets ``images``, ``labels``, ``priors``, and ``registrations``, from which the rest is made.
        options: of the propagation.
        priors: case name -> 4-D file with one map for each label, made without the case's own labels
            (:func:`atlaseg.atlases.network_training.prior.write_priors`).
        count: of cases; ``None``: every pair once. Fewer than pairs: sources and targets take turns, though each target
            is registered to all the others, which quality control needs. More: see above.
        executor: runs one registration, or writes one case, per task; ``None``: here, one after the other.
        work: folder that keeps finished registrations.
        threads: of each task, at most.
        seed: of the choice of pairs, shares and second targets; that of registrations is in the options.
        progress: told the steps (registrations and cases) that are done, and their total.

    Returns:
        The cases, in an order in which any first few are balanced over sources and targets.

    Raises:
        OptionError: ``count`` is less than 1, or the folder holds cases that were made with other settings.
        DatasetError: there are fewer than two atlases, a prior is missing, or names are ambiguous.
        GeometryError: a prior does not lie on the grid of its scan, or has not one map for each label.
        AtlasegError: as :func:`propagate`.
    """
    _check(atlases, priors, count)
    _claim(folder, _settings(atlases, options, priors, count, seed))
    others = len(atlases) - 1
    registrations = len(atlases) * others
    expected = registrations + (registrations if count is None else count)

    def report(done: float) -> None:
        if progress is not None:
            progress(done, expected, "warping training scans")

    usable: dict[str, tuple[str, ...]] = {}
    for place, atlas in enumerate(atlases.atlases):

        def step(done: float, total: float, _what: str, before: int = place * others) -> None:
            report(before + done * others // total)

        usable[atlas.name] = _registered(atlases, atlas, folder, options, executor, work, threads, step)
        report((place + 1) * others)
    _tell(unused_pairs(folder))
    warps = list(_plan(usable, count, seed))
    cases = _named(folder, warps, len(atlases.channels), priors is not None)
    if clash := {case.name for case in cases} & set(atlases.names):
        raise DatasetError(f"{atlases.name}: {min(clash)} is a case and a pair of cases; rename the case")
    known = {atlas.name: atlas for atlas in atlases.atlases}
    tasks = [
        WarpTask(
            case=case,
            atlas=known[warp.source],
            table=atlases.labels,
            prior=None if priors is None else priors[warp.source],
            parts=tuple(
                Part(known[target].images[0], _transform_file(folder, warp.source, target), share)
                for target, share in warp.shares
            ),
            threads=threads,
        )
        for case, warp in zip(cases, warps, strict=True)
    ]
    _write_all(tasks, executor, lambda done: report(registrations + done))
    report(expected)  # where pairs are left out there are fewer cases
    return cases


def unused_pairs(folder: Path) -> list[tuple[str, str, str]]:
    """Pairs of a folder of warped cases that made no case: source, target and the reason in words, sorted.

    Raises:
        MissingFileError, UnreadableFileError: the folder was not written by :func:`write_warped_cases`.
    """
    with taking_apart(folder / SETTINGS, "the names of the atlases that were warped"):
        seals = {str(target): _seal(folder, target) for target in read_json(folder / SETTINGS)["atlases"]}
    found = []
    for target, seal in seals.items():
        if seal.is_file():
            with taking_apart(seal, "which pairs were used and which not"):
                found += [(source, target, str(why)) for source, why in read_json(seal)["unused"].items()]
    return sorted(found)


def _check(atlases: AtlasSet, priors: Mapping[str, Path] | None, count: int | None) -> None:
    if count is not None and count < 1:
        raise OptionError(
            f"make at least 1 warped case, found {count}; or leave the number out to warp every pair"
        )
    if len(atlases) < 2:
        raise DatasetError(
            f"{atlases.name}: one scan cannot be warped to the shape of another; give two or more"
        )
    if priors is None:
        return
    for atlas in atlases.atlases:
        if atlas.name not in priors:
            raise DatasetError(
                f"{atlas.name}: no prior of this case is given; give one for each, or none at all"
            )
        prior, scan = read_header(priors[atlas.name]), read_header(atlas.images[0])
        if prior.channels != len(atlases.labels):
            raise GeometryError(
                f"{prior.path}: the prior has {prior.channels} maps, expected {len(atlases.labels)}"
            )
        if difference := grid_difference(scan, prior):
            raise GeometryError(
                f"{prior.path}: not on the grid of {scan.path.name}: {difference}; write the priors again"
            )


def _settings(
    atlases: AtlasSet,
    options: PropagationOptions,
    priors: Mapping[str, Path] | None,
    count: int | None,
    seed: int,
) -> dict[str, Any]:
    def digests(atlas: Atlas) -> list[str]:
        prior = () if priors is None else (priors[atlas.name],)
        return [digest_of_file(path) for path in (*atlas.images, atlas.label, *prior)]

    content = {
        "format": FORMAT,
        "labels": dict(zip(atlases.labels.names, atlases.labels.values, strict=True)),
        "atlases": {atlas.name: digests(atlas) for atlas in atlases.atlases},
        "priors": priors is not None,
        "options": asdict(options),
        "count": count,
        "seed": seed,
    }
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain


def _claim(folder: Path, content: dict[str, Any]) -> None:
    path = folder / SETTINGS
    if path.is_file():
        if read_json(path) != content:
            raise OptionError(
                f"{path}: holds warped cases made with other settings or from other files; choose an empty folder"
            )
        return
    if any((folder / kind).exists() for kind in ("images", "labels", "priors", "registrations")):
        raise OptionError(f"{folder}: holds files other than warped cases of atlaseg; choose an empty folder")
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _seal(folder: Path, target: str) -> Path:
    return folder / "registrations" / f"{target}.json"


def _transform_file(folder: Path, source: str, target: str) -> Path:
    return folder / "registrations" / target / f"{source}.h5"


def _registered(
    atlases: AtlasSet,
    atlas: Atlas,
    folder: Path,
    options: PropagationOptions,
    executor: Executor | None,
    work: Path | None,
    threads: int,
    progress: Progress,
) -> tuple[str, ...]:
    """Sources registered successfully to a target; their transforms are kept in the folder."""
    seal = _seal(folder, atlas.name)
    if seal.is_file():
        with taking_apart(seal, "which pairs were used and which not"):
            names = tuple(map(str, read_json(seal)["used"]))
        if all(_transform_file(folder, name, atlas.name).is_file() for name in names):
            return names
    found = propagate(
        atlases.without(atlas.name),
        (atlas.channels(), read_header(atlas.images[0]).affine),
        options,
        executor=executor,
        work=work,
        threads=threads,
        progress=progress,
    )
    used = [found.carried[n] for n in found.chosen]
    for carried in used:
        write_transform(_transform_file(folder, carried.name, atlas.name), carried.transform)
    content = {"used": [carried.name for carried in used], "unused": dict((*found.left_out, *found.failed))}
    # last, because it says that all of them are there
    write_text(seal, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return tuple(content["used"])


def _tell(unused: Sequence[tuple[str, str, str]]) -> None:
    if unused:
        source, target, reason = unused[0]
        logger.warning(
            "%d pair(s) of scans are not used for augmentation, such as %s warped to %s: %s",
            len(unused),
            source,
            target,
            reason,
        )


def _plan(usable: Mapping[str, Sequence[str]], count: int | None, seed: int) -> Iterator[_Warp]:
    """Warps to make, of the sources that are usable for each target."""
    rng = np.random.default_rng(seed)
    pairs = sum(len(sources) for sources in usable.values())
    if not pairs:
        return  # one would wait for a usable pair for ever
    targets_of = {name: [t for t, sources in usable.items() if name in sources] for name in usable}
    order = _in_turn(usable, rng)
    for source, target in islice(order, pairs if count is None else min(pairs, count)):
        yield _Warp(source, ((target, 1.0),))
    for source, target in islice(order, 0 if count is None else max(0, count - pairs)):
        seconds = [name for name in targets_of[source] if name != target]
        if seconds and rng.random() < 0.5:
            share = float(rng.uniform())
            yield _Warp(source, ((target, share), (seconds[rng.integers(len(seconds))], 1 - share)))
        else:
            yield _Warp(source, ((target, float(rng.uniform(LEAST_SHARE, 1))),))


def _in_turn(usable: Mapping[str, Sequence[str]], rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    """Source and target of each usable pair, again and again; in each cycle every name is once each of the two."""
    names = list(usable)
    while True:
        for offset in 1 + rng.permutation(len(names) - 1):
            for place in rng.permutation(len(names)):
                source, target = names[place], names[(place + offset) % len(names)]
                if source in usable[target]:
                    yield source, target


def _named(folder: Path, warps: Sequence[_Warp], channels: int, with_prior: bool) -> list[WarpedCase]:
    cases: dict[str, WarpedCase] = {}
    for number, warp in enumerate(warps, start=1):
        target, share = warp.shares[0]
        name = f"{warp.source}-to-{target}" + ("" if share == 1 else f"-{number}")
        if name in cases:
            raise DatasetError(f"{name}: two pairs of cases would have this name; rename the cases")
        suffixes = [""] if channels == 1 else [f"_{channel:04d}" for channel in range(channels)]
        cases[name] = WarpedCase(
            name,
            tuple(folder / "images" / f"{name}{suffix}.nii.gz" for suffix in suffixes),
            folder / "labels" / f"{name}.nii.gz",
            folder / "priors" / f"{name}.nii.gz" if with_prior else None,
            warp.source,
            target,
        )
    return list(cases.values())


def _write_all(
    tasks: Sequence[WarpTask], executor: Executor | None, finished: Callable[[int], object]
) -> None:
    missing = [task for task in tasks if not all(path.is_file() for path in task.case.files)]
    done = len(tasks) - len(missing)
    finished(done)

    def step() -> None:
        nonlocal done
        done += 1
        finished(done)

    try:
        each(write_warped_case, missing, executor, step)
    except BrokenExecutor as error:
        raise RegistrationError(
            "a worker process ended without a result (out of memory?); use fewer workers and run again to resume"
        ) from error
