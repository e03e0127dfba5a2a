"""The fingerprint of a data set: the figures about its labelled scans from which a plan is made.

All spatial figures are given along right-left, anterior-posterior and inferior-superior (the closest
anatomical axes, in the order of ``RAS``), not in the order of the axes on disk.
"""

from __future__ import annotations

import dataclasses
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.case import Case, Dataset, LabelTable
from atlaseg.pipeline.datasets.modality import Hounsfield, Modality, assume_channels, hounsfield_units
from atlaseg.pipeline.errors import DatasetError, GeometryError
from atlaseg.pipeline.io.volume import grid_difference, read_header, read_image, read_label_map

__all__ = ["ChannelIntensities", "Fingerprint", "StructureSize", "compute_fingerprint"]

Floats = tuple[float, float, float]
Triple = tuple[int, int, int]

#: Labelled voxels drawn from each case for the intensity statistics.
SAMPLES_PER_CASE = 10_000


@dataclass(frozen=True)
class ChannelIntensities:
    """Intensities of one channel in labelled voxels, pooled over the cases, in the scan's own unit.

    Args:
        name: of the channel.
        percentile_00_5: 0.5th percentile.
        median: 50th percentile.
        percentile_99_5: 99.5th percentile.
        mean: arithmetic mean.
        std: standard deviation.
    """

    name: str
    percentile_00_5: float
    median: float
    percentile_99_5: float
    mean: float
    std: float


@dataclass(frozen=True)
class StructureSize:
    """Size and place of one structure, medians over the cases that have it.

    Args:
        name: of the structure.
        value: its label value.
        cases: number of cases that have it.
        volume_ml: volume in millilitres.
        extent_mm: edges of its bounding box in mm.
        centre: its centre of mass as a share of the box around all structures, 0 to 1 along each axis.
    """

    name: str
    value: int
    cases: int
    volume_ml: float
    extent_mm: Floats
    centre: Floats


@dataclass(frozen=True)
class Fingerprint:
    """Properties of the labelled scans of a data set.

    Args:
        dataset: name of the data set.
        cases: number of labelled cases.
        channels: names of the input channels.
        labels: label values and names.
        modality: what the channels are taken for.
        modality_reason: where that is from, in one line.
        modality_doubts: what speaks against it, a line each.
        orientations: number of scans stored in each orientation.
        spacings: voxel size of each scan in mm, ``(cases, 3)``.
        shapes: voxels of each scan, ``(cases, 3)``.
        box_shapes: voxels of the box around each scan's non-zero voxels, ``(cases, 3)``.
        intensities: of labelled voxels, one entry for each channel.
        nonzero_share: median share of a scan's voxels that are not 0 in some channel.
        box_share: median share of a scan's volume that the box around its non-zero voxels takes.
        labels_in_box: smallest share of a case's labelled voxels that lie in that box.
        foreground_share: median share of a scan's voxels that are labelled.
        structures: sizes, one entry for each structure that some case has.
    """

    dataset: str
    cases: int
    channels: tuple[str, ...]
    labels: LabelTable
    modality: Modality
    modality_reason: str
    modality_doubts: tuple[str, ...]
    orientations: dict[str, int]
    spacings: tuple[Floats, ...]
    shapes: tuple[Triple, ...]
    box_shapes: tuple[Triple, ...]
    intensities: tuple[ChannelIntensities, ...]
    nonzero_share: float
    box_share: float
    labels_in_box: float
    foreground_share: float
    structures: tuple[StructureSize, ...]

    def spacing(self, percentile: float = 50.0) -> Floats:
        """Percentile of the voxel size along each axis, in mm."""
        return _triple(np.percentile(np.asarray(self.spacings), percentile, axis=0))

    def shape(self, percentile: float = 50.0) -> Floats:
        """Percentile of the number of voxels along each axis."""
        return _triple(np.percentile(np.asarray(self.shapes), percentile, axis=0))

    def size_mm(self, percentile: float = 50.0) -> Floats:
        """Percentile of the scans' edges in mm."""
        edges = np.asarray(self.shapes) * np.asarray(self.spacings)
        return _triple(np.percentile(edges, percentile, axis=0))

    def to_dict(self) -> dict[str, Any]:
        """Nested dicts, lists and scalars, ready for JSON; percentiles are added for the reader."""
        content: dict[str, Any] = dataclasses.asdict(self)
        content["labels"] = dict(zip(self.labels.names, self.labels.values, strict=True))
        for name, figures in (("spacing", self.spacing), ("shape", self.shape), ("size_mm", self.size_mm)):
            content[f"{name}_percentiles"] = {
                str(p): list(figures(p)) for p in (0.0, 10.0, 50.0, 75.0, 100.0)
            }
        return content


@dataclass(frozen=True, eq=False)
class _CaseFigures:
    """One case's share of the fingerprint; rows of ``sizes`` etc. belong to ``present`` channel indices."""

    orientation: str
    spacing: Floats
    shape: Triple
    box_shape: Triple
    samples: npt.NDArray[np.float32]  # (C, samples)
    looks: tuple[Hounsfield, ...]
    nonzero_share: float
    box_share: float
    labels_in_box: float
    foreground_share: float
    present: tuple[int, ...]
    volumes_ml: tuple[float, ...]
    extents_mm: tuple[Floats, ...]
    centres: tuple[Floats, ...]


def compute_fingerprint(dataset: Dataset, *, executor: Executor | None = None, seed: int = 0) -> Fingerprint:
    """Read every labelled case once and collect the figures that a plan needs.

    Args:
        dataset: cases without labels are left out.
        executor: reads the cases in parallel; ``None`` reads one after the other.
        seed: of the choice of voxels for the intensity statistics; the executor makes no difference.

    Raises:
        DatasetError: there is no labelled case, no labelled voxel, a wrong number of channels, or a voxel
            that is not finite.
        GeometryError: a label map is not on the grid of its scan.
        LabelError: a label map holds unknown values.
        UnreadableFileError, MissingFileError: a file is broken or missing.
    """
    cases = dataset.labelled
    if not cases:
        raise DatasetError(
            f"{dataset.name}: no labelled case among {len(dataset.cases)}; a plan needs at least one"
        )
    measure = partial(_measure, labels=dataset.labels, channels=dataset.channels)
    seeds = [(seed, index) for index in range(len(cases))]
    found = list(map(measure, cases, seeds) if executor is None else executor.map(measure, cases, seeds))
    return _pool(dataset, found)


def _measure(
    case: Case, seed: tuple[int, int], *, labels: LabelTable, channels: tuple[str, ...]
) -> _CaseFigures:
    """The figures of one case."""
    from nibabel.orientations import io_orientation

    if case.label is None:
        raise DatasetError(f"case {case.name} has no label map")
    header = read_header(case.images[0])
    if difference := grid_difference(header, read_header(case.label)):
        raise GeometryError(f"{case.label}: not on the grid of {case.images[0].name} ({difference})")
    image = read_image(case.images).numpy()
    if len(image) != len(channels):
        raise DatasetError(
            f"{case.images[0]}: expected {len(channels)} channels ({', '.join(channels)}), found {len(image)}"
        )
    indices = labels.to_indices(read_label_map(case.label))
    indices = indices.reshape(image.shape[1:]).astype(np.uint16 if len(labels) > 255 else np.uint8)

    # row i of io_orientation names the anatomical axis that array axis i runs along
    order = np.argsort(io_orientation(header.affine)[:, 0])
    reverse = io_orientation(header.affine)[order, 1] < 0
    spacing = np.asarray(header.spacing)[order]
    labelled = indices > 0
    values = image[:, labelled]
    if values.shape[1] > SAMPLES_PER_CASE:
        chosen = np.random.default_rng(seed).choice(values.shape[1], SAMPLES_PER_CASE, replace=False)
        values = values[:, chosen]
    nonzero = (image != 0).any(axis=0)
    box = _box(nonzero)
    present, volumes, extents, centres = _structures(indices, order, reverse, spacing)
    return _CaseFigures(
        orientation=header.orientation,
        spacing=_triple(spacing),
        shape=_whole(np.asarray(indices.shape)[order]),
        box_shape=_whole(np.asarray(nonzero[box].shape)[order]),
        samples=values,
        looks=tuple(hounsfield_units(channel) for channel in image),
        nonzero_share=float(nonzero.mean()),
        box_share=float(nonzero[box].size / nonzero.size),
        labels_in_box=float(labelled[box].sum() / max(labelled.sum(), 1)),
        foreground_share=float(labelled.mean()),
        present=present,
        volumes_ml=volumes,
        extents_mm=extents,
        centres=centres,
    )


def _box(mask: npt.NDArray[np.bool_]) -> tuple[slice, ...]:
    """Slices of the box around the true voxels; empty where there are none."""
    from scipy.ndimage import find_objects

    boxes = find_objects(mask.astype(np.uint8))
    return boxes[0] if boxes else (slice(0, 0),) * mask.ndim


def _structures(
    indices: npt.NDArray[Any],
    order: npt.NDArray[np.intp],
    reverse: npt.NDArray[np.bool_],
    spacing: npt.NDArray[np.float64],
) -> tuple[tuple[int, ...], tuple[float, ...], tuple[Floats, ...], tuple[Floats, ...]]:
    """Channel index, ml, extent and centre of the structures of one label map, along R, A, S."""
    from scipy.ndimage import center_of_mass, find_objects

    around = _box(indices > 0)
    low = np.asarray([s.start for s in around])[order]
    size = np.maximum(np.asarray([s.stop - s.start for s in around])[order], 1)
    present, volumes, extents, centres = [], [], [], []
    for index, box in enumerate(find_objects(indices), start=1):
        if box is None:
            continue
        inside = indices[box] == index
        corner = np.asarray([s.start for s in box])
        centre = ((np.asarray(center_of_mass(inside)) + corner + 0.5)[order] - low) / size
        present.append(index)
        volumes.append(float(inside.sum() * spacing.prod() / 1000))
        extents.append(_triple(np.asarray(inside.shape)[order] * spacing))
        centres.append(_triple(np.where(reverse, 1 - centre, centre)))
    return tuple(present), tuple(volumes), tuple(extents), tuple(centres)


def _pool(dataset: Dataset, found: list[_CaseFigures]) -> Fingerprint:
    """The cases' figures together."""
    samples = np.concatenate([f.samples for f in found], axis=1)
    if samples.shape[1] == 0:
        raise DatasetError(f"{dataset.name}: every label map is empty, so there is nothing to learn")
    orientations = [f.orientation for f in found]
    assumed = assume_channels(dataset.channels, dataset.channels_named_by, [f.looks for f in found])
    return Fingerprint(
        dataset=dataset.name,
        cases=len(found),
        channels=assumed.channels,
        labels=dataset.labels,
        modality=assumed.modality,
        modality_reason=assumed.reason,
        modality_doubts=assumed.doubts,
        orientations={name: orientations.count(name) for name in sorted(set(orientations))},
        spacings=tuple(f.spacing for f in found),
        shapes=tuple(f.shape for f in found),
        box_shapes=tuple(f.box_shape for f in found),
        intensities=tuple(
            _intensities(n, s) for n, s in zip(assumed.channels, samples.astype(np.float64), strict=True)
        ),
        nonzero_share=float(np.median([f.nonzero_share for f in found])),
        box_share=float(np.median([f.box_share for f in found])),
        labels_in_box=min(f.labels_in_box for f in found),
        foreground_share=float(np.median([f.foreground_share for f in found])),
        structures=_pool_structures(dataset.labels, found),
    )


def _intensities(name: str, values: npt.NDArray[np.float64]) -> ChannelIntensities:
    low, median, high = np.percentile(values, [0.5, 50, 99.5])
    return ChannelIntensities(
        name, float(low), float(median), float(high), float(values.mean()), float(values.std())
    )


def _pool_structures(labels: LabelTable, found: list[_CaseFigures]) -> tuple[StructureSize, ...]:
    """Medians over the cases that have a structure; structures that no case has are left out."""
    result = []
    for index, (value, name) in enumerate(labels.structures.items(), start=1):
        rows = [(f, f.present.index(index)) for f in found if index in f.present]
        if rows:
            result.append(
                StructureSize(
                    name=name,
                    value=value,
                    cases=len(rows),
                    volume_ml=float(np.median([f.volumes_ml[i] for f, i in rows])),
                    extent_mm=_triple(np.median([f.extents_mm[i] for f, i in rows], axis=0)),
                    centre=_triple(np.median([f.centres[i] for f, i in rows], axis=0)),
                )
            )
    return tuple(result)


def _triple(values: npt.NDArray[Any]) -> Floats:
    a, b, c = (float(v) for v in values)
    return a, b, c


def _whole(values: npt.NDArray[Any]) -> Triple:
    a, b, c = (int(v) for v in values)
    return a, b, c
