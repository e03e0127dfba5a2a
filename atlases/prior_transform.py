"""A MONAI transform that brings the prior of a run's atlases, for bundles whose network wants one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.transforms import Transform

__all__ = ["AtlasPriord"]


class AtlasPriord(Transform):
    """Adds label probabilities that atlases give a scan, unless they are there already.

    Args:
        image_key: the scan, a ``MetaTensor (C, *spatial)`` with its affine in RAS+ mm.
        prior_key: gets the prior, a ``MetaTensor (K, *spatial)`` on the grid of the scan.
        folder: of the atlases, as ``MultiAtlasSegmenter.save`` writes it; read when the first scan comes.

    Raises:
        MissingFileError: there are no atlases in the folder.
    """

    def __init__(self, image_key: str, prior_key: str, folder: str) -> None:
        self.image_key, self.prior_key, self.folder = image_key, prior_key, Path(folder)
        self._prior: Any = None

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The entries, and the prior."""
        if self.prior_key in data:
            return dict(data)
        if self._prior is None:
            from atlaseg.atlases.multi_atlas_segmenter import MultiAtlasSegmenter
            from atlaseg.atlases.network_training.prior import FusedPrior

            self._prior = FusedPrior(MultiAtlasSegmenter.load(self.folder))
        return {**data, self.prior_key: self._prior.probabilities(data[self.image_key])}
