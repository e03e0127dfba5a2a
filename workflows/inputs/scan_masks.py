"""Masks of the scans to segment."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["mask_of", "refuse_missing_masks", "refuse_without_masks"]


def refuse_missing_masks(masks: Path | None) -> None:
    """Refuse a mask, or a folder of masks, that is not there.

    Raises:
        OptionError: no such file or folder.
    """
    from atlaseg.pipeline.errors import OptionError

    if masks is not None and not masks.exists():
        raise OptionError(f"--masks {masks}: no such file or folder")


def refuse_without_masks(run: Path, masks: Path | None, *, needed: bool) -> None:
    """Refuse to label without masks what has learnt inside masks.

    Raises:
        OptionError: masks are needed and none are named.
    """
    from atlaseg.pipeline.errors import OptionError

    if needed and masks is None:
        raise OptionError(f"{run}: learnt inside masks, so scans need theirs: give --masks FOLDER")


def mask_of(masks: Path | None, name: str, scan: Path) -> npt.NDArray[np.bool_] | None:
    """Mask of a scan, from a file or a folder of masks with the names of scans.

    Raises:
        MissingFileError: the folder has no mask of this name.
        AtlasegError: as :func:`atlaseg.pipeline.io.mask.read_mask`.
    """
    from atlaseg.pipeline.errors import MissingFileError
    from atlaseg.pipeline.io.mask import read_mask
    from atlaseg.pipeline.io.scan_names import find_volume, volume_name

    if masks is None:
        return None
    path = masks
    if masks.is_dir():
        found = find_volume(masks, (name, volume_name(scan)))
        if found is None:
            raise MissingFileError(
                f"{masks / name}.nii.gz: no mask for this scan; draw one, or leave --masks out"
            )
        path = found
    return read_mask(path, scan)
