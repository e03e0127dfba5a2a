"""No label reaches what is to be judged by it: test labels no method, a training case's own label not its prior."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.atlases.fusion.registry import FUSION_RULES
from atlaseg.atlases.multi_atlas_segmenter import MultiAtlasSegmenter
from atlaseg.atlases.network_training.anatomical_augmentation import write_warped_cases
from atlaseg.atlases.network_training.prior import FusedPrior, write_priors
from atlaseg.atlases.propagation.propagation import PropagationOptions
from atlaseg.atlases.registration.stage import Stage
from atlaseg.pipeline.datasets import read_dataset
from atlaseg.pipeline.errors import OptionError
from atlaseg.workflows.benchmark import Benchmark
from atlaseg.workflows.benchmarking import cells as benchmark_cells
from atlaseg.workflows.benchmarking.cells import Cell, Conditions
from atlaseg.workflows.methods.families import all_methods

QUICK = PropagationOptions(
    transform=(Stage("rigid", shrink=(1,), smoothing_mm=(0.0,), iterations=(20,), samples=500),)
)
SUSPECT = "shapes_001"


def label_of(folder: Path, name: str) -> Path:
    return folder / "labelsTr" / f"{name}.nii.gz"


def forge(folder: Path, to: Path, name: str) -> Path:
    """The data set with another label map of one case: upside down, so that it leads elsewhere."""
    shutil.copytree(folder, to)
    image = nib.load(label_of(folder, name))
    nib.save(
        nib.Nifti1Image(np.asarray(image.dataobj)[::-1, ::-1].copy(), image.affine, image.header),
        label_of(to, name),
    )
    return to


def priors(folder: Path, out: Path, rule: str) -> dict[str, Any]:
    dataset = read_dataset(folder)
    segmenter = MultiAtlasSegmenter(fusion=rule, options=QUICK).fit_atlases(AtlasSet.from_dataset(dataset))
    files = write_priors(dataset.labelled, FusedPrior(segmenter), out, labels=dataset.labels)
    return {name: np.asarray(nib.load(path).dataobj) for name, path in files.items()}


@pytest.mark.thorough
@pytest.mark.parametrize("rule", FUSION_RULES.names())
def test_no_prior_knows_its_own_label(shapes_folder: Path, tmp_path: Path, rule: str) -> None:
    clean = priors(shapes_folder, tmp_path / "clean", rule)
    forged = priors(forge(shapes_folder, tmp_path / "data", SUSPECT), tmp_path / "forged", rule)
    np.testing.assert_array_equal(clean[SUSPECT], forged[SUSPECT])
    others = [name for name in clean if name != SUSPECT]
    assert all(not np.array_equal(clean[name], forged[name]) for name in others)


@pytest.mark.thorough
def test_no_warped_scan_knows_the_label_of_its_target(shapes_folder: Path, tmp_path: Path) -> None:
    def warped(folder: Path, out: Path) -> dict[tuple[str, str], Any]:
        atlases = AtlasSet.from_dataset(read_dataset(folder))
        made = write_warped_cases(atlases, out, QUICK)
        return {(c.source, c.target): np.asarray(nib.load(c.label).dataobj) for c in made}

    clean = warped(shapes_folder, tmp_path / "clean")
    forged = warped(forge(shapes_folder, tmp_path / "data", SUSPECT), tmp_path / "forged")
    assert set(clean) == set(forged)
    for (source, target), label in clean.items():
        assert np.array_equal(label, forged[source, target]) == (source != SUSPECT)


def tasks(job: Benchmark, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Cell, bytes]]:
    """What each process of a benchmark would be handed; none is started."""
    handed: list[tuple[Cell, bytes]] = []

    def hand(cell: Cell, conditions: Conditions, stage: Any, _: Any) -> str:
        handed.append((cell, pickle.dumps(benchmark_cells._task(cell, conditions, stage))))
        return "its process was not started"

    monkeypatch.setattr(benchmark_cells, "_run_process", hand)
    job.run()
    return handed


@pytest.mark.thorough
def test_no_method_gets_the_path_of_test_labels(
    shapes_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Benchmark(shapes_folder, methods=(",".join(all_methods()),), folds=2, out=tmp_path / "out")
    handed = tasks(job, monkeypatch)
    assert {cell.entry.method for cell, _ in handed} == set(all_methods())
    for cell, task in handed:
        tested = {case.name for case in cell.test}
        assert tested
        shown = [*cell.view.rglob("*"), *(path for files in cell.scans.values() for path in files)]
        labels = [path for path in shown if "label" in path.parent.name]
        assert {path.name.removesuffix(".nii.gz") for path in labels}.isdisjoint(tested)
        assert not [path for path in cell.view.rglob("*") if path.name.split(".")[0] in tested]
        # nor can a path lead there: none that is handed on lies in the data set, and none is a link into it
        assert str(shapes_folder).encode() not in task
        assert not [path for path in shown if path.is_symlink()]


@pytest.mark.thorough
def test_no_test_scan_among_those_without_labels(shapes_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    scan = nib.load(shapes_folder / "imagesTr" / f"{SUSPECT}.nii.gz")
    voxels = np.asarray(scan.dataobj).astype(np.float64)
    nib.save(nib.Nifti1Image(voxels, scan.affine), tmp_path / "more" / "other_name.nii.gz")
    methods = f"atlas-unet:unlabelled={tmp_path / 'more'}"
    job = Benchmark(shapes_folder, methods=(methods,), folds=2, out=tmp_path / "out")
    with pytest.raises(OptionError, match=f"other_name.*test case {SUSPECT}"):
        job.run()


#: One method of each kind, and all the ways in which atlases help a network.
RUN = {
    "unet": {"epochs": 1},
    "joint-fusion": {"transform": "rigid"},
    "atlas-unet": {"transform": "rigid", "epochs": 1, "prior": "yes", "warped": 2},
    "knn": {},
    "atlas-gmm": {"transform": "rigid", "components": 3},
}


@pytest.mark.slow
@pytest.mark.parametrize("method", RUN)
def test_labels_of_test_cases_change_nothing(
    shapes_folder: Path, tmp_path: Path, method: str, tiny: tuple[str, ...]
) -> None:
    def labels(folder: Path, out: Path) -> dict[str, bytes]:
        options: dict[str, Any] = dict(RUN[method])
        if "epochs" in options:
            options["override"] = list(tiny)
        (tmp_path / "methods.yaml").write_text(json.dumps([{"method": method, **options}]))
        # the last two cases by name are tested, the first three taught
        job = Benchmark(folder, methods=(str(tmp_path / "methods.yaml"),), first=3, last=2, out=out)
        assert job.run() == 0
        files = sorted(out.glob("cells/*/*/*/labels/*.nii.gz"))
        return {path.name: np.asarray(nib.load(path).dataobj).tobytes() for path in files}

    tested = sorted(path.name.split(".")[0] for path in (shapes_folder / "labelsTr").iterdir())[-1]
    clean = labels(shapes_folder, tmp_path / "clean")
    forged = labels(forge(shapes_folder, tmp_path / "data", tested), tmp_path / "forged")
    assert len(clean) == 2
    assert clean == forged
