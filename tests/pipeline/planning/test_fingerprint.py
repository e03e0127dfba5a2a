"""Fingerprints of volumes whose figures are known."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from atlaseg.pipeline.case import Case, Dataset, LabelTable
from atlaseg.pipeline.datasets import read_dataset
from atlaseg.pipeline.errors import DatasetError, GeometryError, LabelError
from atlaseg.pipeline.planning.fingerprint import compute_fingerprint

LABELS = LabelTable.from_names({"block": 1, "rod": 7})


def write(path: Path, voxels: np.ndarray, affine: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


def anatomy() -> tuple[np.ndarray, np.ndarray]:
    """Scan and labels of 20 x 30 x 10 voxels in RAS order; a block of value 50 and a rod of value 90."""
    label = np.zeros((20, 30, 10), np.uint8)
    label[4:8, 10:20, 2:8] = 1
    label[12:14, 10:30, 4:6] = 7
    image = np.zeros(label.shape, np.float32)
    image[2:18, 5:, :] = 10
    image[label == 1] = 50
    image[label == 7] = 90
    return image, label


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """The same anatomy stored as RAS with 1 x 0.5 x 3 mm, and as PIL."""
    image, label = anatomy()
    affine = np.diag([1, 0.5, 3, 1])
    cases = []
    for name, codes in (("ras", "RAS"), ("pil", "PIL")):
        turn = nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes)
        )
        files = []
        for kind, voxels in (("image", image), ("label", label)):
            turned = nib.Nifti1Image(voxels, affine).as_reoriented(turn)
            path = tmp_path / f"{kind}s" / f"{name}.nii.gz"
            path.parent.mkdir(exist_ok=True)
            nib.save(turned, path)
            files.append(path)
        cases.append(Case(name, (files[0],), files[1]))
    return Dataset("toy", tuple(cases), LABELS, ("T1",))


def test_geometry_is_in_anatomical_axes_for_any_axes_on_disk(dataset: Dataset) -> None:
    found = compute_fingerprint(dataset)
    assert found.orientations == {"PIL": 1, "RAS": 1}
    assert found.shapes == ((20, 30, 10),) * 2
    np.testing.assert_allclose(found.spacings, [[1, 0.5, 3]] * 2, rtol=1e-6)
    np.testing.assert_allclose(found.size_mm(), [20, 15, 30], rtol=1e-6)
    assert found.box_shapes == ((16, 25, 10),) * 2


def test_structures_have_known_volume_extent_and_centre(dataset: Dataset) -> None:
    block, rod = compute_fingerprint(dataset).structures
    assert (block.name, block.value, block.cases) == ("block", 1, 2)
    assert block.volume_ml == pytest.approx(4 * 10 * 6 * 1.5 / 1000, rel=1e-6)
    np.testing.assert_allclose(block.extent_mm, [4, 5, 18], rtol=1e-6)
    # the box around both is 4:14, 10:30, 2:8
    np.testing.assert_allclose(block.centre, [0.2, 0.25, 0.5])
    np.testing.assert_allclose(rod.centre, [0.9, 0.5, 0.5])
    np.testing.assert_allclose(rod.extent_mm, [2, 10, 6], rtol=1e-6)


def test_intensities_and_shares_are_numpys(dataset: Dataset) -> None:
    image, label = anatomy()
    found = compute_fingerprint(dataset)
    inside = image[label > 0]
    (channel,) = found.intensities
    assert channel.mean == pytest.approx(inside.mean())
    assert channel.std == pytest.approx(inside.std())
    assert (channel.percentile_00_5, channel.percentile_99_5) == (50, 90)
    assert found.foreground_share == pytest.approx((label > 0).mean())
    assert found.nonzero_share == pytest.approx((image > 0).mean())
    assert found.box_share == pytest.approx(16 * 25 * 10 / image.size)
    assert found.labels_in_box == 1


def test_executor_and_order_make_no_difference_and_seed_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(size=(32, 32, 32)).astype(np.float32)
    label = np.ones(image.shape, np.uint8)  # more voxels than are drawn
    cases = tuple(
        Case(
            n,
            (write(tmp_path / f"{n}.nii", image, np.eye(4)),),
            write(tmp_path / f"{n}_l.nii", label, np.eye(4)),
        )
        for n in "ab"
    )
    dataset = Dataset("noise", cases, LabelTable.from_values([1]))
    one = compute_fingerprint(dataset, seed=3)
    with ThreadPoolExecutor(2) as executor:
        assert compute_fingerprint(dataset, executor=executor, seed=3) == one
    assert compute_fingerprint(dataset, seed=4).intensities != one.intensities
    # 10,000 of 32,768 voxels: the subsample agrees with all of them
    assert one.intensities[0].std == pytest.approx(image.std(), rel=0.03)
    assert one.intensities[0].percentile_99_5 == pytest.approx(np.percentile(image, 99.5), rel=0.05)


def test_fingerprint_is_json(dataset: Dataset) -> None:
    content = json.loads(json.dumps(compute_fingerprint(dataset).to_dict()))
    assert content["labels"] == {"background": 0, "block": 1, "rod": 7}
    assert content["shape_percentiles"]["50.0"] == [20, 30, 10]


def test_intensities_decide_on_unnamed_channels(tmp_path: Path) -> None:
    image, label = anatomy()
    hounsfield = np.where(image == 0, np.float32(-1000), image)  # air around soft tissue
    file = write(tmp_path / "scan.nii", hounsfield, np.eye(4))
    case = Case("a", (file,), write(tmp_path / "label.nii", label, np.eye(4)))
    found = compute_fingerprint(Dataset("toy", (case,), LABELS, ("MRI",), None))
    assert (found.channels, found.modality) == (("CT",), "CT")
    assert [c.name for c in found.intensities] == ["CT"]
    assert "no name is given for the channel" in found.modality_reason
    named = compute_fingerprint(Dataset("toy", (case,), LABELS, ("T1",), "channels.json"))
    assert (named.channels, named.modality) == (("T1",), "MRI")
    assert "like Hounsfield units in 1 of 1 scan" in named.modality_doubts[0]


def test_refusals_name_file_and_remedy(tmp_path: Path) -> None:
    image, label = anatomy()
    good = write(tmp_path / "good.nii", image, np.eye(4))
    labels = write(tmp_path / "label.nii", label, np.eye(4))

    def attempt(case: Case, channels: tuple[str, ...] = ("T1",)) -> None:
        compute_fingerprint(Dataset("toy", (case,), LABELS, channels))

    with pytest.raises(DatasetError, match="no labelled case among 1"):
        attempt(Case("a", (good,)))
    with pytest.raises(DatasetError, match="expected 2 channels"):
        attempt(Case("a", (good,), labels), ("T1", "T2"))
    shifted = write(tmp_path / "shifted.nii", label, np.diag([1.0, 1, 2, 1]))
    with pytest.raises(GeometryError, match=r"shifted.nii: not on the grid of good.nii"):
        attempt(Case("a", (good,), shifted))
    empty = write(tmp_path / "empty.nii", label * 0, np.eye(4))
    with pytest.raises(DatasetError, match="every label map is empty"):
        attempt(Case("a", (good,), empty))
    unknown = write(tmp_path / "unknown.nii", np.where(label == 7, 9, label).astype(np.uint8), np.eye(4))
    with pytest.raises(LabelError, match=r"unknown label values \[9\]"):
        attempt(Case("a", (good,), unknown))
    image[0, 0, 0] = np.nan
    broken = write(tmp_path / "nan.nii", image, np.eye(4))
    with pytest.raises(DatasetError, match=r"nan.nii: 1 of 6000 voxels are NaN"):
        attempt(Case("a", (broken,), labels))


@pytest.mark.real
def test_mouse_brains_have_the_documented_geometry(real_data: Path) -> None:
    found = compute_fingerprint(read_dataset(real_data / "mouse_brain_fvb"))
    assert found.shapes == ((112, 128, 80),) * 5
    assert found.orientations == {"RAS": 5}
    np.testing.assert_allclose(found.spacings, 0.15, rtol=1e-4)
    assert len(found.structures) == 37
    # both hippocampi of a mouse together are a few hundredths of a millilitre
    assert 0.01 < found.structures[0].volume_ml < 0.03
