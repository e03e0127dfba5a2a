"""What every segmenter must do, whichever method it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.spatial.transform import Rotation

from atlaseg.atlases.combined.atlas_classical_segmenter import AtlasClassicalSegmenter
from atlaseg.atlases.combined.atlas_network_segmenter import AtlasNetworkSegmenter
from atlaseg.atlases.multi_atlas_segmenter import MultiAtlasSegmenter
from atlaseg.atlases.network_training.joined_training import JoinedOptions
from atlaseg.atlases.propagation.propagation import PropagationOptions
from atlaseg.atlases.registration.stage import Stage
from atlaseg.pipeline.case import Case, Dataset, LabelTable
from atlaseg.pipeline.classical.classical_segmenter import ClassicalSegmenter
from atlaseg.pipeline.classical.registry import CLASSICAL_METHODS
from atlaseg.pipeline.errors import GeometryError, NotFittedError, OptionError
from atlaseg.pipeline.network_segmenter import NetworkSegmenter
from atlaseg.pipeline.planning.plan import Plan
from atlaseg.pipeline.planning.plan_file import override_plan
from atlaseg.pipeline.planning.rules import plan_for
from atlaseg.pipeline.segmenter import Segmentation, Segmenter

#: Label values with gaps, as real data have them.
TABLE = LabelTable((0, 3, 200), ("background", "ellipsoid", "box"))


TINY = (
    "network.channels=[4,8]",
    "network.strides=[[2,2,2]]",
    "patch_size=[16,16,16]",
    "training.iterations_per_epoch=2",
    "training.precision=fp32",
    "training.validate_every=1",
)
RIGID = PropagationOptions(
    transform=(Stage("rigid", shrink=(1,), smoothing_mm=(0.0,), iterations=(30,), samples=500),)
)


def network(folder: Path, dataset: Dataset) -> Segmenter:
    plan = override_plan(plan_for(dataset, epochs=2, device="cpu"), TINY)
    return NetworkSegmenter(folder, plan, device="cpu")


def multi_atlas(folder: Path, dataset: Dataset) -> Segmenter:
    return MultiAtlasSegmenter(fusion="joint", options=RIGID)


def atlas_network(folder: Path, dataset: Dataset) -> Segmenter:
    def plan(training: Dataset) -> Plan:
        return override_plan(plan_for(training, epochs=2, device="cpu", prior=True, versions=2), TINY)

    return AtlasNetworkSegmenter(
        folder, JoinedOptions(RIGID, prior=True, warped=2, correct=False), plan, device="cpu"
    )


#: Little work for the methods that iterate.
QUICK: dict[str, dict[str, Any]] = {
    "kmeans": {"restarts": 1},
    "gmm": {"components": 3, "max_samples": 5000, "max_iterations": 10},
    "mrf": {"components": 3, "max_samples": 5000, "max_iterations": 10, "strength": 0.3, "contrast": 1.0},
    "markov-chain": {"states": 3, "max_samples": 4096, "max_iterations": 5},
}


def classical(method: str, folder: Path, dataset: Dataset) -> Segmenter:
    return ClassicalSegmenter(folder, method=method, options=QUICK.get(method))


def atlas_classical(folder: Path, dataset: Dataset) -> Segmenter:
    return AtlasClassicalSegmenter(
        folder, method="mrf", options=QUICK["mrf"], propagation=RIGID, correct=False
    )


#: Makes an unfitted segmenter that may keep its files in a folder, for a data set to come.
FACTORIES: dict[str, Callable[[Path, Dataset], Segmenter]] = {
    "network": network,
    "multi-atlas": multi_atlas,
    "atlas-network": atlas_network,
    "atlas-classical": atlas_classical,
    **{method: partial(classical, method) for method in CLASSICAL_METHODS},
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory, shapes_folder: Path) -> Dataset:
    """The shapes with other label values."""
    folder = tmp_path_factory.mktemp("gaps")
    cases = []
    for path in sorted((shapes_folder / "imagesTr").iterdir()):
        label = nib.load(shapes_folder / "labelsTr" / path.name)
        voxels = TABLE.to_values(np.asarray(label.dataobj))
        nib.save(nib.Nifti1Image(voxels, label.affine), folder / path.name)
        cases.append(Case(path.name.removesuffix(".nii.gz"), (path,), folder / path.name))
    return Dataset("gaps", tuple(cases), TABLE)


@pytest.fixture(scope="module", params=FACTORIES)
def factory(request: pytest.FixtureRequest) -> Callable[[Path, Dataset], Segmenter]:
    return FACTORIES[request.param]


@pytest.fixture(scope="module")
def fitted(
    factory: Callable[[Path, Dataset], Segmenter],
    dataset: Dataset,
    tmp_path_factory: pytest.TempPathFactory,
) -> Segmenter:
    segmenter = factory(tmp_path_factory.mktemp("fitted") / "run", dataset)
    assert segmenter.fit(dataset) is segmenter
    return segmenter


def scan(dataset: Dataset, affine: Any = None, shape: tuple[int, int, int] = (24, 24, 24)) -> MetaTensor:
    voxels = np.asarray(nib.load(dataset.cases[0].images[0]).dataobj).astype(np.float32)
    part = torch.from_numpy(voxels[tuple(slice(n) for n in shape)].copy())[None]
    return MetaTensor(part, affine=torch.as_tensor(np.eye(4) if affine is None else affine))


def oblique() -> np.ndarray:
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", (15, -8, 21), degrees=True).as_matrix()
    affine[:3, :3] = turn @ np.diag((-0.9, -1.1, 1.3))
    affine[:3, 3] = (31.123456789, -8.2, 1 / 3)
    return affine


def test_protocol(factory: Callable[[Path, Dataset], Segmenter], dataset: Dataset, tmp_path: Path) -> None:
    assert isinstance(factory(tmp_path / "run", dataset), Segmenter)


def test_not_fitted(factory: Callable[[Path, Dataset], Segmenter], dataset: Dataset, tmp_path: Path) -> None:
    segmenter = factory(tmp_path / "run", dataset)
    with pytest.raises(NotFittedError, match="fit"):
        segmenter.segment(scan(dataset))
    with pytest.raises(NotFittedError):
        segmenter.save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("affine", "shape"),
    [
        (np.eye(4), (24, 24, 24)),
        (np.diag((-1.0, -1, 1, 1)), (24, 20, 17)),
        (oblique(), (20, 24, 22)),
        (np.diag((0.7, 0.7, 5.0, 1)), (24, 24, 5)),
        (np.diag((1.0, 1, 1, 1)), (24, 24, 1)),
    ],
    ids=["ras", "lps", "oblique", "anisotropic", "one-slice"],
)
def test_grid_and_label_values(
    fitted: Segmenter, dataset: Dataset, affine: np.ndarray, shape: tuple[int, int, int]
) -> None:
    result = fitted.segment(scan(dataset, affine, shape))
    assert isinstance(result, Segmentation)
    assert result.probabilities is None
    assert result.label_map.shape == shape
    np.testing.assert_array_equal(result.affine, affine)
    assert set(np.unique(result.label_map)) <= set(TABLE.values)
    assert result.label_map.dtype == np.uint8


@pytest.mark.thorough
def test_keywords_of_the_protocol(fitted: Segmenter) -> None:
    own = signature(type(fitted).segment).parameters
    for name, expected in signature(Segmenter.segment).parameters.items():
        assert own[name].kind == expected.kind, name
        assert own[name].default == expected.default, name
    further = [own[name] for name in own if name not in signature(Segmenter.segment).parameters]
    assert all(p.kind == Parameter.KEYWORD_ONLY and p.default is not Parameter.empty for p in further)


Steps = dict[str, list[tuple[float, float]]]


@pytest.fixture(scope="module")
def told(fitted: Segmenter, dataset: Dataset) -> tuple[Segmentation, Steps]:
    """A scan with its probabilities, and what was told on the way."""
    steps: Steps = {}

    def tell(done: float, total: float, what: str) -> None:
        steps.setdefault(what, []).append((done, total))

    return fitted.segment(scan(dataset), probabilities=True, progress=tell), steps


def test_probabilities(told: tuple[Segmentation, Steps]) -> None:
    result, _ = told
    chances = np.asarray(result.probabilities, dtype=np.float64)
    assert chances.shape == (len(TABLE), *result.label_map.shape)
    assert chances.min() >= 0
    np.testing.assert_allclose(chances.sum(axis=0), 1, atol=2e-3)


def test_progress_rises_to_the_total(told: tuple[Segmentation, Steps]) -> None:
    assert told[1]
    for steps in told[1].values():
        assert steps == sorted(steps)
        assert steps[-1][0] == steps[-1][1]


def test_a_mask_is_used_or_refused(
    fitted: Segmenter, told: tuple[Segmentation, Steps], dataset: Dataset
) -> None:
    image = scan(dataset)
    mask = np.zeros(image.shape[1:], dtype=np.uint8)
    mask[4:20, 4:20, 4:20] = 1
    if isinstance(fitted, NetworkSegmenter):
        with pytest.raises(OptionError, match="a network cannot use a mask"):
            fitted.segment(image, mask=mask)
        return
    inside = fitted.segment(image, mask=mask, probabilities=True)
    assert (np.asarray(inside.probabilities) != told[0].probabilities).any()
    if isinstance(fitted, ClassicalSegmenter):
        assert not inside.label_map[mask == 0].any()
    with pytest.raises(GeometryError, match="mask"):
        fitted.segment(image, mask=mask[:-1])


def test_more_than_the_background_is_found(told: tuple[Segmentation, Steps]) -> None:
    assert set(np.unique(told[0].label_map)) & {3, 200}


def test_input_is_not_changed(fitted: Segmenter, dataset: Dataset) -> None:
    image = scan(dataset, oblique())
    before, affine = image.as_tensor().clone(), image.affine.clone()
    fitted.segment(image)
    assert torch.equal(image.as_tensor(), before)
    assert torch.equal(image.affine, affine)
    assert image.applied_operations == []


@pytest.mark.thorough
def test_same_scan_same_answer(fitted: Segmenter, dataset: Dataset) -> None:
    first, second = (fitted.segment(scan(dataset, oblique())).label_map for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.thorough
def test_save_and_load(fitted: Segmenter, dataset: Dataset, tmp_path: Path) -> None:
    fitted.save(tmp_path / "saved")
    loaded = type(fitted).load(tmp_path / "saved")
    assert isinstance(loaded, Segmenter)
    image = scan(dataset, oblique())
    np.testing.assert_array_equal(loaded.segment(image).label_map, fitted.segment(image).label_map)
    loaded.save(tmp_path / "once-more")  # what was loaded can be saved too
    assert (tmp_path / "once-more").is_dir()


@pytest.mark.thorough
def test_same_seed_same_segmenter(
    factory: Callable[[Path, Dataset], Segmenter], fitted: Segmenter, dataset: Dataset, tmp_path: Path
) -> None:
    again = factory(tmp_path / "run", dataset).fit(dataset)
    image = scan(dataset)
    np.testing.assert_array_equal(again.segment(image).label_map, fitted.segment(image).label_map)


@pytest.mark.thorough
def test_unlabelled_cases_are_left_out(
    factory: Callable[[Path, Dataset], Segmenter], dataset: Dataset, tmp_path: Path
) -> None:
    unlabelled = replace(dataset.cases[0], name="new", label=None)
    more = replace(dataset, cases=(*dataset.cases[1:], unlabelled))
    assert factory(tmp_path / "run", more).fit(more).segment(scan(dataset)).label_map.any()
