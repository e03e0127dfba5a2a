"""Seeds and limits of region growing without a person: learnt from labelled scans, structure by structure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.classical.regions.connected_growth import connected_to
from atlaseg.pipeline.classical.regions.gradient import gradient_magnitude
from atlaseg.pipeline.classical.scan import Scan
from atlaseg.pipeline.errors import DatasetError, OptionError

__all__ = ["automatic_seeds", "grow_automatically", "learn_intensities"]

#: Percentiles of a structure's intensities between which its region may grow, and between which its seeds lie.
GROWTH_PERCENTILES, SEED_PERCENTILES = (1.0, 99.0), (25.0, 75.0)
#: A structure is not looked for where it is less likely than this beforehand.
LEAST_PRIOR = 0.02
#: Seeds lie where the prior is at least this, or this share of the structure's highest if that is less.
SEED_PRIOR, SEED_PRIOR_SHARE = 0.5, 0.8
#: Gaussian before the gradient, in voxels of mean size.
SMOOTHING = 0.7
#: Voxels of each structure that are remembered of each scan while learning, evenly spread.
SAMPLE = 20_000
#: Least standard deviation of an intensity, where the 1st to the 99th percentile of a scan are 0 to 1.
LEAST_DEVIATION = 1e-3

_State = Mapping[str, npt.NDArray[Any]]


def learn_intensities(
    scans: Iterable[Scan], labels: Iterable[npt.NDArray[np.integer[Any]]], classes: int
) -> dict[str, npt.NDArray[np.float32]]:
    """Intensities and gradient magnitudes that are typical of each structure.

    Args:
        scans: training scans; voxels outside their masks do not count.
        labels: one for each, ``(x, y, z)`` channel indices.
        classes: ``K``, background included.

    Returns:
        ``low``, ``high``: ``(K, C)`` limits of growth; ``seed_low``, ``seed_high``: ``(K, C)`` limits of seeds;
        ``mean``, ``deviation``: ``(K, C)``; ``gradient``: ``(K,)``, its median; ``present``: ``(K,)``, 0 for a
        background that no mask holds, or else 1. All float32, on the scans' common scale.

    Raises:
        DatasetError: there is no scan, or a structure has no voxel in any.
    """
    values: list[list[npt.NDArray[np.float32]]] = [[] for _ in range(classes)]
    for scan, label in zip(scans, labels, strict=True):
        columns = np.concatenate([scan.voxels, _gradient(scan)[None]]).reshape(scan.channels + 1, -1)
        inside = np.flatnonzero(scan.mask)
        order = np.argsort(label.ravel()[inside], kind="stable")
        ends = np.cumsum(np.bincount(label.ravel()[inside], minlength=classes))
        for k, places in enumerate(np.split(inside[order], ends[: classes - 1])):
            values[k].append(columns[:, places[:: len(places) // SAMPLE + 1]])
    if not values[0]:
        raise DatasetError("no labelled scan to learn from: label at least one")
    joined = [np.concatenate(parts, axis=1).astype(np.float64) for parts in values]
    if missing := [k for k in range(1, classes) if not joined[k].shape[1]]:
        raise DatasetError(
            f"label {missing[0]} of {classes} (counted from 0) has no voxel in any training scan: there is nothing "
            "to learn of it; label it in one scan at least, or take it from the list"
        )
    present = np.array([part.shape[1] > 0 for part in joined])
    filled = [part if part.shape[1] else np.zeros((part.shape[0], 1)) for part in joined]
    percentiles = np.stack(
        [np.percentile(f, [*GROWTH_PERCENTILES, *SEED_PERCENTILES, 50], axis=1) for f in filled]
    )
    state = {
        "low": percentiles[:, 0, :-1],
        "high": percentiles[:, 1, :-1],
        "seed_low": percentiles[:, 2, :-1],
        "seed_high": percentiles[:, 3, :-1],
        "gradient": percentiles[:, 4, -1],
        "mean": np.stack([f[:-1].mean(axis=1) for f in filled]),
        "deviation": np.maximum(np.stack([f[:-1].std(axis=1) for f in filled]), LEAST_DEVIATION),
        "present": present,
    }
    return {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in state.items()}


def automatic_seeds(scan: Scan, state: _State) -> npt.NDArray[np.int32]:
    """Seeds of each structure: where it is likely, the intensity is in the middle of its own, and little changes.

    Args:
        scan: with its prior.
        state: of :func:`learn_intensities`.

    Returns:
        ``(x, y, z)`` int32, channel index of the structure, 0 elsewhere. Where two structures could have a seed, the
        more likely one has it; a structure may have none.

    Raises:
        OptionError: the scan has no prior, or another number of channels or labels than the training scans.
    """
    prior = _prior(scan, state)
    gradient = _gradient(scan)
    seeds = np.zeros(scan.shape, dtype=np.int32)
    likeliest = np.zeros(scan.shape, dtype=np.float32)
    for k in range(1, len(prior)):
        enough = min(SEED_PRIOR, SEED_PRIOR_SHARE * float(prior[k, scan.mask].max()))
        here = scan.mask & (prior[k] >= max(enough, LEAST_PRIOR)) & (gradient <= state["gradient"][k])
        here &= prior[k] > likeliest
        for channel, low, high in zip(scan.voxels, state["seed_low"][k], state["seed_high"][k], strict=True):
            here &= (channel >= low) & (channel <= high)
        seeds[here], likeliest[here] = k, prior[k][here]
    return seeds


def grow_automatically(scan: Scan, state: _State) -> npt.NDArray[np.int32]:
    """Label a scan: each structure grows from its seeds over intensities typical of it, where it may lie at all.

    A voxel that several structures reach goes to the one with the highest product of prior and normal density of its
    intensities, and so to the background if that has the highest; what no structure reaches is background.

    Args:
        scan: with its prior.
        state: of :func:`learn_intensities`.

    Returns:
        ``(x, y, z)`` int32 channel indices.

    Raises:
        OptionError: as :func:`automatic_seeds`.
    """
    prior = _prior(scan, state)
    seeds = automatic_seeds(scan, state)
    labels = np.zeros(scan.shape, dtype=np.int32)
    best = np.full(scan.shape, -np.inf)
    if state["present"][0]:
        best[scan.mask] = _score(scan.voxels[:, scan.mask], prior[0, scan.mask], state, 0)
    for k in range(1, len(prior)):
        allowed = scan.mask & (prior[k] >= LEAST_PRIOR)
        for channel, low, high in zip(scan.voxels, state["low"][k], state["high"][k], strict=True):
            allowed &= (channel >= low) & (channel <= high)
        region = connected_to(allowed, seeds == k)
        score = _score(scan.voxels[:, region], prior[k, region], state, k)
        won = score > best[region]
        places = tuple(axis[won] for axis in np.nonzero(region))
        labels[places], best[places] = k, score[won]
    return labels


def _score(
    values: npt.NDArray[np.float32], prior: npt.NDArray[np.float32], state: _State, k: int
) -> npt.NDArray[np.float64]:
    """Logarithm of prior times normal density, up to a constant."""
    score = np.log(np.maximum(prior, 1e-12).astype(np.float64))
    for channel, mean, deviation in zip(values, state["mean"][k], state["deviation"][k], strict=True):
        score -= 0.5 * ((channel - mean) / deviation) ** 2 + np.log(deviation)
    return score


def _gradient(scan: Scan) -> npt.NDArray[np.float32]:
    return gradient_magnitude(
        scan.voxels, scan.spacing, sigma=SMOOTHING * float(np.prod(scan.spacing)) ** (1 / 3)
    )


def _prior(scan: Scan, state: _State) -> npt.NDArray[np.float32]:
    if scan.prior is None:
        raise OptionError(
            "seeds cannot be set automatically in a scan without a prior of where structures lie"
        )
    classes, channels = state["mean"].shape
    if len(scan.prior) != classes or scan.channels != channels:
        raise OptionError(
            f"learnt from {channels} channels and {classes} labels; the scan has {scan.channels} channels and a prior "
            f"of {len(scan.prior)} labels"
        )
    return scan.prior
