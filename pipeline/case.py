"""Cases, data sets, and the table that maps label values to channel indices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.errors import DatasetError, LabelError
from atlaseg.pipeline.io.scan_names import name_problem

__all__ = ["Case", "Dataset", "LabelTable", "value_counts"]

_INTEGER_TYPES = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.int64)
#: Label maps whose values lie below this are counted in one pass, without sorting the voxels.
_COUNTED_VALUES = 1 << 16


def value_counts(label_map: npt.NDArray[Any]) -> dict[int, int]:
    """Number of voxels of each value of an integer label map, by rising value.

    >>> value_counts(np.array([[0, 4], [4, 255]]))
    {0: 1, 4: 2, 255: 1}
    """
    if label_map.size and label_map.min() >= 0 and label_map.max() < _COUNTED_VALUES:
        counts = np.bincount(label_map.ravel())
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    values, counts = np.unique(label_map, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


@dataclass(frozen=True)
class LabelTable:
    """Label values of a data set, in the order of the network's channels, with a name each.

    Networks and fusion count channels ``0..K-1``; files hold values that need not be consecutive. This table
    is the only place where the one becomes the other. The first entry is always the background, value 0.

    Args:
        values: ``K`` distinct integers in rising order, the first is 0.
        names: ``K`` names, one for each value.

    Raises:
        LabelError: values repeat, do not start with 0, or names and values differ in number.

    >>> table = LabelTable.from_names({"background": 0, "liver": 1, "lesion": 4})
    >>> table.values
    (0, 1, 4)
    >>> table.to_indices(np.array([0, 4, 1])).tolist()
    [0, 2, 1]
    >>> table.to_values(np.array([0, 2, 1])).dtype
    dtype('uint8')
    """

    values: tuple[int, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.values) != len(self.names):
            raise LabelError(f"{len(self.values)} label values but {len(self.names)} names: give one each")
        if not self.values or self.values[0] != 0:
            raise LabelError(f"label values {list(self.values)} must begin with 0, the background")
        if any(b <= a for a, b in zip(self.values, self.values[1:], strict=False)):
            raise LabelError(f"label values {list(self.values)} must be distinct and rising")
        if len(set(self.names)) != len(self.names):
            raise LabelError(f"structure names {list(self.names)} must be distinct")

    @classmethod
    def from_names(cls, names: dict[str, int]) -> LabelTable:
        """Table from ``{structure name: label value}``; the background is added where it is not named."""
        pairs = sorted((int(value), str(name)) for name, value in names.items())
        if not pairs or pairs[0][0] != 0:
            pairs.insert(0, (0, "background"))
            pairs.sort()
        return cls(tuple(v for v, _ in pairs), tuple(n for _, n in pairs))

    @classmethod
    def from_values(cls, values: Iterable[int]) -> LabelTable:
        """Table with names made from the values, for data that come without names."""
        found = sorted({0, *(int(v) for v in values)})
        return cls(tuple(found), tuple("background" if v == 0 else f"label {v}" for v in found))

    def __len__(self) -> int:
        return len(self.values)

    @property
    def structures(self) -> dict[int, str]:
        """``{value: name}`` of everything but the background."""
        return dict(zip(self.values[1:], self.names[1:], strict=True))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Smallest integer type that holds every value."""
        low, high = self.values[0], self.values[-1]
        for kind in _INTEGER_TYPES:
            limits = np.iinfo(kind)
            if limits.min <= min(low, 0) and high <= limits.max:
                return np.dtype(kind)
        raise LabelError(f"label value {high} does not fit a 64-bit integer")

    def unknown(self, label_map: npt.NDArray[Any]) -> list[int]:
        """Values of an integer label map that the table does not have, in rising order."""
        return sorted(value_counts(label_map).keys() - set(self.values))

    def to_indices(self, label_map: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Label values ``(*spatial)`` -> channel indices of the same shape.

        Raises:
            LabelError: the map holds a value that the table does not have.
        """
        values = np.asarray(self.values)
        indices = np.searchsorted(values, label_map)
        clipped = np.minimum(indices, len(values) - 1)
        if not np.array_equal(values[clipped], label_map):
            raise LabelError(f"unknown label values {self.unknown(label_map)}; known are {list(self.values)}")
        return clipped.astype(np.int64)

    def to_values(self, indices: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Channel indices ``(*spatial)`` -> label values in the smallest fitting integer type."""
        return np.asarray(self.values, dtype=self.dtype)[indices]


@dataclass(frozen=True)
class Case:
    """One subject: its scan, one file per channel (or one 4-D file), and its label map if there is one.

    Args:
        name: the only identifier that outputs may carry.
        images: files of the channels, in the data set's order.
        label: label map file, ``None`` for a case without labels.
    """

    name: str
    images: tuple[Path, ...]
    label: Path | None = None

    def __post_init__(self) -> None:
        if problem := name_problem(self.name):
            raise DatasetError(problem)
        if not self.images:
            raise DatasetError(f"case {self.name} has no image")

    @property
    def files(self) -> tuple[Path, ...]:
        """Images and label map."""
        return self.images if self.label is None else (*self.images, self.label)


@dataclass(frozen=True)
class Dataset:
    """Cases that share channels and label values.

    Args:
        name: what the data set is called.
        cases: labelled and unlabelled cases, sorted by name; names are unique.
        labels: the label values and their names.
        channels: name of each input channel, such as ``("T1", "FLAIR")`` or ``("CT",)``.
        channels_named_by: file or option that names them; ``None`` if they are unnamed, so that the intensities decide.

    Raises:
        DatasetError: two cases have the same name.
    """

    name: str
    cases: tuple[Case, ...]
    labels: LabelTable
    channels: tuple[str, ...] = field(default=("MRI",))
    channels_named_by: str | None = "the data set"

    def __post_init__(self) -> None:
        names = [case.name for case in self.cases]
        if repeated := sorted({n for n in names if names.count(n) > 1}):
            raise DatasetError(f"{self.name}: case names must be unique, found twice: {', '.join(repeated)}")

    @property
    def labelled(self) -> tuple[Case, ...]:
        """Cases with a label map."""
        return tuple(case for case in self.cases if case.label is not None)

    @property
    def unlabelled(self) -> tuple[Case, ...]:
        """Cases without a label map."""
        return tuple(case for case in self.cases if case.label is None)

    def subset(self, names: Sequence[str]) -> Dataset:
        """The same data set with the named cases only.

        Raises:
            DatasetError: a name is not in the data set.
        """
        known = {case.name: case for case in self.cases}
        if missing := [n for n in names if n not in known]:
            raise DatasetError(f"{self.name} has no case {', '.join(missing)}")
        return replace(self, cases=tuple(known[n] for n in names))
