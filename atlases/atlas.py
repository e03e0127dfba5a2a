"""An atlas: a labelled scan that is registered to others."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.registration.transforms.frames import read_itk, to_itk
from atlaseg.pipeline.case import Case, LabelTable
from atlaseg.pipeline.errors import GeometryError, LabelError
from atlaseg.pipeline.io.mask import read_mask
from atlaseg.pipeline.io.volume import read_channels, read_header, read_label_map

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["Atlas", "index_type"]


def index_type(table: LabelTable) -> type[np.uint8 | np.uint16]:
    """Smallest unsigned type for the channel indices of a table."""
    return np.uint8 if len(table) <= 1 + np.iinfo(np.uint8).max else np.uint16


@dataclass(frozen=True)
class Atlas:
    """One labelled scan, given by its files and therefore cheap to send to another process.

    Args:
        name: the only identifier that outputs may carry.
        images: one file per channel, or one file that may be 4-D with channels last.
        label: label map on the same grid, in the set's label values.
        mask: of the brain or body, on the same grid; every voxel that is not 0 is inside.
        landmarks: points in the scan, a file of :func:`atlaseg.atlases.registration.points.landmarks.read_landmarks`.

    Raises:
        DatasetError: the name is not usable as a file name, or there is no image.
    """

    name: str
    images: tuple[Path, ...]
    label: Path
    mask: Path | None = None
    landmarks: Path | None = None

    def __post_init__(self) -> None:
        self.case  # noqa: B018 (a case refuses unusable names)

    @property
    def case(self) -> Case:
        """The atlas as a labelled case of a data set."""
        return Case(self.name, self.images, self.label)

    def image(self, channel: int = 0) -> sitk.Image:
        """One channel as a float32 ITK image.

        Raises:
            GeometryError: there is no such channel.
            MissingFileError, UnreadableFileError: a file is missing or broken.
        """
        left = channel
        for path in self.images:
            number = read_header(path).channels
            if 0 <= left < number:
                return read_itk(path, left)
            left -= number
        raise GeometryError(
            f"{self.images[0]}: atlas {self.name} has {channel - left} channel(s), {channel} was asked for"
        )

    def channels(self) -> npt.NDArray[np.float32]:
        """All channels, ``(C, *spatial)`` float32.

        Raises:
            AtlasegError: as :func:`atlaseg.pipeline.io.volume.read_channels`.
        """
        return read_channels(self.images)[0]

    def labels(self, table: LabelTable) -> sitk.Image:
        """Label map as channel indices of the table, uint8 (up to 256 labels) or uint16.

        Raises:
            LabelError: voxels are not whole numbers, or values that the table does not have.
            MissingFileError, UnreadableFileError, GeometryError: as :func:`atlaseg.pipeline.io.volume.read_label_map`.
        """
        values = read_label_map(self.label)
        try:
            indices = table.to_indices(values).astype(index_type(table))
        except LabelError as error:
            raise LabelError(f"{self.label}: {error}") from error
        return to_itk(indices, read_header(self.label).affine)

    def mask_image(self) -> sitk.Image | None:
        """Mask as uint8, 1 inside, or ``None`` where the atlas has none.

        Raises:
            AtlasegError: as :func:`atlaseg.pipeline.io.mask.read_mask`.
        """
        if self.mask is None:
            return None
        return to_itk(read_mask(self.mask), read_header(self.mask).affine)
