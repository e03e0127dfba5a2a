"""Protocol of methods that are combined with atlases: :class:`CombinedSegmenter`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from atlaseg.pipeline.progress import Progress
from atlaseg.pipeline.segmenter import Segmentation

if TYPE_CHECKING:
    from monai.data import MetaTensor

    from atlaseg.atlases.multi_atlas_segmenter import MultiAtlasSegmenter
    from atlaseg.atlases.propagation.propagation import Propagation

__all__ = ["CombinedSegmenter"]


class CombinedSegmenter(ABC):
    """Segments scans in two steps: register the atlases to the scan, then segment it with their help.

    The halves may be called one by one, as a command does that reports on the registrations between them::

        found = segmenter.atlases.propagate(image, mask=mask) if segmenter.needs_atlases else None
        result = segmenter.finish(image, found, mask=mask)

    Where the atlases have no weight, the labels are the method's own, to the last bit. A subclass is a
    :class:`~atlaseg.pipeline.segmenter.Segmenter`.
    """

    @property
    @abstractmethod
    def atlases(self) -> MultiAtlasSegmenter:
        """The atlases, whose executor, threads and work folder the caller may set.

        Raises:
            NotFittedError: neither fitted nor loaded.
        """

    @property
    @abstractmethod
    def weight(self) -> float:
        """Of the atlases; may be set.

        Raises:
            NotFittedError: neither fitted nor loaded.
            OptionError: it is set to what is not possible.
        """

    @weight.setter
    @abstractmethod
    def weight(self, value: float) -> None: ...

    @property
    @abstractmethod
    def needs_atlases(self) -> bool:
        """Whether the atlases contribute to the labels of a scan, and not only to training."""

    @property
    @abstractmethod
    def needs_masks(self) -> bool:
        """Whether a scan must come with a mask, as the training scans did."""

    @property
    @abstractmethod
    def takes_masks(self) -> bool:
        """Whether the mask of a scan changes anything; if not, it is refused."""

    def segment(
        self,
        image: MetaTensor,
        *,
        probabilities: bool = False,
        mask: npt.NDArray[Any] | None = None,
        progress: Progress | None = None,
    ) -> Segmentation:
        """Label a scan ``(C, *spatial)``.

        Args:
            image: the scan, affine in RAS+ mm.
            probabilities: also return them, ``(K, *spatial)``.
            mask: ``(*spatial)``, not 0 where the atlases are to be registered and a classical method is to label.
            progress: told the number of registrations done and their total, then the share that the method has done.

        Raises:
            NotFittedError: neither fitted nor loaded.
            GeometryError: the scan has other channels than the training scans, or overlaps with no atlas.
            OptionError: a mask is missing, or given where nothing can use it.
            AtlasegError: no atlas could be registered.
        """
        found = self.atlases.propagate(image, mask=mask, progress=progress) if self.needs_atlases else None
        return self.finish(image, found, probabilities=probabilities, mask=mask, progress=progress)

    @abstractmethod
    def finish(
        self,
        image: MetaTensor,
        found: Propagation | None,
        *,
        probabilities: bool = False,
        mask: npt.NDArray[Any] | None = None,
        progress: Progress | None = None,
        corrected: bool = True,
    ) -> Segmentation:
        """The second half of :meth:`segment`, after the registrations.

        Args:
            image: the scan.
            found: its atlases, as ``self.atlases.propagate(image)`` gives them; ``None`` where they are not needed.
            probabilities: also return them.
            mask: as of :meth:`segment`.
            progress: told the share that is done.
            corrected: by what was learnt from all atlases (correction and slice borders), which must not be on an
                atlas' own scan.
        """
