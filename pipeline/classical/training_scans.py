"""Labelled scans as classical methods learn from them: read one at a time, so that many do not fill the memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.classical.location_prior import LocationPrior, pooled
from atlaseg.pipeline.classical.scan import Scan
from atlaseg.pipeline.errors import AtlasegError, DatasetError, GeometryError, MissingFileError

if TYPE_CHECKING:
    from atlaseg.pipeline.case import Case, Dataset
    from atlaseg.pipeline.segmenter import Prior

__all__ = ["TrainingScans", "scan_with_prior"]

Item = TypeVar("Item")


@dataclass(frozen=True)
class Lazily(Sequence[Item]):
    """A sequence whose items are made on access."""

    make: Callable[[int], Item]
    length: int

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | Sequence[Item]:
        if isinstance(index, slice):
            return [self.make(n) for n in range(self.length)[index]]
        return self.make(range(self.length)[index])


class TrainingScans:
    """The labelled cases of a data set.

    Args:
        dataset: cases without labels are left out.
        masks: file of each case's mask; ``None``: there are no masks.

    Raises:
        DatasetError: no case is labelled.
        MissingFileError: some cases have a mask and others have none.
    """

    def __init__(self, dataset: Dataset, masks: Mapping[str, Path] | None = None) -> None:
        self.dataset, self.masks = dataset, masks or {}
        self._cases = dataset.labelled
        if not self._cases:
            raise DatasetError(f"{dataset.name}: no case has a label map; there is nothing to learn from")
        without = [case.name for case in self._cases if case.name not in self.masks]
        if self.masks and without:
            raise MissingFileError(
                f"{without[0]}: has no mask, others have; give all training scans one, or none"
            )

    @property
    def scans(self) -> Sequence[Scan]:
        """The scans, without a prior: what is learnt from them is learnt without one."""
        return Lazily(lambda n: self._scan(self._cases[n]), len(self._cases))

    @property
    def labels(self) -> Sequence[npt.NDArray[np.int64]]:
        """Label maps as channel indices ``(x, y, z)``; the background outside a mask is not counted."""
        return Lazily(lambda n: self._label(self._cases[n]), len(self._cases))

    def refuse_missing_structures(self) -> None:
        """See that there is something to learn of each structure.

        Raises:
            DatasetError: a label map is empty, or a structure has no voxel in any of them.
        """
        present: set[int] = set()
        for label in self.labels:
            present.update(np.unique(label).tolist())
        table = self.dataset.labels
        for index, (name, value) in enumerate(zip(table.names, table.values, strict=True)):
            if index > 0 and index not in present:
                raise DatasetError(
                    f"{self.dataset.name}: {name} (label {value}) has no voxel in any of the {len(self._cases)} "
                    "training scans: there is nothing to learn of it; label it in one of them, or remove its name"
                )

    def _scan(self, case: Case) -> Scan:
        from atlaseg.pipeline.io.mask import read_mask
        from atlaseg.pipeline.io.volume import read_image

        image = read_image(case.images)
        mask = read_mask(self.masks[case.name], case.images[0]) if self.masks else None
        try:
            return Scan.of(image, mask=mask)
        except (DatasetError, GeometryError) as error:
            raise type(error)(f"{case.images[0]}: {error}") from error

    def _label(self, case: Case) -> npt.NDArray[np.int64]:
        from atlaseg.pipeline.io.volume import grid_difference, read_header, read_label_map

        if case.label is None:
            raise DatasetError(f"{case.name}: has no label map")
        if difference := grid_difference(read_header(case.images[0]), read_header(case.label)):
            raise GeometryError(f"{case.label}: not on the grid of its scan ({difference}); resample it")
        values = read_label_map(case.label)
        if not values.any():
            raise DatasetError(f"{case.label}: no voxel is labelled; label it, or take the scan out")
        try:
            return self.dataset.labels.to_indices(values)
        except AtlasegError as error:
            raise type(error)(f"{case.label}: {error}") from error


def scan_with_prior(
    image: Any,
    mask: Any,
    classes: int,
    location: LocationPrior | None,
    prior: Prior | None,
    votes: npt.NDArray[np.floating] | None = None,
    weight: float = 1.0,
) -> Scan:
    """A checked scan with the prior that is known for it: one from outside, or else the location's, or none.

    Args:
        image: the scan ``(C, x, y, z)``.
        mask: of the scan, or ``None``.
        classes: ``K``.
        location: where structures lie.
        prior: takes its place.
        votes: of atlases for this scan, ``(K, x, y, z)``, to be pooled with the location's.
        weight: of the votes.

    Raises:
        GeometryError: the prior has another number of labels or another grid.
        OptionError: the weight is not possible.
        AtlasegError: as :meth:`Scan.of`.
    """
    scan = Scan.of(image, mask=mask)
    if prior is None:
        if location is None:
            return scan
        chances = location.on(scan)
        return replace(scan, prior=chances if votes is None else pooled(chances, votes, weight))
    chances = np.asarray(prior.probabilities(image).numpy(), dtype=np.float32)
    if chances.shape != (classes, *scan.shape):
        raise GeometryError(f"the prior has shape {chances.shape}, expected {(classes, *scan.shape)}")
    return replace(scan, prior=chances)
