"""The bundle folder: MONAI's own checks, and the same labels from MONAI as from atlaseg."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigWorkflow
from scipy.spatial.transform import Rotation

from atlaseg.pipeline import bundle
from atlaseg.pipeline.bundle import (
    CONFIGS,
    build_plan_network,
    load_bundle_plan,
    network_component,
    path_expression,
    render_bundle,
    template,
)
from atlaseg.pipeline.case import Case
from atlaseg.pipeline.errors import DatasetError, MissingFileError, UnsafeModelError
from atlaseg.pipeline.io.volume import read_image
from atlaseg.pipeline.network_segmenter import NetworkSegmenter
from atlaseg.pipeline.planning.plan_file import load_plan, plan_to_yaml
from atlaseg.pipeline.training.checkpoint import load_weights, read_torch_file


def workflow(run: Path, name: str, kind: str, **values: Any) -> ConfigWorkflow:
    return ConfigWorkflow(config_file=str(run / "configs" / name), workflow_type=kind, **values)


def affine_of(spacing: tuple[float, ...], signs: tuple[int, ...], angles: tuple[float, ...]) -> np.ndarray:
    """Voxel -> RAS+ mm."""
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    affine[:3, :3] = turn @ np.diag(np.array(spacing) * signs)
    affine[:3, 3] = (-12.3, 40.1, 7.7)
    return affine


SCANS = {
    "ras": affine_of((1, 1, 1), (1, 1, 1), (0, 0, 0)),
    "lps": affine_of((1, 1, 1), (-1, -1, 1), (0, 0, 0)),
    "oblique": affine_of((0.9, 1.1, 1.2), (1, -1, 1), (11, -7, 17)),
    "anisotropic": affine_of((0.7, 0.7, 5.0), (-1, 1, 1), (0, 0, 0)),
    "microns": affine_of((1000, 1000, 1100), (-1, -1, 1), (0, 0, 0)),
    "header of its own": affine_of((1, 1, 1), (-1, -1, 1), (0, 0, 0)),
    "flat": affine_of((1, 1, 1), (-1, 1, 1), (0, 0, 0)),
    "fifth axis": affine_of((1, 1, 1), (1, 1, 1), (0, 0, 0)),
}
#: What of the shapes a scan holds, where it does not hold all.
PARTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "anisotropic": lambda whole: whole[..., :7],
    "flat": lambda whole: whole[..., 12],
    "fifth axis": lambda whole: whole[..., None, None],
}


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory, shapes_folder: Path) -> Path:
    """One scan of shapes in several geometries."""
    folder = tmp_path_factory.mktemp("scans")
    voxels = np.asarray(nib.load(shapes_folder / "imagesTr" / "shapes_000.nii.gz").dataobj)
    for name, affine in SCANS.items():
        part = PARTS.get(name, lambda whole: whole)(voxels)
        image = nib.Nifti1Image(np.ascontiguousarray(part), affine)
        if name == "microns":
            image.header.set_xyzt_units("micron")
        if name == "header of its own":  # the sform alone counts, and pixdim is rounded
            image.header.set_qform(None, 0)
        nib.save(image, folder / f"{name}.nii.gz")
    return folder


def labels_by_monai(run: Path, scans: Path, out: Path, **values: Any) -> None:
    found = workflow(run, "inference.yaml", "infer", dataset_dir=str(scans), output_dir=str(out), **values)
    found.initialize()
    found.run()
    found.finalize()


def assert_same_labels(run: Path, scans: Path, out: Path) -> None:
    segmenter = NetworkSegmenter.load(run, device="cpu")
    for name, affine in SCANS.items():
        saved = nib.load(out / f"{name}.nii.gz")
        expected = segmenter.segment(read_image(scans / f"{name}.nii.gz")).label_map
        assert len(np.unique(expected)) > 1
        np.testing.assert_array_equal(
            np.asarray(saved.dataobj).reshape(expected.shape), expected, err_msg=name
        )
        np.testing.assert_array_equal(saved.affine, nib.load(scans / f"{name}.nii.gz").affine)
        np.testing.assert_allclose(saved.affine, affine, rtol=1e-6, atol=1e-5)
        assert saved.get_data_dtype() == np.uint8


@pytest.mark.parametrize(
    ("name", "kind", "values"),
    [("train.yaml", "train", {"tracker": "none"}), ("inference.yaml", "infer", {})],
)
def test_monais_property_check(tiny_run: Path, name: str, kind: str, values: dict[str, str]) -> None:
    found = workflow(tiny_run, name, kind, **values)
    found.initialize()
    assert found.check_properties() == []


def test_monais_check_of_the_networks_ports(tiny_run: Path, tmp_path: Path) -> None:
    configs = tiny_run / "configs"
    for name in ("train.yaml", "inference.yaml"):
        monai.bundle.verify_net_in_out(
            net_id="network_def",
            meta_file=str(configs / "metadata.json"),
            config_file=str(configs / name),
            device="cpu",
        )


def test_monais_export(tiny_run: Path, tmp_path: Path) -> None:
    """TorchScript by MONAI's ``ckpt_export`` gives what the network gives."""
    configs = tiny_run / "configs"
    monai.bundle.ckpt_export(
        net_id="network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(tiny_run / "models" / "model.pt"),
        meta_file=str(configs / "metadata.json"),
        config_file=[str(configs / "inference.yaml")],
    )
    network = build_plan_network(load_bundle_plan(tiny_run)).eval()
    load_weights(network, tiny_run / "models" / "model.pt")
    image = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(tmp_path / "model.ts")(image), network(image))


def test_metadata(tiny_run: Path) -> None:
    metadata = json.loads((tiny_run / "configs" / "metadata.json").read_text())
    ports = metadata["network_data_format"]
    assert ports["inputs"]["image"]["num_channels"] == 1
    assert ports["outputs"]["pred"]["num_channels"] == 3
    assert ports["outputs"]["pred"]["channel_def"] == {"0": "background", "1": "ellipsoid", "2": "box"}
    assert metadata["monai_version"] == monai.__version__
    assert {"version", "changelog", "copyright", "required_packages_version"} <= metadata.keys()


@pytest.mark.thorough
def test_monai_alone_gives_the_same_labels(tiny_run: Path, scans: Path, tmp_path: Path) -> None:
    labels_by_monai(tiny_run, scans, tmp_path)
    assert_same_labels(tiny_run, scans, tmp_path)


@pytest.mark.thorough
def test_a_copied_run_uses_its_own_weights(
    tiny_run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From anywhere, also from inside of the other one, while the run that it was copied from is still there."""
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(tiny_run, first)
    shutil.copytree(first, second)
    weights = read_torch_file(second / "models" / "model.pt")
    torch.save({name: torch.zeros_like(w) for name, w in weights.items()}, second / "models" / "model.pt")
    for place in (tmp_path, first, second):
        monkeypatch.chdir(place)
        for run in (first, second):
            out = tmp_path / f"{place.name}-{run.name}"
            labels_by_monai(Path(os.path.relpath(run)), scans, out)
            empty = [not np.asarray(nib.load(out / f"{name}.nii.gz").dataobj).any() for name in SCANS]
            assert empty == [run == second] * len(SCANS)
    assert_same_labels(first, scans, tmp_path / "second-first")
    labels_by_monai(first, scans, tmp_path / "told", bundle_root=str(second))
    assert not np.asarray(nib.load(tmp_path / "told" / "ras.nii.gz").dataobj).any()


@pytest.mark.thorough
def test_a_bundle_that_has_moved(
    tiny_run: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "elsewhere"
    shutil.copytree(tiny_run, tmp_path / "first")
    (tmp_path / "first").rename(run)
    labels_by_monai(run, scans, tmp_path / "labels")
    assert_same_labels(run, scans, tmp_path / "labels")
    monkeypatch.chdir(run)
    labels_by_monai(Path(), scans, tmp_path / "inside")
    assert_same_labels(run, scans, tmp_path / "inside")


@pytest.mark.parametrize("named", [True, False], ids=["named", "near"])
def test_evaluation(tiny_run: Path, tmp_path: Path, shapes_folder: Path, named: bool) -> None:
    """MONAI's mean Dice of the validation case against a plain count; the data set is named or lies near the run."""
    run = tmp_path / "runs" / "r"
    shutil.copytree(tiny_run, run)
    tiny_run = run
    if not named:
        (tmp_path / "data").symlink_to(shapes_folder)
    files = [str(tiny_run / "configs" / name) for name in ("inference.yaml", "evaluate.yaml")]
    places = {"output_dir": str(tmp_path)} | ({"validation_dir": str(shapes_folder)} if named else {})
    found = ConfigWorkflow(config_file=files, workflow_type="infer", **places)
    found.initialize()
    found.run()
    found.finalize()
    rows = [line.split(",") for line in (tmp_path / "val_mean_dice_raw.csv").read_text().split("\n") if line]
    (case,) = json.loads((tiny_run / "configs" / "cases.json").read_text())["validation"]
    assert case["name"] in rows[1][0]
    predicted = (
        NetworkSegmenter.load(tiny_run).segment(read_image(shapes_folder / case["image"][0])).label_map
    )
    truth = np.asarray(nib.load(shapes_folder / case["label"]).dataobj)
    for column, value in enumerate((1, 2), start=1):
        p, t = predicted == value, truth == value
        dice = 2 * (p & t).sum() / (p.sum() + t.sum())
        assert float(rows[1][column]) == pytest.approx(dice, abs=1e-3)


@pytest.mark.thorough
def test_monais_run_trains_the_same(
    runs: Any, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = runs.job(tmp_path / "run")
    runs.prepare(job)
    monkeypatch.chdir(tmp_path)
    monai.bundle.run(config_file="run/configs/train.yaml", tracker="none", device="cpu")
    one, other = (read_torch_file(run / "models" / "model.pt") for run in (tmp_path / "run", tiny_run))
    assert all(torch.equal(one[k], other[k]) for k in other)


def test_the_plan_is_in_every_config(tiny_run: Path) -> None:
    configs = tiny_run / "configs"
    plan = yaml.safe_load((configs / "plan.yaml").read_text())
    for name, parts in CONFIGS.items():
        content = yaml.safe_load((configs / name).read_text())
        assert isinstance(content, dict)
        if "common.yaml" in parts:
            assert content["plan"] == plan
            assert content["label_values"] == [0, 1, 2]
            assert content["label_dtype"] == "uint8"
    assert plan_to_yaml(load_bundle_plan(tiny_run)) == (configs / "plan.yaml").read_text()


def test_network_of_the_plan(tiny_run: Path) -> None:
    plan = load_bundle_plan(tiny_run)
    network = build_plan_network(plan)
    weights = read_torch_file(tiny_run / "models" / "model.pt")
    assert {k: v.shape for k, v in network.state_dict().items()} == {k: v.shape for k, v in weights.items()}
    assert network_component(plan)["_target_"].rsplit(".", 1)[-1] == type(network).__name__


def test_paths_of_cases(tiny_run: Path, tmp_path: Path) -> None:
    """As seen from the data set's folder; a run keeps no others."""
    plan = load_plan(tiny_run / "configs" / "plan.yaml")
    data = tmp_path / "data"
    inside = Case("in", (data / "i" / "x.nii", data / "i" / "y.nii"), data / "l" / "x.nii")
    outside = Case("out", (tmp_path / "other" / "x.nii",), tmp_path / "other" / "l.nii")
    render_bundle(plan, tmp_path / "run", [inside], [inside], data)
    cases = json.loads((tmp_path / "run" / "configs" / "cases.json").read_text())
    assert cases["training"] == [{"name": "in", "image": ["i/x.nii", "i/y.nii"], "label": "l/x.nii"}]
    with pytest.raises(DatasetError, match=r"x\.nii: not in .*data; a run keeps no other paths"):
        render_bundle(plan, tmp_path / "run1", [inside], [outside], data)
    with pytest.raises(MissingFileError, match="case none has no label map"):
        render_bundle(plan, tmp_path / "run2", [Case("none", (data / "x.nii",))], [], data)


@pytest.mark.parametrize("name", ["it's", 'a "quoted" one', "two words", "Büro", "${HOME}", "@x", "a%b"])
def test_odd_folder_names(tiny_run: Path, tmp_path: Path, name: str) -> None:
    run = tmp_path / name
    plan = load_plan(tiny_run / "configs" / "plan.yaml")
    render_bundle(plan, run, [], [], tmp_path)
    shutil.copytree(tiny_run / "models", run / "models")
    for said in ({}, {"bundle_root": path_expression(run)}):
        config = str(run / "configs" / "inference.yaml")
        found = ConfigWorkflow(config_file=config, workflow_type="infer", run=["$@weights"], **said)
        assert found.run() == [str(run / "models" / "model.pt")]


def test_templates_beside_another_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "configs").mkdir()
    for name in ("common.yaml", "train.yaml"):
        (tmp_path / "configs" / name).write_text("decoy: true\n")
    for name in ("pipeline.py", "configs.py", "workflows.py"):
        (tmp_path / name).write_text("raise SystemError('a decoy was imported')\n")
    monkeypatch.chdir(tmp_path)
    assert "decoy" not in template("common.yaml")


def test_an_installation_without_templates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bundle, "__file__", str(tmp_path / "pipeline" / "bundle.py"))
    with pytest.raises(MissingFileError, match="install atlaseg again"):
        template("common.yaml")


def test_folders_that_are_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no such folder"):
        load_bundle_plan(tmp_path / "missing")
    with pytest.raises(MissingFileError, match="not a run of atlaseg train"):
        load_bundle_plan(tmp_path)


POISON = "$__import__('pathlib').Path({proof!r}).touch()"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dataset", POISON),
        ("dataset", "  " + POISON),
        ("dataset", "@network"),
        ("dataset", "%configs/train.yaml::plan"),
        ("_target_", "os.system"),
        ("network", {"name": POISON}),
        ("network", {"_target_": "os.system", "command": "true"}),
        ("labels", {"background": 0, POISON: 1, "box": 2}),
        ("reasons", {"patch_size": POISON}),
        ("channels", [POISON]),
    ],
)
def test_a_poisoned_plan(tiny_run: Path, tmp_path: Path, key: str, value: Any) -> None:
    run, proof = tmp_path / "run", tmp_path / "proof"
    shutil.copytree(tiny_run, run)
    plan = yaml.safe_load((run / "configs" / "plan.yaml").read_text())
    plan[key] = value
    text = yaml.safe_dump(plan).replace("{proof!r}", repr(str(proof)).replace("'", "''"))
    (run / "configs" / "plan.yaml").write_text(text)
    with pytest.raises(UnsafeModelError) as error:
        load_bundle_plan(run)
    assert "\n" not in str(error.value)
    with pytest.raises(UnsafeModelError):
        NetworkSegmenter.load(run)
    assert not proof.exists()


def test_other_files_of_the_folder_are_never_read(tiny_run: Path, scans: Path, tmp_path: Path) -> None:
    run, proof = tmp_path / "run", tmp_path / "proof"
    shutil.copytree(tiny_run, run)
    for path in (run / "configs").iterdir():
        if path.name != "plan.yaml":
            path.write_text(f'initialize: ["{POISON.format(proof=str(proof))}"]\n')
    for path in (run / "scripts").iterdir():
        path.write_text(f"open({str(proof)!r}, 'w')\n")
    segmenter = NetworkSegmenter.load(run)
    segmenter.segment(read_image(scans / "ras.nii.gz"))
    assert not proof.exists()


BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("pipeline", "workflows", "atlaseg", "atlases", "configs"):
            raise ModuleNotFoundError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
import monai.bundle
monai.bundle.run(config_file=sys.argv[1], dataset_dir=sys.argv[2], output_dir=sys.argv[3])
assert not any(name.split(".")[0] in ("pipeline", "workflows") for name in sys.modules)
"""


@pytest.mark.slow
def test_without_atlaseg(tiny_run: Path, scans: Path, tmp_path: Path) -> None:
    """MONAI alone, in a process that cannot import anything of atlaseg's, from another folder."""
    config = tiny_run / "configs" / "inference.yaml"
    subprocess.run(
        [sys.executable, "-c", BLOCKED, str(config), str(scans), str(tmp_path / "labels")],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
    )
    assert_same_labels(tiny_run, scans, tmp_path / "labels")
