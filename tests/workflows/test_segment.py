"""Labelling as a job: which scans, which files come out, and what happens to bad ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

from atlaseg.pipeline.errors import AtlasegError, DatasetError, MissingFileError, OptionError
from atlaseg.pipeline.io.volume import read_image
from atlaseg.pipeline.network_segmenter import NetworkSegmenter
from atlaseg.workflows.cli import main
from atlaseg.workflows.inputs.scan_files import find_scans
from atlaseg.workflows.segment import Segment


@pytest.fixture
def scans(shapes_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    for number in (0, 1):
        name = f"shapes_{number:03d}.nii.gz"
        shutil.copy(shapes_folder / "imagesTr" / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def two_channel_run(runs: Any, shapes_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained on the shapes and their negatives, as nnU-Net's layout has them."""
    from atlaseg.workflows.train import Train

    data = tmp_path_factory.mktemp("two") / "data"
    (data / "imagesTr").mkdir(parents=True)
    shutil.copytree(shapes_folder / "labelsTr", data / "labelsTr")
    for path in sorted((shapes_folder / "imagesTr").iterdir()):
        image = nib.load(path)
        voxels = np.asarray(image.dataobj).astype(np.float32)
        for channel, values in enumerate((voxels, -voxels)):
            name = path.name.replace(".nii.gz", f"_{channel:04d}.nii.gz")
            nib.save(nib.Nifti1Image(values, image.affine), data / "imagesTr" / name)
    content = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "ellipsoid": 1, "box": 2},
        "numTraining": 5,
        "file_ending": ".nii.gz",
    }
    (data / "dataset.json").write_text(json.dumps(content))
    run = data.parent / "run"
    override = runs.job(run).network.override
    Train.of(data, run, epochs=1, tracking="none", device="cpu", override=override).run()
    return run


def labels(path: Path) -> Any:
    return np.asarray(nib.load(path).dataobj)


@pytest.mark.thorough
def test_files_and_headers(
    tiny_run: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = nib.load(scans / "shapes_000.nii.gz")
    affine = source.affine.copy()
    affine[:3, 3] = (1 / 3, -2.2, 7)
    affine[0, 0] = -1.1
    scaled = nib.Nifti1Image(np.asarray(source.dataobj), affine)
    scaled.header.set_slope_inter(0.5, 10)
    scaled.header["descrip"] = b"kept"
    nib.save(scaled, scans / "oblique.nii")
    out = tmp_path / "new" / "labels"
    assert Segment.of((tiny_run, scans), out, device="cpu").run() == 0
    assert "3 of 3 scans labelled" in capsys.readouterr().out
    assert {p.name for p in out.iterdir()} == {f"{n}.nii.gz" for n in ("oblique", "shapes_000", "shapes_001")}
    for scan in scans.iterdir():
        before = nib.load(scan)
        after = nib.load(out / f"{scan.name.split('.')[0]}.nii.gz")
        assert after.shape == before.shape
        assert np.array_equal(after.affine, before.affine)
        for code in ("qform", "sform"):
            assert after.header[f"{code}_code"] == before.header[f"{code}_code"]
        assert after.get_data_dtype() == np.uint8
        assert set(np.unique(after.dataobj)) <= {0, 1, 2}
        assert np.isnan(after.header["scl_slope"]) or after.header["scl_slope"] in (0, 1)
        expected = NetworkSegmenter.load(tiny_run).segment(read_image(scan)).label_map
        np.testing.assert_array_equal(labels(out / f"{scan.name.split('.')[0]}.nii.gz"), expected)


@pytest.mark.thorough
def test_validation_cases(tiny_run: Path, tmp_path: Path) -> None:
    cases = json.loads((tiny_run / "configs" / "cases.json").read_text())["validation"]
    assert Segment.of((tiny_run,), tmp_path, validation=True).run() == 0
    assert [p.name for p in tmp_path.iterdir()] == [f"{case['name']}.nii.gz" for case in cases]


@pytest.mark.thorough
@pytest.mark.parametrize("content", ["{", "[]", '{"validation": [{"name": "x"}]}', '{"validation": 3}'])
def test_damaged_list_of_cases(
    tiny_run: Path, tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    (tmp_path / "run" / "configs" / "cases.json").write_text(content)
    words = ["segment", str(tmp_path / "run"), "--validation", "--out", str(tmp_path / "out")]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "cases.json" in line


@pytest.mark.thorough
def test_names_that_lead_elsewhere(tiny_run: Path, scans: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run, tmp_path / "run")
    entry = {"name": "../../precious", "image": [str(scans / "shapes_000.nii.gz")], "label": "x"}
    (tmp_path / "run" / "configs" / "cases.json").write_text(json.dumps({"validation": [entry]}))
    with pytest.raises(DatasetError, match="not usable as a file name"):
        Segment.of((tmp_path / "run",), tmp_path / "a" / "b", validation=True).run()


@pytest.mark.thorough
def test_out_that_cannot_be_written(
    tiny_run: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["segment", str(tiny_run), str(scans), "--out", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("atlaseg segment: ")


@pytest.mark.thorough
def test_probabilities(tiny_run: Path, scans: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    Segment.of((tiny_run, scans / "shapes_000.nii.gz"), out, probabilities=True).run()
    chances = nib.load(out / "shapes_000_probabilities.nii.gz")
    assert chances.shape == (24, 24, 24, 3)
    values = np.asarray(chances.dataobj)
    np.testing.assert_allclose(values.sum(-1), 1, atol=2e-3)
    sure = np.sort(values, -1)[..., -1] - np.sort(values, -1)[..., -2] > 1e-2
    found = labels(out / "shapes_000.nii.gz")
    np.testing.assert_array_equal(found[sure], values.argmax(-1)[sure])


@pytest.mark.thorough
def test_several_runs_are_an_ensemble(runs: Any, tiny_run: Path, scans: Path, tmp_path: Path) -> None:
    other = runs.train(tmp_path / "other", seed=4)
    out = tmp_path / "out"
    Segment.of((tiny_run, other, scans), out, probabilities=True).run()
    single = []
    for number, run in enumerate((tiny_run, other)):
        Segment.of((run, scans), tmp_path / f"out{number}", probabilities=True).run()
        single.append(labels(tmp_path / f"out{number}" / "shapes_000_probabilities.nii.gz"))
    # averaged window by window: close to the average of whole scans, not equal
    together = labels(out / "shapes_000_probabilities.nii.gz")
    assert np.abs(together - np.mean(single, axis=0)).mean() < 0.01
    assert np.abs(together - single[0]).mean() > 0.01


@pytest.mark.thorough
def test_a_bad_scan_among_good_ones(
    tiny_run: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (scans / "broken.nii.gz").write_bytes(b"not a scan")
    nib.save(nib.Nifti1Image(np.zeros((5, 5, 5, 2), np.float32), np.eye(4)), scans / "four.nii.gz")
    out = tmp_path / "out"
    assert main(["segment", str(tiny_run), str(scans), "--out", str(out)]) == 1
    captured = capsys.readouterr()
    assert "2 of 4 scans labelled" in captured.out
    failures = [line for line in captured.err.splitlines() if line.startswith("FAILED")]
    assert [line.split()[1] for line in failures] == ["broken:", "four:"]
    assert str(scans / "broken.nii.gz") in failures[0]
    assert "Traceback" not in captured.err
    assert {p.name for p in out.iterdir()} == {"shapes_000.nii.gz", "shapes_001.nii.gz"}


@pytest.mark.thorough
def test_never_replaces_a_scan(tiny_run: Path, scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {p: p.read_bytes() for p in scans.iterdir()}
    assert Segment.of((tiny_run, scans), scans).run() == 1
    assert "would replace the scan" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in scans.iterdir()} == before


@pytest.mark.thorough
def test_two_channels(
    two_channel_run: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, whole = tmp_path / "two", tmp_path / "whole"
    folder.mkdir()
    whole.mkdir()
    image = nib.load(scans / "shapes_000.nii.gz")
    voxels = np.asarray(image.dataobj).astype(np.float32)
    for channel, values in enumerate((voxels, -voxels)):
        nib.save(nib.Nifti1Image(values, image.affine), folder / f"x_{channel:04d}.nii.gz")
    nib.save(nib.Nifti1Image(np.stack([voxels, -voxels], -1), image.affine), whole / "x.nii.gz")
    for source, out in ((folder, "a"), (folder / "x_0000.nii.gz", "b"), (whole, "c")):
        assert Segment.of((two_channel_run, source), tmp_path / out).run() == 0
        assert [p.name for p in (tmp_path / out).iterdir()] == ["x.nii.gz"]
        np.testing.assert_array_equal(
            labels(tmp_path / out / "x.nii.gz"), labels(tmp_path / "a" / "x.nii.gz")
        )
    (folder / "x_0001.nii.gz").unlink()
    assert Segment.of((two_channel_run, folder), tmp_path / "d").run() == 1
    captured = capsys.readouterr()
    assert "0 of 1 scans labelled" in captured.out
    assert "FAILED x_0000.nii.gz: x_0001.nii.gz: this channel of scan x is missing" in captured.err


@pytest.mark.thorough
def test_monai_alone_labels_two_channels(two_channel_run: Path, scans: Path, tmp_path: Path) -> None:
    from monai.bundle import ConfigWorkflow

    folder = tmp_path / "two"
    folder.mkdir()
    image = nib.load(scans / "shapes_000.nii.gz")
    voxels = np.asarray(image.dataobj).astype(np.float32)
    for channel, values in enumerate((voxels, -voxels)):
        nib.save(nib.Nifti1Image(values, image.affine), folder / f"x_{channel:04d}.nii.gz")
    found = ConfigWorkflow(
        config_file=str(two_channel_run / "configs" / "inference.yaml"),
        workflow_type="infer",
        dataset_dir=str(folder),
        output_dir=str(tmp_path / "monai"),
    )
    found.initialize()
    found.run()
    Segment.of((two_channel_run, folder), tmp_path / "atlaseg").run()
    (written,) = (tmp_path / "monai").iterdir()
    np.testing.assert_array_equal(labels(written), labels(tmp_path / "atlaseg" / "x.nii.gz"))


@pytest.mark.thorough
def test_refusals(tiny_run: Path, two_channel_run: Path, scans: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    another = tmp_path / "another"
    shutil.copytree(scans, another)
    for paths, options, error, message in (
        ((scans,), {}, OptionError, "is a run of atlaseg train"),
        ((tiny_run,), {}, OptionError, "give the scans"),
        ((tiny_run, scans), {"validation": True}, OptionError, "name that run alone"),
        ((tiny_run, tiny_run), {"validation": True}, OptionError, "name that run alone"),
        ((tiny_run, scans / "missing.nii.gz"), {}, MissingFileError, "no such file or folder"),
        ((tiny_run, empty), {}, DatasetError, r"no \.nii or \.nii\.gz file"),
        ((tiny_run, two_channel_run, scans), {}, OptionError, "its channels differs"),
        ((tiny_run, scans), {"device": "cuda:77"}, OptionError, "no such GPU"),
        ((tiny_run, scans, another), {}, DatasetError, "another scan called shapes_000"),
    ):
        with pytest.raises(error, match=message) as caught:
            Segment.of(paths, tmp_path / "out", **options).run()
        assert isinstance(caught.value, AtlasegError)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_hidden_files_and_other_endings_are_no_scans(scans: Path) -> None:
    (scans / "._shapes_000.nii.gz").touch()
    (scans / "notes.txt").touch()
    found = find_scans((scans, scans / "shapes_000.nii.gz"), 1)
    assert found.files.keys() == {"shapes_000", "shapes_001"}
    assert found.notes == (f"{scans}: left out, not NIfTI: notes.txt",)


@pytest.mark.thorough
@pytest.mark.parametrize("value", ["$__import__('os').system('touch {}')", "@network", "%x.yaml"])
@pytest.mark.parametrize("key", ["dataset", "_target_"])
def test_poisoned_plans(
    tiny_run: Path,
    scans: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    key: str,
    value: str,
) -> None:
    run, proof = tmp_path / "run", tmp_path / "proof"
    shutil.copytree(tiny_run, run)
    path = run / "configs" / "plan.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {key: value.format(proof)}))
    for other in ("inference.yaml", "train.yaml", "evaluate.yaml"):
        (run / "configs" / other).write_text(f"initialize: \"$open({str(proof)!r}, 'w')\"\n")
    assert main(["segment", str(run), str(scans), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"atlaseg segment: {path}: ")
    assert not proof.exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.thorough
def test_malicious_weights(
    tiny_run: Path, scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Malicious:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "proof",)

    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    torch.save({"weight": Malicious()}, run / "models" / "model.pt")
    assert main(["segment", str(run), str(scans), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "could run code" in line
    assert not (tmp_path / "proof").exists()
