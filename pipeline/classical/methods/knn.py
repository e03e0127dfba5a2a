"""k nearest neighbours: classify a voxel by the training voxels with the most similar features."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.classical.samples import blocks
from atlaseg.pipeline.classical.scan import Scan
from atlaseg.pipeline.classical.voxel_features import feature_names, voxel_features
from atlaseg.pipeline.errors import DatasetError, GeometryError, LabelError, OptionError

__all__ = ["KnnOptions", "nearest_neighbours"]


def nearest_neighbours(
    features: npt.NDArray[np.floating],
    examples: npt.NDArray[np.floating],
    labels: npt.NDArray[np.integer],
    *,
    classes: int,
    neighbours: int = 15,
    weights: npt.NDArray[np.floating] | None = None,
    slack: float = 0.0,
) -> npt.NDArray[np.float32]:
    """Shares of each label among the nearest examples of each row, by Euclidean distance.

    Cover and Hart, IEEE Transactions on Information Theory 13(1):21-27 (1967), https://doi.org/10.1109/TIT.1967.1053964,
    by scipy's k-d tree. Scale the features beforehand: each counts as much as it varies.

    Args:
        features: ``(N, F)``.
        examples: ``(M, F)``.
        labels: ``(M,)``, 0 to ``classes - 1``.
        classes: ``K``.
        neighbours: how many, at most all examples.
        weights: ``(K,)``, what the vote of an example of each label counts; 1 each by default. Where examples of each
            label are equally many, frequencies here give posterior probabilities.
        slack: a neighbour found may be further than the true one by this share; 0 is exact, 0.5 and more is faster.

    Returns:
        ``(N, K)`` float32, rows sum to one.

    Raises:
        GeometryError: shapes do not fit.
        OptionError: fewer than 1 neighbour, negative slack, or no vote counts.
        DatasetError: a feature is not finite.

    >>> examples, labels = np.array([[0.0], [0.1], [5.0], [5.1]]), np.array([0, 0, 1, 0])
    >>> nearest_neighbours(np.array([[0.2], [5.0]]), examples, labels, classes=2, neighbours=2).tolist()
    [[1.0, 0.0], [0.5, 0.5]]
    """
    from scipy.spatial import KDTree

    if (
        features.ndim != 2
        or examples.ndim != 2
        or features.shape[1] != examples.shape[1]
        or not len(examples)
    ):
        raise GeometryError(
            f"expected rows of as many features as the examples have, found {features.shape} and {examples.shape}"
        )
    if labels.shape != (len(examples),):
        raise GeometryError(f"{len(examples)} examples need as many labels, found {labels.shape}")
    if neighbours < 1 or not slack >= 0:
        raise OptionError(
            f"knn: at least 1 neighbour and no negative slack, found {neighbours} and {slack:g}"
        )
    votes = np.ones(classes) if weights is None else np.asarray(weights, dtype=np.float64)
    if votes.shape != (classes,) or not (votes >= 0).all() or not (votes[np.unique(labels)] > 0).all():
        raise OptionError(
            f"knn: weights must be {classes} numbers, above 0 for every label that has examples"
        )
    if not (np.isfinite(features).all() and np.isfinite(examples).all()):
        raise DatasetError("knn: features hold NaN or infinite values: replace them, or leave the scan out")
    number = min(neighbours, len(examples))
    tree = KDTree(examples)
    found = np.zeros((len(features), classes), dtype=np.float32)
    for block in blocks(np.arange(len(features))):
        nearest = labels[tree.query(features[block], k=range(1, number + 1), eps=slack)[1]]
        share = np.stack([(nearest == k).sum(axis=1) * votes[k] for k in range(classes)], axis=1)
        found[block] = share / share.sum(axis=1, keepdims=True)
    return found


@dataclass(frozen=True)
class KnnOptions:
    """k nearest neighbours among training voxels (:func:`nearest_neighbours`).

    Examples are drawn from the training scans, equally many of each label if there are; votes are weighed by the
    labels' frequencies, so that probabilities are those of scans like the training scans.

    Args:
        neighbours: how many are asked.
        examples_per_label: training voxels of each label that are remembered, at most.
        sigmas_mm: widths of the Gaussians through which intensities are seen.
        gradient: whether the length of the gradient is a feature.
        position_weight: how much the place in the box around the mask or the volume counts, where a feature of
            intensity counts 1; 0 leaves it out.
        slack: share by which a neighbour may be further than the true one; saves time.
        seed: of the draw.

    Raises:
        OptionError: a number is out of range.
    """

    name: ClassVar[str] = "knn"

    neighbours: int = 15
    examples_per_label: int = 2000
    sigmas_mm: tuple[float, ...] = (0.0, 1.0, 2.0)
    gradient: bool = True
    position_weight: float = 2.0
    slack: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.neighbours < 1 or self.examples_per_label < 1 or not self.position_weight >= 0:
            raise OptionError(
                "knn: neighbours and examples_per_label must be at least 1 and position_weight not negative, found "
                f"{self.neighbours}, {self.examples_per_label} and {self.position_weight:g}"
            )
        feature_names(1, sigmas_mm=self.sigmas_mm, gradient=self.gradient, position=self.position_weight > 0)

    def learn(
        self, scans: Iterable[Scan], labels: Iterable[npt.NDArray[np.integer]], classes: int
    ) -> dict[str, npt.NDArray[Any]]:
        """Remember voxels of each label.

        Args:
            scans: training scans, gone through once.
            labels: for each ``(x, y, z)`` channel indices, 0 to ``classes - 1``.
            classes: ``K``, background included.

        Returns:
            ``examples`` ``(M, F)`` float32, scaled; ``labels`` ``(M,)``; ``mean`` and ``scale`` ``(F,)`` of features;
            ``frequencies`` ``(K,)`` of labels in the training scans; ``masked`` 0 or 1, whose box positions are in.

        Raises:
            DatasetError: a label has no voxel in any scan, or there is no scan.
            LabelError: a label map holds other values.
            GeometryError: a label map is not on its scan's grid.
        """
        rng = np.random.default_rng(self.seed)
        pools: list[list[npt.NDArray[np.float32]]] = [[] for _ in range(classes)]
        counts = np.zeros(classes, dtype=np.int64)
        masked: bool | None = None
        for scan, label in zip(scans, labels, strict=True):
            masked = not scan.mask.all() if masked is None else masked
            values = _labels_inside(scan, label, classes)
            features = self._features(scan, masked)
            for k in range(classes):
                at = np.flatnonzero(values == k)
                counts[k] += len(at)
                # of each scan as many as are remembered in the end: the last draw makes scans even
                pools[k].append(features[rng.permutation(at)[: self.examples_per_label]])
        if masked is None:
            raise DatasetError("knn needs at least one labelled scan to learn from")
        if empty := [k for k in range(classes) if counts[k] == 0]:
            raise DatasetError(
                f"knn: label {empty[0]} has no voxel in any training scan: leave it out, or add a scan with it"
            )
        drawn = [np.concatenate(pool) for pool in pools]
        drawn = [pool[rng.permutation(len(pool))[: self.examples_per_label]] for pool in drawn]
        share = counts / counts.sum()
        mean = sum(s * pool.mean(axis=0, dtype=np.float64) for s, pool in zip(share, drawn, strict=True))
        spread = np.sqrt(
            sum(s * ((pool - mean) ** 2).mean(axis=0) for s, pool in zip(share, drawn, strict=True))
        )
        scale = np.where(spread > 0, spread, 1.0)
        if self.position_weight > 0:
            scale[-3:] /= self.position_weight
        sizes = np.array([len(pool) for pool in drawn])
        return {
            "examples": ((np.concatenate(drawn) - mean) / scale).astype(np.float32),
            "labels": np.repeat(np.arange(classes), sizes).astype(np.int32),
            "mean": np.asarray(mean),
            "scale": scale,
            "frequencies": share,
            "masked": np.array(int(masked)),
        }

    def probabilities(self, scan: Scan, state: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Probability of each label at each voxel of a scan, ``(K, x, y, z)``; outside the mask background.

        Args:
            scan: the scan.
            state: what :meth:`learn` returned.

        Raises:
            GeometryError: the scan has another number of channels than those learnt from.
        """
        features = self._features(scan, bool(state["masked"]))
        if features.shape[1] != len(state["mean"]):
            raise GeometryError(
                f"knn learnt {len(state['mean'])} features and the scan has {features.shape[1]}: are its channels "
                "those of the training scans?"
            )
        features = ((features - state["mean"]) / state["scale"]).astype(np.float32)
        classes = len(state["frequencies"])
        labels = state["labels"].astype(np.intp)
        per_example = state["frequencies"] / np.maximum(np.bincount(labels, minlength=classes), 1)
        shares = nearest_neighbours(
            features,
            state["examples"],
            labels,
            classes=classes,
            neighbours=self.neighbours,
            weights=per_example,
            slack=self.slack,
        )
        found = np.zeros((classes, *scan.shape), dtype=np.float32)
        found[0] = ~scan.mask
        found[:, scan.mask] = shares.T
        return found

    def _features(self, scan: Scan, masked: bool) -> npt.NDArray[np.float32]:
        return voxel_features(
            scan,
            sigmas_mm=self.sigmas_mm,
            gradient=self.gradient,
            position=self.position_weight > 0,
            masked=masked,
        )


def _labels_inside(scan: Scan, labels: npt.NDArray[np.integer], classes: int) -> npt.NDArray[Any]:
    """Labels of the voxels inside the mask."""
    if labels.shape != scan.shape:
        raise GeometryError(f"a label map has shape {labels.shape}, its scan {scan.shape}")
    values = labels[scan.mask]
    if values.min() < 0 or values.max() >= classes:
        raise LabelError(
            f"knn: channel indices must lie between 0 and {classes - 1}, found {values.min()} to {values.max()}"
        )
    return values
