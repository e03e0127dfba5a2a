"""Tables of the lower floors, until they say summaries themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from atlaseg.pipeline.registry import METHODS, MethodRow, Registry

__all__ = ["classical_table", "network_table"]


@dataclass(frozen=True)
class _Network(MethodRow):
    pass


@dataclass(frozen=True)
class _Classical(MethodRow):
    kind: str = ""


_NETWORKS = {
    "unet": "U-Net with residual units; the default",
    "attention-unet": "U-Net whose skip connections are gated by attention",
    "fcn": "fully convolutional network with several heads; light",
    "dynunet": "U-Net with kernels that follow the voxel size, as nnU-Net builds it",
    "segresnet": "residual encoder and a light decoder",
}
_CLASSICAL = {
    "region-growing": "regions grown from seeds, yours or learnt ones",
    "watershed": "basins of the gradient, flooded from its minima",
    "split-merge": "an octree of even blocks, joined where they are alike",
    "region-graph": "supervoxels, joined where they are alike",
    "kmeans": "clusters of voxels with similar features",
    "knn": "each voxel as the most similar labelled voxels are",
    "gmm": "a Gaussian for each tissue, by expectation-maximisation",
    "mrf": "gmm, smoothed by a Markov random field",
    "markov-chain": "a hidden Markov chain along a space-filling curve",
}


def network_table() -> Registry[Any]:
    """Networks."""
    rows = [_Network(name, summary, "") for name, summary in _NETWORKS.items()]
    return Registry("network", _Network, rows, group=METHODS)


def classical_table() -> Registry[Any]:
    """Classical methods."""
    from atlaseg.pipeline.classical.registry import kind_of

    rows = [_Classical(name, summary, "", kind=kind_of(name)) for name, summary in _CLASSICAL.items()]
    return Registry("classical method", _Classical, rows, group=METHODS)
