"""Protocols of segmentation methods: :class:`Segmenter` and :class:`Prior`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.errors import GeometryError, OptionError

if TYPE_CHECKING:
    from monai.data import MetaTensor

    from atlaseg.pipeline.case import Dataset
    from atlaseg.pipeline.progress import Progress

__all__ = ["Prior", "Segmentation", "Segmenter", "refuse_mask", "refuse_other_channels"]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Labels for one scan, on that scan's own grid.

    Args:
        label_map: ``(*spatial)``, in the data set's own label values, smallest fitting integer type.
        affine: ``(4, 4)``, voxel index -> RAS+ mm, the scan's.
        probabilities: ``(K, *spatial)`` float, sums to one over ``K`` (background first), or ``None``.
    """

    label_map: npt.NDArray[Any]
    affine: npt.NDArray[np.float64]
    probabilities: npt.NDArray[Any] | None = None

    def save(self, path: Path | str, scan: Path | str, probabilities: Path | str | None = None) -> None:
        """Write the label map as a file on the scan's own grid, and the probabilities, if there are any, beside it.

        Args:
            path: of the label map, ``.nii`` or ``.nii.gz``; its folder is made if it is not there.
            scan: file of the scan, whose geometry is kept to the last digit.
            probabilities: file of the probabilities, 4-D, background first; by default ``NAME_probabilities.nii.gz``.

        Raises:
            GeometryError: the scan of that file lies on another grid.
            MissingFileError, UnreadableFileError: as :func:`atlaseg.pipeline.io.volume.read_header`.
            OptionError: another suffix.
        """
        from atlaseg.pipeline.io.grid import Grid, grid_difference
        from atlaseg.pipeline.io.result_files import probabilities_file
        from atlaseg.pipeline.io.volume import read_header, write_label_map, write_probabilities

        path, scan = Path(path), Path(scan)
        if difference := grid_difference(read_header(scan), Grid(self.label_map.shape, self.affine)):
            raise GeometryError(
                f"{scan}: these labels are of another scan ({difference}); name the one they are of"
            )
        write_label_map(path, self.label_map, scan)
        if self.probabilities is not None:
            chances = np.asarray(self.probabilities, dtype=np.float32)
            write_probabilities(Path(probabilities or probabilities_file(path)), chances, scan)


@runtime_checkable
class Segmenter(Protocol):
    """A method that learns from labelled cases and labels new scans: network, atlases or classical.

    A class may take more keywords than these, never fewer; what it cannot do it refuses in one line.
    """

    def fit(self, dataset: Dataset) -> Self:
        """Learn from the labelled cases of a data set; returns itself."""
        ...

    def segment(
        self,
        image: MetaTensor,
        *,
        probabilities: bool = False,
        mask: npt.NDArray[Any] | None = None,
        progress: Progress | None = None,
    ) -> Segmentation:
        """Label a scan; it is not changed.

        Args:
            image: the scan, ``(C, *spatial)``, affine in RAS+ mm.
            probabilities: also return them, ``(K, *spatial)``.
            mask: ``(*spatial)``, not 0 inside the brain or body. What it does depends on the method: a classical one
                labels inside only, atlases are registered by what lies inside, a network takes none.
            progress: told how far the work is.

        Raises:
            NotFittedError: neither fitted nor loaded.
            GeometryError: the scan has other channels than the training scans, or the mask has another shape.
            OptionError: a mask is given that the method cannot use, or missing where it needs one.
        """
        ...

    def save(self, directory: Path) -> None:
        """Write all that :meth:`load` needs into a folder."""
        ...

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Load a folder of :meth:`save`; reads data only, runs no code."""
        ...


@runtime_checkable
class Prior(Protocol):
    """Provides prior probabilities of the labels at each voxel of a scan."""

    def probabilities(self, image: MetaTensor) -> MetaTensor:
        """Label probabilities ``(K, *spatial)`` on the grid of the scan, summing to one over ``K``."""
        ...


def refuse_other_channels(image: MetaTensor, channels: Sequence[str]) -> None:
    """Refuse what is not a 3-D scan with the channels that a segmenter has learnt from.

    Args:
        image: the scan.
        channels: names of those that it must have.

    Raises:
        GeometryError: it is not ``(C, *spatial)`` with as many channels.
    """
    if image.ndim != 4 or image.shape[0] != len(channels):
        raise GeometryError(
            f"expected a scan with {len(channels)} channel(s) ({', '.join(channels)}), "
            f"found an array of shape {tuple(image.shape)}"
        )


def refuse_mask(mask: npt.NDArray[Any] | None, who: str) -> None:
    """Refuse a mask that has no effect.

    Args:
        mask: of the scan, or ``None``.
        who: cannot use one, as the message calls it.

    Raises:
        OptionError: there is a mask.
    """
    if mask is not None:
        raise OptionError(f"{who} cannot use a mask of the scan: leave it out")
