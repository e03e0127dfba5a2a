"""Fusing label maps that others made: results, and one clear line for what cannot be fused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from atlaseg.atlases.fusion.candidates import Candidates
from atlaseg.atlases.fusion.generative import GenerativeFusion
from atlaseg.atlases.fusion.registry import FUSION_RULES
from atlaseg.atlases.fusion.staple import Staple
from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.errors import (
    AtlasegError,
    DatasetError,
    GeometryError,
    LabelError,
    MissingFileError,
    OptionError,
    UnreadableFileError,
)
from atlaseg.workflows.cli import main
from atlaseg.workflows.fuse import Fuse

SHAPE = (14, 15, 16)
#: Oblique, anisotropic, mirrored: what must come back to the last digit.
AFFINE = np.array([[-0.8, 0.72, 0, 30], [0.6, 0.96, 0, -20], [0, 0, 2.0, 7], [0, 0, 0, 1]])


class Maker:
    """Writes label maps with values 0, 4 and 255, and images that show them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rng = np.random.default_rng(0)
        self.truth = np.zeros(SHAPE, np.int16)
        self.truth[4:9, 4:11, 4:12] = 4
        self.truth[6:8, 6:9, 6:10] = 255

    def write(self, name: str, voxels: Any, affine: Any = AFFINE) -> Path:
        image = nib.Nifti1Image(voxels, affine)
        image.header["descrip"] = b"somebody"
        path = self.folder / name
        nib.save(image, path)
        return path

    def labels(self, count: int = 3) -> tuple[Path, ...]:
        maps = [np.roll(self.truth, number - 1, axis=0) for number in range(count)]
        return tuple(self.write(f"label{n}.nii.gz", one) for n, one in enumerate(maps))

    def image(self, name: str, label_map: Any, scale: float = 1.0) -> Path:
        voxels = (label_map > 0) + 0.5 * (label_map > 4) + self.rng.normal(0, 0.05, SHAPE)
        return self.write(name, (voxels * scale).astype(np.float32))

    def images(self, labels: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(
            self.image(f"image{n}.nii.gz", np.asarray(nib.load(path).dataobj), 10.0**n)
            for n, path in enumerate(labels)
        )


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return Maker(tmp_path)


def read(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_majority_on_the_first_grid_with_its_values(maker: Maker, tmp_path: Path) -> None:
    labels = maker.labels()
    out = tmp_path / "results" / "fused.nii.gz"
    assert Fuse(labels, out, probabilities=True).run() == 0
    reference = sitk.LabelVoting([sitk.ReadImage(path, sitk.sitkUInt8) for path in labels], 0)
    expected = sitk.GetArrayFromImage(reference).T
    decided = expected != 0
    np.testing.assert_array_equal(read(out)[decided], expected[decided])
    assert set(np.unique(read(out))) == {0, 4, 255}
    assert read(out).dtype == np.uint8
    np.testing.assert_array_equal(nib.load(out).affine, nib.load(labels[0]).affine)
    assert bytes(nib.load(out).header["descrip"]).strip(b"\0") == b""
    chances = read(tmp_path / "results" / "fused_probabilities.nii.gz")
    assert chances.shape == (*SHAPE, 3)
    np.testing.assert_allclose(chances.sum(axis=3), 1, atol=1e-5)
    assert not (tmp_path / "results" / "fused.json").exists()


def test_staple_reports_the_performance_of_each_label_map(maker: Maker, tmp_path: Path) -> None:
    labels = maker.labels()
    Fuse(labels, tmp_path / "fused.nii", method="staple").run()
    report = json.loads((tmp_path / "fused.json").read_text())
    assert report["method"] == "staple"
    assert report["label_values"] == [0, 4, 255]
    assert report["label_maps"] == ["label0.nii.gz", "label1.nii.gz", "label2.nii.gz"]
    assert np.shape(report["performance"]) == (3, 3, 3)
    assert np.trace(report["performance"][1]) > np.trace(report["performance"][0])


def test_staple_says_that_it_has_not_converged(maker: Maker, tmp_path: Path, capsys: Any) -> None:
    words = ["fuse", *map(str, maker.labels()), "--out", str(tmp_path / "fused.nii.gz"), "--method", "staple"]
    assert main([*words, "--option", "max_iterations=1"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("atlaseg fuse: warning: staple has not converged in 1 iterations")


@pytest.mark.parametrize("method", [row.name for row in FUSION_RULES.rows() if row.needs_images])
def test_methods_that_compare_intensities(maker: Maker, tmp_path: Path, method: str) -> None:
    labels = maker.labels()
    job = Fuse(
        labels, tmp_path / "fused.nii.gz", method, maker.image("t.nii", maker.truth), maker.images(labels)
    )
    assert job.run() == 0
    assert (read(job.out) == maker.truth).mean() > 0.98


def test_options_of_a_method(maker: Maker, tmp_path: Path) -> None:
    labels = maker.labels()
    words = ["fuse", *map(str, labels), "--out", str(tmp_path / "cli.nii.gz"), "--method", "staple"]
    assert main([*words, "--option", "region=all", "--option", "max_iterations=3"]) == 0
    report = json.loads((tmp_path / "cli.json").read_text())
    assert report["iterations"] <= 3
    maps = LabelTable.from_values({0, 4, 255})
    candidates = Candidates(np.stack([maps.to_indices(read(path)) for path in labels]), 3)
    expected = Staple(region="all", max_iterations=3).fuse(candidates)
    assert report["performance"] == expected.details["performance"]
    assert report["performance"] != Staple(max_iterations=3).fuse(candidates).details["performance"]


def test_generative_measures_distances_in_the_shape_of_the_voxels(
    maker: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = maker.labels()
    target, images = maker.image("t.nii", maker.truth), maker.images(labels)
    seen = []
    fuse = GenerativeFusion.fuse

    def noted(self, *args, **kwargs):
        seen.append(self)
        return fuse(self, *args, **kwargs)

    monkeypatch.setattr(GenerativeFusion, "fuse", noted)
    for option in ((), ("spacing=1,1,1", "rho=0.5")):
        Fuse(labels, tmp_path / "fused.nii", "generative", target, images, option).run()
    unit = (1.0 * 1.2 * 2.0) ** (1 / 3)
    assert seen[0].spacing == pytest.approx((1.0 / unit, 1.2 / unit, 2.0 / unit))
    assert seen[0].rho == GenerativeFusion().rho
    assert (seen[1].spacing, seen[1].rho) == ((1, 1, 1), 0.5)


def test_whole_numbers_in_a_float_file_are_labels(maker: Maker, tmp_path: Path) -> None:
    first, second, third = maker.labels()
    other = maker.write("float.nii.gz", maker.truth.astype(np.float32))
    Fuse((first, second, third), tmp_path / "a.nii.gz").run()
    Fuse((first, other, third), tmp_path / "b.nii.gz").run()
    np.testing.assert_array_equal(read(tmp_path / "a.nii.gz"), read(tmp_path / "b.nii.gz"))


def refused(kind: type[AtlasegError], message: str, job: Fuse) -> None:
    """The job fails with one line and writes nothing."""
    before = sorted(job.out.parent.iterdir())
    with pytest.raises(kind, match=message) as caught:
        job.run()
    assert "\n" not in str(caught.value)
    assert sorted(job.out.parent.iterdir()) == before


def test_bad_label_maps_are_named(maker: Maker, tmp_path: Path) -> None:
    labels, out = maker.labels(), tmp_path / "fused.nii.gz"
    half = maker.write("half.nii.gz", maker.truth + np.float32(0.5) * (maker.truth > 0))
    refused(LabelError, r"half\.nii\.gz: label values must be whole", Fuse((*labels, half), out))
    negative = maker.write("negative.nii.gz", -maker.truth)
    refused(LabelError, r"negative\.nii\.gz: label values must be 0", Fuse((*labels, negative), out))
    shifted = AFFINE.copy()
    shifted[0, 3] += 1
    moved = maker.write("moved.nii.gz", maker.truth, shifted)
    refused(GeometryError, r"moved\.nii\.gz: not on the grid of .*label0", Fuse((*labels, moved), out))
    small = maker.write("small.nii.gz", maker.truth[1:])
    refused(GeometryError, r"small\.nii\.gz: not on the grid .*13x15x16", Fuse((*labels, small), out))
    many = maker.write("many.nii.gz", np.stack([maker.truth] * 2, axis=3))
    refused(GeometryError, r"many\.nii\.gz: a label map must be 3-D", Fuse((*labels, many), out))
    refused(MissingFileError, "gone.nii: no such file", Fuse((*labels, tmp_path / "gone.nii"), out))
    broken = tmp_path / "broken.nii"
    broken.write_bytes(b"not an image")
    refused(UnreadableFileError, r"broken\.nii", Fuse((*labels, broken), out))


def test_options_that_do_not_fit_are_refused(maker: Maker, tmp_path: Path) -> None:
    labels, out = maker.labels(), tmp_path / "fused.nii.gz"
    target, images = maker.image("t.nii", maker.truth), maker.images(labels)
    refused(OptionError, "no fusion rule 'vote'; choose one of joint, majority", Fuse(labels, out, "vote"))
    refused(
        OptionError,
        "no option 'sigma'; its options are region",
        Fuse(labels, out, "staple", option=("sigma=1",)),
    )
    refused(
        OptionError,
        "max_iterations: expected a whole number, found '2.5'",
        Fuse(labels, out, "staple", option=("max_iterations=2.5",)),
    )
    refused(OptionError, "'region' is not an option", Fuse(labels, out, "staple", option=("region",)))
    refused(OptionError, "initial must lie between", Fuse(labels, out, "staple", option=("initial=2",)))
    refused(OptionError, "at least two label maps, found 1", Fuse(labels[:1], out))
    refused(OptionError, r"fused\.mha: results are written as", Fuse(labels, tmp_path / "fused.mha"))
    refused(OptionError, "would replace an input", Fuse(labels, labels[0]))
    refused(OptionError, "joint fusion compares intensities", Fuse(labels, out, "joint"))
    refused(OptionError, "joint fusion compares intensities", Fuse(labels, out, "joint", target))
    refused(OptionError, "3 label maps but 2 images", Fuse(labels, out, "joint", target, images[:2]))
    refused(OptionError, "staple fusion does not look at images", Fuse(labels, out, "staple", target))


def test_bad_images_are_named(maker: Maker, tmp_path: Path) -> None:
    labels, out = maker.labels(), tmp_path / "fused.nii.gz"
    target, images = maker.image("t.nii", maker.truth), maker.images(labels)

    def job(target: Path, *images: Path) -> Fuse:
        return Fuse(labels, out, "generative", target, images)

    even = maker.write("even.nii.gz", np.full(SHAPE, 3, np.float32))
    refused(DatasetError, r"even\.nii\.gz: every voxel is 3", job(target, even, *images[1:]))
    hole = np.zeros(SHAPE, np.float32)
    hole[0, 0, 0] = np.nan
    refused(
        DatasetError,
        r"hole\.nii\.gz: 1 of 3360 voxels are NaN",
        job(maker.write("hole.nii.gz", hole), *images),
    )
    noise = maker.rng.normal(size=(*SHAPE, 2)).astype(np.float32)
    two = maker.write("two.nii.gz", noise)
    refused(GeometryError, r"two\.nii\.gz: has 2 channel\(s\), the scan", job(target, two, *images[1:]))
    apart = maker.write("apart.nii.gz", noise[..., 0], np.eye(4))
    refused(GeometryError, r"apart\.nii\.gz: not on the grid", job(target, *images[:2], apart))
