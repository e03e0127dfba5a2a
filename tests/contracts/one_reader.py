"""What every part of the software sees of the files of one case."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import nibabel as nib
import numpy as np
import pytest

from tests.contracts.stored_case import Seen, Variation, plainly


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
        assert score["dice"] == pytest.approx(2 * (size - missing) / (2 * size - missing))
        assert score["volume_reference_ml"] == pytest.approx(ml * size)
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
