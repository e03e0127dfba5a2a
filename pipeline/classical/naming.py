"""Names for the unnamed: how likely a class or region of a scan is each structure, learnt from labelled scans.

A method without training says *these voxels belong together*; labelled scans say what such voxels usually are, and
:mod:`atlaseg.pipeline.classical.location_prior` where. All such methods are named by the same rule, so that what
differs between their results is the methods' own doing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.classical.scan import Classes, Scan
from atlaseg.pipeline.errors import DatasetError

__all__ = ["Naming", "class_features", "named_probabilities"]

#: Regions that are remembered, of all training scans together; more are thinned out at random.
LARGEST_MEMORY = 60_000
#: Remembered regions that are asked about a new one; about a soft class, as many as there were training scans.
NEIGHBOURS = 600
#: New regions that are asked about at a time.
BLOCK = 10_000
#: How much a feature counts, in standard deviations of the training regions: mean, spread, and volume share.
MEAN_WEIGHT, SPREAD_WEIGHT, VOLUME_WEIGHT = 1.0, 0.5, 0.25
#: Evidence of the labels' overall frequencies that is mixed into every answer, in voxels.
DOUBT_VOXELS = 1.0


def class_features(scan: Scan, classes: Classes) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Features that distinguish the parts of a scan, without their location.

    Args:
        scan: the scan.
        classes: ``n`` regions or soft classes in it.

    Returns:
        ``(n, 2C + 1)``: mean and standard deviation of each channel (of the scan's common scale), and the logarithm of
        the share of the mask's volume; and ``(n,)`` voxels, which are shares of voxels for soft classes. A part
        without voxels has zeros.
    """
    inside = scan.mask
    values = scan.voxels[:, inside].astype(np.float64)
    sizes = _sums(classes, np.ones((1, values.shape[1])), inside)[0]
    safe = np.maximum(sizes, 1e-12)
    means = _sums(classes, values, inside) / safe
    spreads = np.sqrt(np.maximum(_sums(classes, values**2, inside) / safe - means**2, 0))
    shares = np.log(np.maximum(sizes, 1e-3) / values.shape[1])
    return np.vstack([means, spreads, shares[None]]).T, sizes


def _sums(
    classes: Classes, values: npt.NDArray[np.floating], inside: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Sum of each row of values ``(m, voxels inside)`` over each part: ``(m, n)``."""
    if classes.posteriors is not None:
        return np.asarray(values.astype(np.float64) @ classes.posteriors[:, inside].astype(np.float64).T)
    if classes.regions is None:
        raise DatasetError("the method found neither regions nor classes in the scan")
    regions = classes.regions[inside]
    number = int(regions.max(initial=0))
    # 0 inside the mask: a line between regions, which belongs to none of them
    return np.stack([np.bincount(regions, weights=row, minlength=number + 1)[1:] for row in values])


def _label_counts(
    classes: Classes, labels: npt.NDArray[np.integer], number: int, inside: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Voxels of each label in each part, ``(n, K)``; labels are those inside the mask."""
    if classes.posteriors is not None:
        from scipy.sparse import csr_array

        shares = classes.posteriors[:, inside].T.astype(np.float64)
        ones, rows = np.ones(len(labels)), np.arange(len(labels) + 1)
        one_hot = csr_array((ones, labels, rows), shape=(len(labels), number))
        return np.asarray((one_hot.T @ shares).T)
    if classes.regions is None:
        raise DatasetError("the method found neither regions nor classes in the scan")
    regions = classes.regions[inside].astype(np.int64)
    joint = np.bincount(regions * number + labels, minlength=(int(regions.max(initial=0)) + 1) * number)
    return joint.reshape(-1, number)[1:].astype(np.float64)


@dataclass(frozen=True, eq=False)
class Naming:
    """Regions of labelled scans, with the labels that their voxels have.

    Args:
        features: ``(n, F)`` float32, each divided by its scale.
        votes: ``(n, K)`` float32, voxels of each label.
        scale: ``(F,)`` float32, what features are divided by.
        neighbours: how many regions of the memory are asked about a new one.
    """

    features: npt.NDArray[np.float32]
    votes: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]
    neighbours: int

    @classmethod
    def learn(
        cls,
        method: Callable[[Scan], Classes],
        scans: Iterable[Scan],
        labels: Iterable[npt.NDArray[np.integer]],
        classes: int,
        *,
        seed: int = 0,
    ) -> Self:
        """Run a method on labelled scans and remember what it found, and what that was.

        Args:
            method: finds the classes of a scan.
            scans: training scans.
            labels: one for each, ``(x, y, z)`` channel indices.
            classes: ``K``, background included.
            seed: of the thinning out.

        Raises:
            DatasetError: there is no scan, or the method found nothing.
        """
        rows: list[npt.NDArray[np.float64]] = []
        votes: list[npt.NDArray[np.float64]] = []
        soft = False
        for scan, label in zip(scans, labels, strict=True):
            found = method(scan)
            features, sizes = class_features(scan, found)
            real, soft = sizes > 0, found.posteriors is not None
            rows.append(features[real])
            votes.append(_label_counts(found, label[scan.mask], classes, scan.mask)[real])
        if not sum(map(len, rows)):
            raise DatasetError("no labelled scan to learn from, or nothing found in any: label at least one")
        asked = len(rows) if soft else NEIGHBOURS
        table, weight = np.vstack(rows), np.vstack(votes)
        scale = _scale(table, weight.sum(axis=1))
        if len(table) > LARGEST_MEMORY:
            kept = np.sort(np.random.default_rng(seed).choice(len(table), LARGEST_MEMORY, replace=False))
            table, weight = table[kept], weight[kept]
        return cls(
            (table / scale).astype(np.float32),
            weight.astype(np.float32),
            scale.astype(np.float32),
            min(asked, len(table)),
        )

    @property
    def frequencies(self) -> npt.NDArray[np.float64]:
        """Share of each label, ``(K,)``; never 0."""
        counts = self.votes.sum(axis=0, dtype=np.float64) + 1e-6 * self.votes.sum(dtype=np.float64)
        return counts / counts.sum()

    def chances(self, features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Probability of each label by features alone, ``(n, K)``, by the votes of the nearest remembered regions.

        A vote counts by its voxels and falls off with distance as a Gaussian whose width is half the distance of the
        farthest neighbour asked (an adaptive kernel: Breiman, Meisel and Purcell, Technometrics 19:135-144, 1977).

        Args:
            features: ``(n, F)``, as :func:`class_features` gives them.
        """
        from scipy.sparse import csr_array
        from scipy.spatial import cKDTree

        tree, votes, asked = cKDTree(self.features), self.votes.astype(np.float64), self.neighbours
        evidence = np.empty((len(features), votes.shape[1]))
        for begin in range(0, len(features), BLOCK):
            places = (features[begin : begin + BLOCK] / self.scale).astype(np.float32)
            distances, indices = tree.query(places, k=np.arange(1, asked + 1))
            weights = np.exp(-0.5 * (distances / np.maximum(distances[:, -1:] / 2, 1e-6)) ** 2)
            rows = np.arange(0, weights.size + 1, asked)
            sums = csr_array((weights.ravel(), indices.ravel(), rows), shape=(len(places), len(votes)))
            evidence[begin : begin + BLOCK] = sums @ votes
        evidence += DOUBT_VOXELS * self.frequencies
        return evidence / evidence.sum(axis=1, keepdims=True)


def _scale(features: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Standard deviation of each feature, large regions counting more, divided by how much it is to count."""
    mean = np.average(features, axis=0, weights=sizes)
    deviation = np.sqrt(np.average((features - mean) ** 2, axis=0, weights=sizes))
    channels = features.shape[1] // 2
    weight = np.array([MEAN_WEIGHT] * channels + [SPREAD_WEIGHT] * channels + [VOLUME_WEIGHT])
    return np.maximum(deviation, 1e-6) / weight


def named_probabilities(
    scan: Scan, classes: Classes, naming: Naming, prior: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Label probabilities of every voxel, from the appearance and the location of its class.

    ``P(l|x) ~ prior(x, l) * sum_c P(c|x) P(l|c) / P(l)``, where ``P(c|x)`` is 1 for the region of the voxel and 0 for
    others, or the posterior of a soft class. The prior is taken at the voxel for regions too: its mean over the region
    lets large regions swallow small structures (on hippocampi it takes 0.03 to 0.24 of Dice away), and then methods
    would differ by their location prior. Classes that have names already keep their probabilities, which
    hold the prior: it is not counted twice.

    Args:
        scan: the scan.
        classes: what a method found in it.
        naming: what such classes usually are.
        prior: ``(K, x, y, z)``, probability of each label at each voxel.

    Returns:
        ``(K, x, y, z)`` float32, summing to one; the background outside the mask.
    """
    result = np.zeros(prior.shape, dtype=np.float32)
    result[0] = 1
    if classes.named and classes.posteriors is not None:
        result[:, scan.mask] = classes.posteriors[:, scan.mask]
        return result
    features, _ = class_features(scan, classes)
    ratio = (naming.chances(features) / naming.frequencies).T.astype(np.float32)
    inside = scan.mask
    if classes.posteriors is not None:
        joint = prior[:, inside] * (ratio @ classes.posteriors[:, inside])
    elif classes.regions is not None:
        # voxels of no region (0), such as lines between basins, keep the prior
        of_region = np.hstack([np.ones((len(ratio), 1), dtype=np.float32), ratio])
        joint = prior[:, inside] * of_region[:, classes.regions[inside]]
    result[:, inside] = joint / np.maximum(joint.sum(axis=0), 1e-300)
    return result
