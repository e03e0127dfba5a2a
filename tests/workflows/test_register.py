"""The register command, from files to files."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from atlaseg.atlases.registration.engine import RegistrationError
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.atlases.registration.transforms.transform_files import read_transform, write_transform
from atlaseg.pipeline.errors import AtlasegError, DatasetError, GeometryError, MissingFileError, OptionError
from atlaseg.workflows.register import Register

SHIFT = np.array([2.0, -1.5, 1.0])


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two scans of one anatomy that differ by a shift in space, and masks."""
    folder = tmp_path_factory.mktemp("scans")
    rng = np.random.default_rng(0)
    voxels = gaussian_filter(rng.normal(size=(36, 32, 28)), 2.5).astype(np.float32) * 1000
    voxels[10:26, 8:24, 8:20] += 200
    affine = np.diag((1.1, 1.0, 1.3, 1.0))
    moved = affine.copy()
    moved[:3, 3] += SHIFT
    files = {}
    for name, data, matrix in (
        ("fixed", voxels, affine),
        ("moving", voxels, moved),
        ("mask", (voxels > 0).astype(np.uint8), affine),
        ("empty", np.zeros(voxels.shape, np.uint8), affine),
        ("constant", np.full(voxels.shape, 7, np.float32), affine),
    ):
        files[name] = folder / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(data, matrix), files[name])
    return files


def test_files_of_a_registration(
    scans: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = Register(scans["fixed"], scans["moving"], tmp_path / "out", transform="rigid", initial="identity")
    assert job.run() == 0
    points = np.array([[10.0, 12, 14], [20, 15, 20]])
    found = read_transform(tmp_path / "out" / "transform.tfm").points(points)
    np.testing.assert_allclose(found, points + SHIFT, atol=0.15)
    warped, fixed = (nib.load(p) for p in (tmp_path / "out" / "warped.nii.gz", scans["fixed"]))
    np.testing.assert_array_equal(warped.affine, fixed.affine)
    inner = (slice(6, -6),) * 3
    assert np.corrcoef(warped.get_fdata()[inner].ravel(), fixed.get_fdata()[inner].ravel())[0, 1] > 0.99
    figures = json.loads((tmp_path / "out" / "quality.json").read_text())
    assert figures["after"]["correlation"] > max(0.98, figures["before"]["correlation"])
    assert figures["jacobian"]["folding_fraction"] == 0
    assert figures["stages"][0]["kind"] == "rigid"
    assert (tmp_path / "out" / "registration.png").read_bytes().startswith(b"\x89PNG")
    assert "Registered by elastix" in capsys.readouterr().out


def test_begin_from_a_transform_file(scans: dict[str, Path], tmp_path: Path) -> None:
    Register(scans["fixed"], scans["moving"], tmp_path / "a", transform="rigid").run()
    start = str(tmp_path / "a" / "transform.tfm")
    Register(
        scans["fixed"],
        scans["moving"],
        tmp_path / "b",
        transform="affine",
        initial=start,
        iterations=(20, 20, 20),
    ).run()
    found = read_transform(tmp_path / "b" / "transform.tfm")
    np.testing.assert_allclose(found.matrix[:3, 3] - SHIFT, 0, atol=1.0)


def test_choices_reach_the_last_stage(scans: dict[str, Path], tmp_path: Path) -> None:
    stages = Register(
        scans["fixed"], scans["moving"], tmp_path, metric="mi", grid_spacing=7.5, iterations=(9, 8)
    )._stages()
    assert (stages[-1].metric, stages[-1].grid_spacing_mm, stages[-1].iterations) == ("mi", 7.5, (9, 8))
    assert stages[0].metric is None


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"fixed": "nowhere"}, MissingFileError, "nowhere"),
        ({"moving": "constant"}, DatasetError, "constant.nii.gz"),
        ({"fixed_mask": "empty"}, DatasetError, "empty.nii.gz: the mask is empty"),
        ({"moving_mask": "mask"}, GeometryError, "not on the grid of the moving image"),
        ({"transform": "tps"}, OptionError, "landmarks"),
        ({"transform": "syn", "engine": "elastix"}, OptionError, "engines that have it: ants"),
        ({"channel": 2}, GeometryError, "channel 2"),
        ({"initial": "anywhere.tfm"}, MissingFileError, "anywhere.tfm"),
        ({"initial": "centre"}, OptionError, "neither a beginning .*centres.* nor a transform file"),
        ({"format": "mat"}, OptionError, "mat holds linear transforms only, deformable bends"),
        ({"grid_spacing": 5.0, "transform": "affine"}, OptionError, "--grid-spacing belongs to"),
        ({"grid_spacing": 1e-9, "transform": "bspline"}, OptionError, "grid spacing must be from 0.001"),
        ({"grid_spacing": float("nan"), "transform": "bspline"}, OptionError, "found nan"),
        ({"grid_spacing": 0.05, "transform": "bspline"}, OptionError, "control points on an image of"),
        ({"grid_spacing": 500.0, "transform": "bspline"}, OptionError, "larger than the image"),
        ({"iterations": (0,)}, OptionError, "iterations must be from 1"),
        ({"iterations": (10**12,)}, OptionError, "iterations must be from 1"),
        ({"iterations": (5,) * 30}, OptionError, "at most 10 levels"),
        ({"seed": -1}, OptionError, "the seed must be from 0"),
        ({"seed": 2**70}, OptionError, "the seed must be from 0"),
        ({"threads": 0}, OptionError, "the number of threads must be from 1"),
        ({"channel": -1}, GeometryError, "channel -1"),
        ({"fixed_landmarks": "p.csv"}, OptionError, "--fixed-landmarks belongs to --transform tps"),
        ({"transform": "tps", "metric": "mi"}, OptionError, "leave out --metric"),
        ({"transform": "tps", "engine": "ants"}, OptionError, "leave out --engine"),
    ],
)
def test_one_line_for_what_is_wrong(
    scans: dict[str, Path], tmp_path: Path, change: dict[str, object], error: type[AtlasegError], words: str
) -> None:
    options = {"fixed": scans["fixed"], "moving": scans["moving"], "out": tmp_path / "out"}
    options |= {
        k: scans.get(v, Path(v) if k == "fixed" else v) if isinstance(v, str) else v
        for k, v in change.items()
    }
    with pytest.raises(error, match=words) as caught:
        Register(**options).run()  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "transform.tfm").exists()


def test_landmarks_are_paired_by_name(
    scans: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = np.array([[5, 5, 5], [30, 5, 6], [6, 28, 7], [7, 6, 30], [25, 24, 26]], float)
    names = ("a", "b", "c", "d", "e")
    for file, order in (("fixed", range(5)), ("moving", (3, 1, 4, 0, 2))):
        shift = SHIFT if file == "moving" else np.zeros(3)
        rows = [f"{names[n]},{','.join(str(v) for v in points[n] + shift)}" for n in order]
        (tmp_path / f"{file}.csv").write_text("\n".join(["label,x,y,z", *rows]) + "\n")
    Register(
        scans["fixed"],
        scans["moving"],
        tmp_path / "out",
        transform="tps",
        fixed_landmarks=tmp_path / "fixed.csv",
        moving_landmarks=tmp_path / "moving.csv",
    ).run()
    assert capsys.readouterr().out.startswith("5 landmarks paired by their names\n")
    np.testing.assert_allclose(
        read_transform(tmp_path / "out/transform.h5").points(points), points + SHIFT, atol=1e-3
    )


@pytest.mark.parametrize("where", ["file", "under a file", "scans", "mask"])
def test_results_go_to_a_folder_of_their_own(scans: dict[str, Path], tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "m").mkdir()
    mask = tmp_path / "m" / "warped.nii.gz"
    mask.write_bytes(scans["mask"].read_bytes())
    out, words = {
        "file": (tmp_path / "file", "is a file, results need a folder"),
        "under a file": (tmp_path / "file" / "deeper", "is a file, results need a folder"),
        "scans": (scans["fixed"].parent, "the folder of fixed.nii.gz"),
        "mask": (tmp_path / "m", "a result would replace"),
    }[where]
    before = sorted(scans["fixed"].parent.iterdir())
    with pytest.raises(OptionError, match=words):
        Register(scans["fixed"], scans["moving"], out, fixed_mask=mask).run()
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(scans["fixed"].parent.iterdir()) == before
    assert mask.read_bytes() == scans["mask"].read_bytes()


def test_a_start_without_an_inverse_is_refused(scans: dict[str, Path], tmp_path: Path) -> None:
    start = tmp_path / "flat.tfm"
    start.write_text(
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        "Parameters: 1 0 0 0 1 0 0 0 0 0 0 0\nFixedParameters: 0 0 0\n"
    )
    with pytest.raises(AtlasegError) as caught:
        Register(scans["fixed"], scans["moving"], tmp_path / "out", initial=str(start)).run()
    assert "\n" not in str(caught.value)
    assert "inverse" in str(caught.value) or "singular" in str(caught.value)


def test_a_mask_of_another_type_is_the_same_mask(scans: dict[str, Path], tmp_path: Path) -> None:
    mask = nib.load(scans["mask"])
    inside = np.asarray(mask.dataobj) > 0
    found = []
    for name, voxels in (
        ("ones", inside.astype(np.uint8)),
        ("minus", np.where(inside, -1, 0).astype(np.int16)),
    ):
        nib.save(nib.Nifti1Image(voxels, mask.affine), tmp_path / f"{name}.nii.gz")
        job = Register(
            scans["fixed"],
            scans["moving"],
            tmp_path / name,
            transform="rigid",
            fixed_mask=tmp_path / f"{name}.nii.gz",
            iterations=(20,),
        )
        assert job.run() == 0
        found.append(read_transform(tmp_path / name / "transform.tfm").matrix)
    np.testing.assert_array_equal(*found)


def test_a_failed_engine_is_reported_with_both_scans(scans: dict[str, Path], tmp_path: Path) -> None:
    far = np.eye(4)
    far[:3, 3] = 5000
    write_transform(tmp_path / "far.tfm", Transform.from_matrix(far))
    with pytest.raises(RegistrationError) as caught:
        Register(scans["fixed"], scans["moving"], tmp_path / "out", initial=str(tmp_path / "far.tfm")).run()
    message = str(caught.value)
    assert message.startswith(
        f"{scans['fixed']} and {scans['moving']}: torch: the initial transform carries nothing"
    )
    assert message.endswith("try another initialisation")


def test_scans_that_do_not_overlap(scans: dict[str, Path], tmp_path: Path) -> None:
    image = nib.load(scans["fixed"])
    far = image.affine.copy()
    far[:3, 3] += 5000
    nib.save(nib.Nifti1Image(image.get_fdata(dtype=np.float32), far), tmp_path / "far.nii.gz")
    with pytest.raises(GeometryError, match="do not overlap"):
        Register(scans["fixed"], tmp_path / "far.nii.gz", tmp_path / "out", initial="identity").run()
    assert Register(scans["fixed"], tmp_path / "far.nii.gz", tmp_path / "out", transform="rigid").run() == 0
