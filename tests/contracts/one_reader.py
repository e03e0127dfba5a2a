"""Files of one case whose headers say the same thing in many ways, and what every part of the software sees of them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

SHAPE = (9, 8, 7)
MILLIMETRES = {"unknown": 1.0, "meter": 1000.0, "mm": 1.0, "micron": 0.001}


def affine_of(axes: str = "RAS", spacing: Any = (1.0, 1.0, 1.0), angles: Any = (0.0, 0.0, 0.0)) -> np.ndarray:
    """Voxel index -> RAS+: axes as anatomical codes, then turned by angles in degrees."""
    ornt = nib.orientations.axcodes2ornt(tuple(axes))
    matrix = np.zeros((3, 3))
    for voxel_axis, (world_axis, sign) in enumerate(ornt):
        matrix[int(world_axis), voxel_axis] = sign
    result = np.eye(4)
    result[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ matrix @ np.diag(spacing)
    result[:3, 3] = (-12.25, 40.5, 7.75)
    return result


@dataclass(frozen=True)
class Store:
    """How one file is stored.

    Args:
        affine: of the header, in the header's unit.
        qform: the qform, where it is another one.
        codes: of qform and sform.
        unit: of length.
        dtype: on disk.
        slope: and intercept as stored; voxels on disk are such that the values are right as far as the type allows.
        raw_slope: bytes of slope and intercept put into the file afterwards, whatever the voxels are.
        pixdim: voxel sizes put into the header afterwards.
        kind: of NIfTI.
        endian: byte order.
        suffix: of the file.
    """

    affine: np.ndarray = field(default_factory=affine_of)
    qform: np.ndarray | None = None
    codes: tuple[int, int] = (1, 1)
    unit: str = "mm"
    dtype: Any = np.float32
    slope: tuple[float, float] | None = None
    raw_slope: tuple[float, float] | None = None
    pixdim: tuple[float, float, float] | None = None
    kind: type = nib.Nifti1Image
    endian: str = "<"
    suffix: str = ".nii.gz"

    def write(self, path: Path, voxels: np.ndarray) -> Path:
        """Write values, ``(x, y, ...)``; returns the file's path."""
        header = self.kind.header_class(endianness=self.endian)
        header.set_data_dtype(np.dtype(self.dtype).newbyteorder(self.endian))
        header.set_data_shape(voxels.shape)
        # sizes first, since set_qform takes them from its matrix and set_sform leaves them
        header.set_qform(self.affine if self.qform is None else self.qform, 1)
        header.set_sform(self.affine, self.codes[1])
        header["qform_code"] = self.codes[0]
        if not self.codes[0]:
            header["quatern_b"] = header["quatern_c"] = header["quatern_d"] = 0
        header.set_xyzt_units(self.unit)
        stored = voxels
        if self.slope is not None:
            header.set_slope_inter(*self.slope)
        if np.dtype(self.dtype).kind in "iu" and self.slope is None:
            stored = np.rint(voxels).astype(self.dtype)
        path.parent.mkdir(parents=True, exist_ok=True)
        plain = path.with_name(path.name + ".nii")
        nib.save(self.kind(stored, None, header), plain)
        content = bytearray(plain.read_bytes())
        plain.unlink()
        if self.raw_slope is not None:
            form, place = ("2f", 112) if self.kind is nib.Nifti1Image else ("2d", 176)
            struct.pack_into(self.endian + form, content, place, *self.raw_slope)
        if self.pixdim is not None:
            form, place = ("3f", 80) if self.kind is nib.Nifti1Image else ("3d", 112)
            struct.pack_into(self.endian + form, content, place, *self.pixdim)
        if self.suffix.lower().endswith(".gz"):
            import gzip

            content = bytearray(gzip.compress(bytes(content), 1))
        target = path.with_name(path.name + self.suffix)
        target.write_bytes(content)
        return target


@dataclass(frozen=True)
class Variation:
    """One way to store a case.

    Args:
        name: for people.
        image: how the scan is stored.
        label: how the label map is stored; by default as the scan, in whole numbers of 16 bits.
        second: how a second channel is stored in a file of its own, if there is one.
        axes: dimensions of the files: ``2d``, ``slice``, ``3d``, ``4d`` (``x, y, z, 1``), ``5d`` (``x, y, z, 1, C``),
            ``channels`` (``x, y, z, C``).
        values: of the two structures.
        wrong: what is added to the values of labels on disk.
        voxel: what is put into one voxel of the scan.
        refusal: what every part says that reads the scan, instead of reading it.
        label_refusal: what every part says that reads the label map.
        warning: what is said while reading goes on.
    """

    name: str
    image: Store = field(default_factory=Store)
    label: Store | None = None
    second: Store | None = None
    axes: str = "3d"
    values: tuple[int, int] = (1, 4)
    wrong: float = 0.0
    voxel: float | None = None
    refusal: str | None = None
    label_refusal: str | None = None
    warning: str | None = None

    @property
    def channels(self) -> int:
        """Of the scan."""
        return 2 if self.second is not None or self.axes in ("5d", "channels") else 1

    def write(self, folder: Path) -> tuple[tuple[Path, ...], Path]:
        """Write a case into a plain data set; returns the files of the scan, and the label map."""
        shape = SHAPE[:2] if self.axes == "2d" else (*SHAPE[:2], 1) if self.axes == "slice" else SHAPE
        rng = np.random.default_rng(7)
        label = np.zeros(shape)
        label[1:4, 2:6] = self.values[0]
        label[4:8, 1:3] = self.values[1]
        whole = (
            rng.integers(1, 90, shape) + 100.0 * (label == self.values[0]) + 200.0 * (label == self.values[1])
        )
        if self.voxel is not None:
            whole.flat[0] = self.voxel
        stored = label + self.wrong * (label > 0)
        if self.axes == "4d":
            whole, stored = whole[..., None], stored[..., None]
        elif self.axes == "5d":
            whole, stored = np.stack([whole, 500 - whole], -1)[..., None, :], stored[..., None, None]
        elif self.axes == "channels":
            whole = np.stack([whole, 500 - whole], -1)
        ending = "case_0000" if self.second is not None else "case"
        images = [self.image.write(folder / "images" / ending, whole)]
        if self.second is not None:
            images.append(self.second.write(folder / "images" / "case_0001", 500 - whole))
        how = self.label or replace(self.image, dtype=np.int16, slope=None, raw_slope=self.image.raw_slope)
        return tuple(images), how.write(folder / "labels" / "case", stored)


@dataclass(frozen=True)
class Seen:
    """What a part of the software sees; ``None`` for what it does not look at.

    Args:
        image: ``(C, x, y, z)``.
        affine: voxel index -> RAS+ mm.
        label: ``(x, y, z)``.
    """

    image: np.ndarray | None = None
    affine: np.ndarray | None = None
    label: np.ndarray | None = None


def plainly(images: tuple[Path, ...], label: Path) -> Seen:
    """What nibabel and numpy say, with the unit of the header taken into account, and labels rounded."""

    def volumes(path: Path) -> np.ndarray:
        voxels = np.asanyarray(nib.load(path).dataobj)
        return np.moveaxis(voxels.reshape(*(*voxels.shape, 1, 1)[:3], -1), -1, 0)

    first = nib.load(images[0])
    scale = MILLIMETRES[first.header.get_xyzt_units()[0]]
    return Seen(
        image=np.concatenate([volumes(path) for path in images]).astype(np.float32),
        affine=np.diag([scale, scale, scale, 1.0]) @ first.affine,
        label=np.rint(volumes(label)[0]).astype(np.int64),
    )


@dataclass(frozen=True)
class Consumer:
    """A part of the software that reads files.

    Args:
        name: for people.
        look: takes a variation, its scan and its label map, and a folder to write into.
        reads: which files it reads: ``image``, ``label``, or both in this order.
        together: whether it reads the files of all channels as one scan.
    """

    name: str
    look: Callable[[Variation, tuple[Path, ...], Path, Path], Seen]
    reads: tuple[str, ...]
    together: bool = True


def by_check(variation: Variation, images: tuple[Path, ...], label: Path, folder: Path) -> Seen:
    """Shape, voxel size and volumes of structures, which stand for affine and label map."""
    from atlaseg.pipeline.datasets.inspection import inspect_dataset
    from atlaseg.pipeline.errors import DatasetError

    found = inspect_dataset(images[0].parent.parent)
    if found.errors:
        raise DatasetError("; ".join(f"{problem.file}: {problem.message}" for problem in found.errors))
    if variation.warning:
        assert any(variation.warning in problem.message for problem in found.warnings), found.warnings
    (case,), expected = found.cases, plainly(images, label)
    assert expected.label is not None
    assert expected.affine is not None
    assert case.shape == expected.label.shape
    assert case.channels == variation.channels
    np.testing.assert_allclose(case.spacing, np.linalg.norm(expected.affine[:3, :3], axis=0), rtol=1e-6)
    assert case.orientation == "".join(nib.aff2axcodes(expected.affine))
    ml = abs(np.linalg.det(expected.affine[:3, :3])) / 1000
    for value in variation.values:
        assert case.volumes[value] == pytest.approx(ml * (expected.label == value).sum())
    return Seen()


def by_fingerprint(variation: Variation, images: tuple[Path, ...], label: Path, folder: Path) -> Seen:
    """Voxel size, shape, volumes and intensities of labelled voxels."""
    from atlaseg.pipeline.case import Case, Dataset, LabelTable
    from atlaseg.pipeline.planning.fingerprint import compute_fingerprint

    channels = tuple(f"c{i}" for i in range(variation.channels))
    table = LabelTable.from_values(variation.values)
    found = compute_fingerprint(Dataset("d", (Case("case", images, label),), table, channels))
    expected = plainly(images, label)
    assert expected.image is not None
    assert expected.affine is not None
    assert expected.label is not None
    spacing = np.linalg.norm(expected.affine[:3, :3], axis=0)
    np.testing.assert_allclose(sorted(found.spacings[0]), sorted(spacing), rtol=1e-6)
    assert sorted(found.shapes[0]) == sorted(expected.label.shape)
    for channel, figures in enumerate(found.intensities):
        assert figures.median == pytest.approx(np.median(expected.image[channel][expected.label > 0]))
    ml = abs(np.linalg.det(expected.affine[:3, :3])) / 1000
    sizes = {structure.value: structure.volume_ml for structure in found.structures}
    for value in variation.values:
        assert sizes[value] == pytest.approx(ml * (expected.label == value).sum())
    return Seen()


def _configs(*names: str, **values: Any) -> Any:
    """MONAI's parser of the templates that a run is made of."""
    import yaml
    from monai.bundle import ConfigParser

    from atlaseg.pipeline.bundle import template

    content: dict[str, Any] = {}
    for name in names:
        content |= yaml.safe_load(template(name))
    return ConfigParser(content | values)


def _loaded(transforms: list[Any], data: dict[str, Any]) -> Seen:
    from monai.transforms import Compose

    from atlaseg.pipeline.errors import AtlasegError

    try:
        case = Compose(transforms)(data)
    except RuntimeError as error:  # MONAI names the transform; the reason comes behind
        reason: BaseException | None = error
        while reason is not None and not isinstance(reason, AtlasegError):
            reason = reason.__cause__
        raise (reason or error) from error
    affine = np.asarray(case["image"].affine)
    if "label" not in case:
        return Seen(case["image"].numpy(), affine)
    np.testing.assert_array_equal(np.asarray(case["label"].affine), affine)
    return Seen(case["image"].numpy(), affine, case["label"].numpy()[0])


def by_training(variation: Variation, images: tuple[Path, ...], label: Path, folder: Path) -> Seen:
    """What `train.yaml` loads, for training and for validation, which share their preprocessing."""
    parser = _configs("common.yaml", "train.yaml")
    assert parser["validate"]["preprocessing"] == "@train#preprocessing"
    assert parser["train"]["preprocessing"]["transforms"] == "$@loading + @label_loading + @gridding"
    names = [str(path) for path in images]
    data = {"image": names if len(names) > 1 else names[0], "label": str(label)}
    loading = [parser.get_parsed_content("loading"), parser.get_parsed_content("label_loading")]
    return _loaded([*loading[0], *loading[1]], data)


def by_bundle(variation: Variation, images: tuple[Path, ...], label: Path, folder: Path) -> Seen:
    """What MONAI alone loads with the run's own scripts."""
    from atlaseg.pipeline.bundle import write_scripts

    write_scripts(folder)
    parser = _configs("common.yaml", "inference.yaml", "evaluate.yaml", bundle_root=str(folder))
    names = [str(path) for path in images]
    data = {"image": names if len(names) > 1 else names[0], "truth": str(label)}
    with _ends_in_one_line():
        case = _loaded(parser.get_parsed_content("loading")[:1], data)
        truth = parser.get_parsed_content("loading")[1]({"truth": str(label)})["truth"]
    return Seen(case.image, case.affine, truth.numpy()[0])


@contextmanager
def _ends_in_one_line() -> Iterator[None]:
    from atlaseg.pipeline.errors import AtlasegError

    try:
        yield
    except SystemExit as end:
        raise AtlasegError(end.code) from end


def by_segment(variation: Variation, images: tuple[Path, ...], label: Path, folder: Path) -> Seen:
    """What `atlaseg segment` hands to a network, and the grid that it writes the result on."""
    from atlaseg.pipeline.segmenter import Segmentation
    from atlaseg.workflows.methods.segmenter_labelling import SegmenterLabeller

    handed: list[Any] = []

    def segment(image: Any, **_: Any) -> Segmentation:
        handed.append(image)
        return Segmentation(np.ones(image.shape[1:], np.uint8), np.asarray(image.affine))

    labeller = SegmenterLabeller(cast("Any", SimpleNamespace(segment=segment)), 1)
    result = labeller.label("case", images, "case")
    from atlaseg.pipeline.io.volume import write_label_map

    write_label_map(folder / "result.nii.gz", result.label_map, images[0])
    written, source = nib.load(folder / "result.nii.gz"), nib.load(images[0])
    np.testing.assert_array_equal(written.affine, source.affine)
    assert written.shape == source.shape[:3]
    assert written.header.get_xyzt_units()[0] == source.header.get_xyzt_units()[0]
    return Seen(handed[0].numpy(), np.asarray(handed[0].affine))


def by_register(variation: Variation, images: tuple[Path, ...], label: Path, folder: Path) -> Seen:
    """What registration sees: an ITK image in LPS+ mm."""
    import SimpleITK as sitk

    from atlaseg.atlases.registration.intensity_scale import rescale
    from atlaseg.atlases.registration.transforms.frames import as_itk, from_itk

    seen, affine = [], np.eye(4)
    for path in images:
        for channel in range(variation.channels if len(images) == 1 else 1):
            image = as_itk(path, channel)
            rescale(from_itk(image)[0], name=str(path))
            seen.append(sitk.GetArrayFromImage(image).T)
            if len(seen) == 1:
                origin = np.array(image.TransformContinuousIndexToPhysicalPoint((0.0, 0.0, 0.0)))
                steps = [image.TransformContinuousIndexToPhysicalPoint(tuple(row)) for row in np.eye(3)]
                affine[:3, 3], affine[:3, :3] = origin, np.transpose(steps) - origin[:, None]
    return Seen(np.stack(seen), np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)


def by_evaluate(variation: Variation, images: tuple[Path, ...], label: Path, folder: Path) -> Seen:
    """Scores of the label map against one that plain nibabel wrote, in which one voxel is missing."""
    from atlaseg.pipeline.case import LabelTable
    from atlaseg.pipeline.errors import DatasetError
    from atlaseg.workflows.evaluate import _compare
    from atlaseg.workflows.inputs.pairing import Pair

    table = LabelTable.from_values(variation.values)
    if variation.refusal or variation.label_refusal:
        if problem := _compare(Pair("case", label, label), table, tolerance_mm=1.0, surface="voxels").problem:
            raise DatasetError(problem)
        return Seen()
    expected = plainly(images, label)
    assert expected.label is not None
    assert expected.affine is not None
    other = expected.label.copy()
    other[tuple(np.argwhere(other == variation.values[0])[0])] = 0
    nib.save(nib.Nifti1Image(other, expected.affine, dtype=np.int64), folder / "other.nii.gz")
    pair = Pair("case", label, folder / "other.nii.gz")
    outcome = _compare(pair, table, tolerance_mm=1.0, surface="voxels")
    if outcome.problem:
        raise DatasetError(outcome.problem)
    ml = abs(np.linalg.det(expected.affine[:3, :3])) / 1000
    for score in outcome.scores:
        size = int((expected.label == score.value).sum())
        missing = int(score.value == variation.values[0])
        assert score.dice == pytest.approx(2 * (size - missing) / (2 * size - missing))
        assert score.volume_reference_ml == pytest.approx(ml * size)
    return Seen()


def by_fuse(variation: Variation, images: tuple[Path, ...], label: Path, folder: Path) -> Seen:
    """The majority of three times the same label map."""
    from atlaseg.workflows.fuse import Fuse

    copies = [label.with_name(f"{i}{label.name.removeprefix('case')}") for i in range(2)]
    for copy in copies:
        copy.write_bytes(label.read_bytes())
    try:
        Fuse((label, *copies), folder / "fused.nii.gz").run()
    finally:
        for copy in copies:
            copy.unlink()
    fused = nib.load(folder / "fused.nii.gz")
    np.testing.assert_array_equal(fused.affine, nib.load(label).affine)
    return Seen(label=np.asanyarray(fused.dataobj).astype(np.int64))


CONSUMERS = (
    Consumer("check", by_check, ("image", "label")),
    Consumer("fingerprint", by_fingerprint, ("image", "label")),
    Consumer("training and validation", by_training, ("image", "label")),
    Consumer("exported bundle", by_bundle, ("image", "label")),
    Consumer("segment", by_segment, ("image",)),
    Consumer("register", by_register, ("image",), together=False),
    Consumer("evaluate", by_evaluate, ("label",)),
    Consumer("fuse", by_fuse, ("label",)),
)
