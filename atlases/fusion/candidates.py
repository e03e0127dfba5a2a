"""Input and output of label fusion: candidate segmentations of one scan, and the fused labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.errors import GeometryError, LabelError, OptionError

__all__ = ["Candidates", "Fused", "FusionRule"]


@dataclass(frozen=True, eq=False)
class Candidates:
    """Label maps of ``N`` atlases, carried to the grid of one scan, with the images they came with.

    Args:
        labels: ``(N, *spatial)`` unsigned integers, channel indices ``0..K-1`` (see ``LabelTable.to_indices``).
        classes: ``K``, the background included.
        images: the atlases' images on the same grid, ``(N, C, *spatial)`` float32, ``None`` where a rule needs none.
            Intensities are comparable with those of the target (see
            :mod:`atlaseg.atlases.registration.intensity_scale`).
        target: the scan, ``(C, *spatial)`` float32, or ``None``.
        inside: ``(N, *spatial)`` bool, where an atlas has seen the place; outside it has no vote. ``None``:
            everywhere. Where no atlas has seen a place, it is background.

    Raises:
        GeometryError: shapes do not fit together.
        LabelError: labels are not integers, or not below ``classes``.
    """

    labels: npt.NDArray[Any]
    classes: int
    images: npt.NDArray[np.float32] | None = None
    target: npt.NDArray[np.float32] | None = None
    inside: npt.NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.labels.ndim != 4 or not self.labels.size:
            raise GeometryError(
                f"candidate labels must be (atlases, x, y, z) with voxels, found shape {self.labels.shape}"
            )
        if self.labels.dtype.kind not in "iu":
            raise LabelError(f"candidate labels must be integers, found {self.labels.dtype}")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= self.classes:
            raise LabelError(
                f"candidate labels must be indices 0 to {self.classes - 1}, found {low} to {high}"
            )
        self._check_images()
        if self.inside is not None and self.inside.shape != self.labels.shape:
            raise GeometryError(
                f"inside has shape {self.inside.shape}, labels {self.labels.shape}: give one each"
            )

    def _check_images(self) -> None:
        for name, array, expected in (
            ("images", self.images, (len(self.labels), None, *self.spatial_shape)),
            ("target", self.target, (None, *self.spatial_shape)),
        ):
            if array is None:
                continue
            fits = array.ndim == len(expected) and all(
                e is None or e == n for e, n in zip(expected, array.shape, strict=True)
            )
            if not fits:
                raise GeometryError(
                    f"{name} have shape {array.shape}, labels {self.labels.shape}: not on one grid"
                )
        if (
            self.images is not None
            and self.target is not None
            and self.images.shape[1] != self.target.shape[0]
        ):
            raise GeometryError(
                f"atlases have {self.images.shape[1]} channel(s), the scan {self.target.shape[0]}: give the same"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def spatial_shape(self) -> tuple[int, int, int]:
        """Voxels of the grid along each axis."""
        x, y, z = self.labels.shape[1:]
        return x, y, z

    def intensities(self, rule: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Images and target, for a rule that compares them.

        Raises:
            OptionError: the candidates came without them.
        """
        if self.images is None or self.target is None:
            raise OptionError(
                f"{rule} fusion compares intensities: give the scan and the warped images too, or choose "
                "a rule that looks at labels alone"
            )
        return self.images, self.target


@dataclass(frozen=True, eq=False)
class Fused:
    """Result of a fusion rule.

    Args:
        labels: ``(*spatial)`` channel indices, type of the candidates' labels.
        probabilities: ``(K, *spatial)`` float32, sums to one over ``K``, or ``None`` where not asked for.
        details: what the rule found out besides, such as the performance of each atlas; plain numbers and lists.
    """

    labels: npt.NDArray[Any]
    probabilities: npt.NDArray[np.float32] | None = None
    details: dict[str, Any] | None = None


@runtime_checkable
class FusionRule(Protocol):
    """A way to make one segmentation out of many; implementations are frozen dataclasses of their options.

    Ties go to the lowest index, so that the result does not depend on the order of the atlases.
    """

    def fuse(self, candidates: Candidates, *, probabilities: bool = True) -> Fused:
        """Fuse the candidates to labels, and optionally probabilities; candidates are not changed."""
        ...
