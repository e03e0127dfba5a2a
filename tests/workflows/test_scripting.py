"""What scripts call: the same jobs as the commands, with objects instead of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import atlaseg
from atlaseg.atlases.multi_atlas_segmenter import MultiAtlasSegmenter
from atlaseg.pipeline.classical.classical_segmenter import ClassicalSegmenter
from atlaseg.pipeline.errors import DatasetError, GeometryError, OptionError
from atlaseg.workflows.cli import main


def write(path: Path, voxels: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.asarray(voxels, dtype=np.uint8), np.diag((1.0, 1, 2, 1))), path)
    return path


@pytest.fixture
def raters(tmp_path: Path) -> list[Path]:
    """Three label maps of one row of four voxels."""
    rows = ([0, 4, 4, 0], [0, 4, 9, 0], [4, 4, 9, 0])
    return [write(tmp_path / f"{n}.nii.gz", np.reshape(row, (4, 1, 1))) for n, row in enumerate(rows)]


def test_fuse_votes(raters: list[Path], tmp_path: Path) -> None:
    result = atlaseg.fuse([str(path) for path in raters], probabilities=True)
    np.testing.assert_array_equal(result.label_map.ravel(), [0, 4, 9, 0])
    np.testing.assert_array_equal(result.affine, np.diag((1.0, 1, 2, 1)))
    np.testing.assert_allclose(np.asarray(result.probabilities)[:, 2, 0, 0], [0, 1 / 3, 2 / 3], atol=1e-6)
    assert main(["fuse", *map(str, raters), "--out", str(tmp_path / "command.nii.gz")]) == 0
    np.testing.assert_array_equal(nib.load(tmp_path / "command.nii.gz").dataobj, result.label_map)


def test_fuse_by_a_rule_of_ones_own(raters: list[Path]) -> None:
    class First:
        def fuse(self, candidates: atlaseg.Candidates, *, probabilities: bool = True) -> atlaseg.Fused:
            return atlaseg.Fused(candidates.labels[0])

    np.testing.assert_array_equal(atlaseg.fuse(raters, First()).label_map.ravel(), [0, 4, 4, 0])
    with pytest.raises(OptionError, match="belong into the rule itself"):
        atlaseg.fuse(raters, First(), sigma=2)
    with pytest.raises(OptionError, match="at least two label maps, found 1"):
        atlaseg.fuse(raters[:1])
    with pytest.raises(OptionError, match="has no option 'sigma'"):
        atlaseg.fuse(raters, "majority", sigma=2)


def test_evaluate(raters: list[Path], tmp_path: Path, capsys: Any) -> None:
    scores = atlaseg.evaluate(raters[0], raters[1])
    assert list(scores["value"]) == [4, 9]
    assert scores["dice"].tolist() == pytest.approx([2 / 3, 0])
    assert capsys.readouterr().out == ""
    main(["evaluate", str(raters[0]), str(raters[1]), "--out", str(tmp_path / "scores.csv")])
    assert list(scores.columns) == (tmp_path / "scores.csv").read_text().splitlines()[0].split(",")
    with pytest.raises(OptionError, match="tolerance_mm"):
        atlaseg.evaluate(raters[0], raters[1], tolerance_mm=-1)
    other = write(tmp_path / "other.nii.gz", np.ones((5, 1, 1)))
    with pytest.raises(DatasetError, match="no case could be compared"):
        atlaseg.evaluate(other, raters[0])


def test_save_on_the_grid_of_the_scan(tmp_path: Path) -> None:
    scan = write(tmp_path / "scan.nii.gz", np.zeros((4, 3, 2)))
    labels = np.arange(24, dtype=np.uint8).reshape(4, 3, 2) % 3
    chances = np.stack([labels == k for k in range(3)]).astype(np.float16)
    affine = np.diag((1.0, 1, 2, 1))
    atlaseg.Segmentation(labels, affine, chances).save(tmp_path / "new/labels.nii.gz", scan)
    np.testing.assert_array_equal(nib.load(tmp_path / "new/labels.nii.gz").dataobj, labels)
    saved = nib.load(tmp_path / "new/labels_probabilities.nii.gz")
    np.testing.assert_array_equal(np.moveaxis(np.asarray(saved.dataobj), -1, 0), chances)
    np.testing.assert_array_equal(saved.affine, affine)
    with pytest.raises(GeometryError, match="labels are of another scan"):
        atlaseg.Segmentation(labels, np.eye(4)).save(tmp_path / "wrong.nii.gz", scan)
    assert not (tmp_path / "wrong.nii.gz").exists()


def test_train_is_the_command(shapes_folder: Path, tmp_path: Path) -> None:
    segmenter = atlaseg.train(str(shapes_folder), tmp_path / "run", "kmeans", folds=2, option=["restarts=1"])
    assert isinstance(segmenter, ClassicalSegmenter)
    words = ["train", str(shapes_folder), "--out", str(tmp_path / "command"), "--method", "kmeans"]
    assert main([*words, "--folds", "2", "--option", "restarts=1"]) == 0
    files = {p.relative_to(tmp_path / "run") for p in (tmp_path / "run").rglob("*") if p.is_file()}
    assert files == {
        p.relative_to(tmp_path / "command") for p in (tmp_path / "command").rglob("*") if p.is_file()
    }
    for file in files:
        if file.suffix == ".json":
            assert (tmp_path / "run" / file).read_text() == (tmp_path / "command" / file).read_text()
    name, scan = next(iter(atlaseg.validation_scans(tmp_path / "run", shapes_folder).items()))
    segmenter.segment(atlaseg.read_image(scan)).save(tmp_path / "labels.nii.gz", scan[0])
    assert main(["segment", str(tmp_path / "command"), str(scan[0]), "--out", str(tmp_path / "labels")]) == 0
    np.testing.assert_array_equal(
        nib.load(tmp_path / "labels.nii.gz").dataobj, nib.load(tmp_path / "labels" / f"{name}.nii.gz").dataobj
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 0}, "train: folds must be at least 1"),
        ({"folds": "2"}, "train: folds: expected"),
        ({"epoch": 3}, "train has no option 'epoch'; it has dataset, out, method"),
        ({"epochs": 3}, "--epochs: for networks"),
        ({"method": "kmean"}, "'kmean' is not known"),
    ],
)
def test_options_are_checked_as_by_the_command(
    options: dict[str, Any], message: str, shapes_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=message):
        atlaseg.train(shapes_folder, tmp_path / "run", **{"method": "kmeans", **options})
    assert not (tmp_path / "run").exists()


def test_load_labelled_scans_and_nothing_else(shapes_folder: Path, tmp_path: Path) -> None:
    segmenter = atlaseg.load(str(shapes_folder))
    assert isinstance(segmenter, MultiAtlasSegmenter)
    assert segmenter.atlases.names == tuple(
        case.name for case in atlaseg.read_dataset(str(shapes_folder)).cases
    )
    with pytest.raises(OptionError, match=r"none of .* is a run of atlaseg train"):
        atlaseg.load(tmp_path)


def test_make_phantom(tmp_path: Path) -> None:
    dataset = atlaseg.make_phantom(str(tmp_path / "data"), scans=2, kind="noisy-spheres")
    assert len(dataset.labelled) == 2
    with pytest.raises(OptionError, match="kind"):
        atlaseg.make_phantom(tmp_path / "other", kind="hearts")  # type: ignore[arg-type]


def test_warp_by_the_identity(raters: list[Path], tmp_path: Path) -> None:
    from atlaseg.atlases.registration.transforms.transform import Transform

    volume = write(tmp_path / "volume.nii.gz", np.arange(64).reshape(4, 4, 4))
    atlaseg.warp(volume, Transform.identity(), volume, tmp_path / "warped.nii.gz", labels=True)
    np.testing.assert_array_equal(nib.load(tmp_path / "warped.nii.gz").dataobj, nib.load(volume).dataobj)
