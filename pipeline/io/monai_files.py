"""Files by the rules of :mod:`atlaseg.pipeline.io.volume` in MONAI's transforms: a reader for ``LoadImaged``, and a
writer.

A run carries a copy of this file for MONAI alone (see :mod:`atlaseg.pipeline.bundle_scripts`).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from monai.config import KeysCollection
from monai.data import ImageReader
from monai.transforms import MapTransform

from atlaseg.pipeline.errors import AtlasegError, GeometryError
from atlaseg.pipeline.io.grid import Grid, grid_difference
from atlaseg.pipeline.io.scan_names import digits_in_names, group_scans, list_volumes, volume_name
from atlaseg.pipeline.io.volume import read_channels, read_header, read_label_map, volumes_of, write_label_map

if TYPE_CHECKING:
    from collections.abc import Iterator

    from monai.data import MetaTensor

__all__ = ["OneGridd", "SaveLabelMapd", "VolumeReader", "dataset_near", "scans_of"]


class VolumeReader(ImageReader):
    """Reader of scans and label maps for MONAI's ``LoadImage``: channels first, affine in RAS+ mm.

    Args:
        labels: read label maps, ``(1, *spatial)`` int64, instead of scans, ``(C, *spatial)`` float32. Give
            ``LoadImaged`` the same ``dtype``, which is float32 by default and holds no label above 2^24.
        stop: end the program with one line where a file is refused, for a bundle that MONAI runs alone; otherwise
            errors are those of :func:`atlaseg.pipeline.io.volume.read_image` and
            :func:`atlaseg.pipeline.io.volume.read_label_map`.
    """

    def __init__(self, labels: bool = False, stop: bool = False) -> None:
        super().__init__()
        self.labels = labels
        self.stop = stop

    def verify_suffix(self, filename: Sequence[str | os.PathLike[str]] | str | os.PathLike[str]) -> bool:  # noqa: ARG002
        """Every file is this reader's: what it refuses, no other may read by other rules."""
        return True

    def read(self, data: Any, **_: Any) -> list[Path]:
        """Only the paths: MONAI tries other readers where this method fails, none where :meth:`get_data` does."""
        return [Path(data)] if isinstance(data, str | os.PathLike) else [Path(path) for path in data]

    def get_data(self, img: list[Path]) -> tuple[npt.NDArray[Any], dict[str, Any]]:
        """Voxels, channels first, and what MONAI wants to know of them."""
        with _said_in_one_line(self.stop):
            if self.labels:
                if len(img) != 1:
                    raise GeometryError(f"{img[0]}: a label map is one file, found {len(img)}")
                header = read_header(img[0])
                voxels: npt.NDArray[Any] = read_label_map(img[0], header)[None]
            else:
                voxels, header = read_channels(img)
        meta = {
            "affine": header.affine.copy(),
            "original_affine": header.affine.copy(),
            "spatial_shape": np.asarray(header.spatial_shape),
            "original_channel_dim": 0,
            "space": "RAS",
        }
        return voxels, meta


class OneGridd(MapTransform):
    """Give label map and prior exactly the affine of their scan, from which theirs may differ by rounding.

    Without this, axes that are as close to one anatomical axis as to another could be turned differently.

    Args:
        keys: of the entries to place on the grid.
        source_key: of the scan.
        allow_missing_keys: whether a case may lack some of them.
    """

    def __init__(
        self, keys: KeysCollection, source_key: str = "image", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.source_key = source_key

    def __call__(self, data: Mapping[str, MetaTensor]) -> dict[str, MetaTensor]:
        """A case whose images share one affine.

        Raises:
            GeometryError: an image is not on the grid of the scan.
        """
        case = dict(data)
        scan = case[self.source_key]
        for key in self.key_iterator(case):
            if difference := grid_difference(_grid(scan), _grid(case[key])):
                name = Path(str(scan.meta["filename_or_obj"])).name
                raise GeometryError(
                    f"{case[key].meta['filename_or_obj']}: not on the grid of {name} ({difference}); resample it"
                )
            case[key].affine = scan.affine.clone()
        return case


class SaveLabelMapd(MapTransform):
    """Write label maps on the grids of their scans, whose headers they keep; the case's ``name`` names the file.

    MONAI's ``SaveImaged`` passes labels through float32, and does not write scans of one slice.

    Args:
        keys: label maps ``(1, *spatial)`` in the data set's own values, with the file of their scan as
            ``filename_or_obj``.
        output_dir: folder for ``NAME.nii.gz``.
        dtype: integer type on disk.
    """

    def __init__(self, keys: KeysCollection, output_dir: str | os.PathLike[str], dtype: str) -> None:
        super().__init__(keys)
        self.output_dir = Path(output_dir)
        self.dtype = np.dtype(dtype)

    def __call__(self, data: Mapping[str, MetaTensor]) -> dict[str, MetaTensor]:
        """The case as it is, once its label maps are written."""
        for key in self.key_iterator(dict(data)):
            scan = Path(str(data[key].meta["filename_or_obj"]))
            name = str(data["name"]) if "name" in data else volume_name(scan)
            values = data[key].cpu().numpy()[0].astype(self.dtype)
            write_label_map(self.output_dir / f"{name}.nii.gz", values, scan)
        return dict(data)


def scans_of(
    folder: str | os.PathLike[str], channels: int, cases: str | os.PathLike[str]
) -> list[dict[str, Any]]:
    """Scans of a folder for MONAI, each ``{"name": ..., "image": [path, ...]}``, as `atlaseg segment` finds them.

    Ends the program with one line where a file cannot be taken; what else is left out is said on standard error.

    Args:
        folder: of the scans.
        channels: how many the network expects.
        cases: the run's ``cases.json``, whose names show whether four digits belong to names; it may be missing.
    """
    if not Path(folder).is_dir():  # MONAI opens configs without any scan, too, to check them
        print(
            f"{folder}: no such folder, so there is nothing to segment; give --dataset_dir", file=sys.stderr
        )
        return []
    with _said_in_one_line(stop=True):
        listed = list_volumes(Path(folder))
    grouping = group_scans(listed.volumes, channels, volumes_of, digits=_digits(Path(cases)))
    for path, problem in {**listed.refused, **listed.scans, **grouping.problems}.items():
        raise SystemExit(f"{path}: {problem}")
    for note in listed.notes():
        print(note, file=sys.stderr)
    return [{"name": name, "image": [str(file) for file in files]} for name, files in grouping.scans.items()]


def dataset_near(run: str | os.PathLike[str]) -> str:
    """Folder of the data set that a run has learnt from, looked for near the run.

    Ends the program with one line where it is not found.
    """
    from atlaseg.pipeline.datasets.dataset_search import dataset_of_run

    with _said_in_one_line(stop=True):
        return str(dataset_of_run(Path(run)))


def _digits(cases: Path) -> bool | None:
    if not cases.is_file():
        return None
    content = json.loads(cases.read_text(encoding="utf-8"))
    named = [entry for part in ("training", "validation") for entry in content[part]]
    return digits_in_names((entry["name"], [Path(path) for path in entry["image"]]) for entry in named)


def _grid(image: MetaTensor) -> Grid:
    return Grid(tuple(image.shape[1:]), np.asarray(image.affine, dtype=np.float64))


@contextmanager
def _said_in_one_line(stop: bool) -> Iterator[None]:
    try:
        yield
    except AtlasegError as error:
        if not stop:
            raise
        raise SystemExit(str(error)) from error
