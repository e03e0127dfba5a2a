"""k-means: voxels with similar features, in a given number of clusters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.classical.samples import blocks, check_classes, chosen_voxels
from atlaseg.pipeline.classical.scan import Classes, Scan
from atlaseg.pipeline.classical.voxel_features import voxel_features
from atlaseg.pipeline.errors import DatasetError, GeometryError

__all__ = ["CLUSTERS", "KMeansOptions", "kmeans"]

#: Numbers of clusters that training tries where none is set.
CLUSTERS = (6, 12, 24)


def kmeans(
    features: npt.NDArray[np.floating],
    clusters: int,
    *,
    max_samples: int = 200_000,
    restarts: int = 3,
    seed: int = 0,
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Nearest of the cluster centres that k-means finds, by Euclidean distance.

    Lloyd, IEEE Transactions on Information Theory 28(2):129-137 (1982), https://doi.org/10.1109/TIT.1982.1056489, as
    scikit-learn computes it. Scale the features beforehand: each counts as much as it varies.

    Args:
        features: ``(N, F)``.
        clusters: ``K``.
        max_samples: rows that the centres are found from, at most, drawn at random.
        restarts: times that the search begins anew; the tightest result counts.
        seed: of the draw and of the beginnings.

    Returns:
        ``(N,)`` cluster of each row, and the ``(K, F)`` centres, ascending in the first feature.

    Raises:
        OptionError: more clusters than different rows, or fewer than 1.
        GeometryError: not a table of rows.
        DatasetError: a value is not finite.

    >>> kmeans(np.array([[1.0], [9.0], [1.2], [9.2]]), 2)[0].tolist()
    [0, 1, 0, 1]
    """
    from sklearn.cluster import KMeans

    if features.ndim != 2 or not len(features):
        raise GeometryError(f"expected rows of features (N, F), found an array of shape {features.shape}")
    if not np.isfinite(features).all():
        raise DatasetError(
            "kmeans: features hold NaN or infinite values: replace them, or leave the scan out"
        )
    every = np.arange(len(features))
    some = features[chosen_voxels(every, max_samples, seed)].astype(np.float64)
    check_classes(some, clusters, "kmeans")
    centres = KMeans(clusters, n_init=restarts, random_state=seed).fit(some).cluster_centers_
    centres = centres[np.lexsort(centres.T[::-1])]
    found = np.empty(len(features), dtype=np.intp)
    for block in blocks(every):
        # the row's own length is the same for every centre
        found[block] = np.argmin((centres**2).sum(axis=1) - 2 * (features[block] @ centres.T), axis=1)
    return found, centres


@dataclass(frozen=True)
class KMeansOptions:
    """k-means of the features of voxels (:func:`atlaseg.pipeline.classical.voxel_features.voxel_features`).

    Args:
        clusters: how many; ``None``: training chooses among :data:`CLUSTERS`, without any it is the first of them.
        sigmas_mm: widths of the Gaussians through which intensities are seen.
        gradient: whether the length of the gradient is a feature.
        position_weight: how much the place in the box around the mask counts, where a feature of intensity that varies
            as usual counts 1; 0 leaves it out.
        max_samples: voxels that the centres are found from, at most.
        restarts: times that the search begins anew.
        seed: of the draw and of the beginnings.
    """

    name: ClassVar[str] = "kmeans"

    clusters: int | None = None
    sigmas_mm: tuple[float, ...] = (0.0, 1.0)
    gradient: bool = False
    position_weight: float = 0.0
    max_samples: int = 200_000
    restarts: int = 3
    seed: int = 0

    def choices(self) -> dict[str, tuple[int, ...]]:
        """Candidate values of each unset option."""
        return {"clusters": CLUSTERS} if self.clusters is None else {}

    def classes(self, scan: Scan) -> Classes:
        """Each voxel wholly in one cluster."""
        clusters = CLUSTERS[0] if self.clusters is None else self.clusters
        features = voxel_features(
            scan, sigmas_mm=self.sigmas_mm, gradient=self.gradient, position=self.position_weight > 0
        )
        features -= features.mean(axis=0)
        features /= np.maximum(features.std(axis=0), np.finfo(np.float32).tiny)
        if self.position_weight > 0:
            features[:, -3:] *= self.position_weight
        found, _ = kmeans(
            features, clusters, max_samples=self.max_samples, restarts=self.restarts, seed=self.seed
        )
        posteriors = np.zeros((clusters, *scan.shape), dtype=np.float32)
        posteriors.reshape(clusters, -1)[found, np.flatnonzero(scan.mask)] = 1
        return Classes(posteriors=posteriors)
