"""Fixtures that every test may use."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# ITK inside ANTs reads it once in a process, whichever test uses ANTs first; on one thread same seed, same bits.
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
# Processes of pytest-xdist share the cores; threads that are more than those wait for each other. torch reads it once.
if (_processes := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))) > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // _processes)))

# A test that takes long because the machine is busy is no fault of the code.
settings.register_profile("atlaseg", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("atlaseg")

CHECKOUT = Path(__file__).resolve().parents[1]
SHAPE = (6, 7, 8)


def pytest_configure(config: pytest.Config) -> None:
    """Warnings of our code are errors, but not those that tell users of their data and options."""
    config.addinivalue_line("filterwarnings", "default::atlaseg.pipeline.errors.AtlasegWarning")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the public scans, or a skip that says where they were looked for."""
    named = os.environ.get("ATLASEG_TEST_DATA")
    folder = Path(named) if named else CHECKOUT.parent / "shared" / "data"
    if not folder.is_dir():
        source = "ATLASEG_TEST_DATA" if named else "../shared/data beside the checkout"
        pytest.skip(f"no real scans at {folder} ({source}); set ATLASEG_TEST_DATA to their folder")
    return folder


class DatasetBuilder:
    """Writes small data sets in every layout, good as they are, for tests to break.

    Each has ``count`` cases named ``a``, ``b``, ...; images are noise, label maps hold 0, 1 and 4.
    """

    shape = SHAPE

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rng = np.random.default_rng(0)

    @property
    def oblique(self) -> np.ndarray:
        """Affine of voxels of 0.9 x 1.1 x 2.3 mm, turned about two axes, the first axis to the left."""
        from nibabel import affines, eulerangles

        turned = eulerangles.euler2mat(0.2, 0.1, 0) @ np.diag((-0.9, 1.1, 2.3))
        return affines.from_matvec(turned, (12.345678, -7.1, 3.3))

    def volume(self, path: Path, voxels: Any, affine: Any = None, kind: type | None = None) -> Path:
        """Write one NIfTI file, by default NIfTI-1 with the identity as its affine."""
        import nibabel as nib

        path.parent.mkdir(parents=True, exist_ok=True)
        image = (kind or nib.Nifti1Image)(np.asarray(voxels), np.eye(4) if affine is None else affine)
        image.set_qform(image.affine, 1)
        image.set_sform(image.affine, 1)
        nib.save(image, path)
        return path

    def noise(self, *channels: int) -> np.ndarray:
        """Voxels of an image, ``(*shape, *channels)``."""
        return self._rng.normal(100, 10, (*SHAPE, *channels)).astype(np.float32)

    def labels(self) -> np.ndarray:
        """A label map with 48 voxels of value 1, 12 of value 4 and the background."""
        label = np.zeros(SHAPE, np.uint8)
        label[1:4, 1:5, 2:6] = 1
        label[2, 2:5, 2:6] = 4
        return label

    def decathlon(self, count: int = 2, channels: int = 1, **changes: Any) -> Path:
        """``dataset.json`` with ``training``; ``changes`` replace its entries."""
        names = "abcdefgh"[:count]
        for name in names:
            voxels = self.noise() if channels == 1 else self.noise(channels)
            self.volume(self.folder / f"imagesTr/{name}.nii.gz", voxels)
            self.volume(self.folder / f"labelsTr/{name}.nii.gz", self.labels())
        content = {
            "name": "toy",
            "modality": {str(i): f"T{i + 1}" for i in range(channels)},
            "labels": {"0": "background", "1": "liver", "4": "lesion"},
            "training": [
                {"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in names
            ],
            "test": [],
        }
        return self.json("dataset.json", content | changes)

    def nnunet(self, count: int = 2, channels: int = 2, **changes: Any) -> Path:
        """nnU-Net raw: one file for each channel."""
        for name in "abcdefgh"[:count]:
            for channel in range(channels):
                self.volume(self.folder / f"imagesTr/{name}_{channel:04d}.nii.gz", self.noise())
            self.volume(self.folder / f"labelsTr/{name}.nii.gz", self.labels())
        content = {
            "channel_names": {str(i): f"T{i + 1}" for i in range(channels)},
            "labels": {"background": 0, "liver": 1, "lesion": 4},
            "numTraining": count,
            "file_ending": ".nii.gz",
        }
        return self.json("dataset.json", content | changes)

    def folders(self, count: int = 2) -> Path:
        """``images/`` and ``labels/`` with equal names."""
        for name in "abcdefgh"[:count]:
            self.volume(self.folder / f"images/{name}.nii.gz", self.noise())
            self.volume(self.folder / f"labels/{name}.nii.gz", self.labels())
        return self.folder

    def json(self, name: str, content: Any) -> Path:
        """Write a JSON file of the data set; returns the data set's folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(json.dumps(content))
        return self.folder


@pytest.fixture
def build(tmp_path: Path) -> DatasetBuilder:
    """Builder of small data sets in a folder of its own."""
    return DatasetBuilder(tmp_path / "toy")


#: A network that trains in half a second.
TINY = (
    "network.channels=[4,8]",
    "network.strides=[[2,2,2]]",
    "patch_size=[16,16,16]",
    "training.iterations_per_epoch=2",
    "training.batch_size=2",
    "training.precision=fp32",
    "training.validate_every=1",
)


@pytest.fixture(scope="session")
def shapes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five labelled cases of simple shapes in the Decathlon layout, for tests to read."""
    from atlaseg.pipeline.synthetic.shapes import write_shapes

    folder = tmp_path_factory.mktemp("shapes") / "data"
    write_shapes(folder, cases=5, shape=(24, 24, 24))
    return folder


@pytest.fixture
def tiny() -> tuple[str, ...]:
    """What ``--override`` takes for a network that trains in half a second."""
    return TINY


class Runs:
    """Trains tiny networks on the shapes."""

    def __init__(self, dataset: Path) -> None:
        self.dataset = dataset

    def job(self, out: Path, *overrides: str, **options: Any) -> Any:
        """The job that trains two epochs of two steps, unless options say otherwise."""
        from atlaseg.workflows.train import Train

        settings: dict[str, Any] = {"epochs": 2, "tracking": "none", "device": "cpu"} | options
        return Train.of(self.dataset, out, override=(*TINY, *overrides), **settings)

    @staticmethod
    def prepare(job: Any) -> None:
        """Render the run of a job that trains a network, without training it."""
        from atlaseg.workflows.inputs.run_request import request_of
        from atlaseg.workflows.methods.families import default_method, find_method
        from atlaseg.workflows.methods.networks.network_training import prepare_run

        method = default_method() if job.method is None else find_method(job.method)
        prepare_run(job, method.part.name, request_of(job, method))

    def train(self, out: Path, *overrides: str, **options: Any) -> Path:
        """Train; returns the run's folder."""
        with logging_restored():
            self.job(out, *overrides, **options).run()
        return out


@contextmanager
def logging_restored() -> Iterator[None]:
    """Undo what a bundle's ``logging.conf`` changes: its handler would keep a test's captured stream."""
    loggers = [logging.getLogger(), logging.getLogger("ignite")]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    try:
        yield
    finally:
        for logger, handlers, level, propagate in before:
            logger.handlers[:], logger.propagate = handlers, propagate
            logger.setLevel(level)


_components: dict[tuple[str, ...], dict[str, list[str]]] = {}


@pytest.fixture(autouse=True)
def _monai_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """MONAI looks through all its modules for every bundle that is opened; in one process they stay the same."""
    items = sys.modules.get("monai.bundle.config_item")
    if items is None:
        return
    find = items.ComponentLocator._find_classes_or_functions

    def found(self: Any, names: list[str]) -> dict[str, list[str]]:
        key = tuple(names)
        return _components[key] if key in _components else _components.setdefault(key, find(self, names))

    monkeypatch.setattr(items.ComponentLocator, "_find_classes_or_functions", found)


@pytest.fixture(autouse=True)
def _logging_restored() -> Iterator[None]:
    with logging_restored():
        yield


@pytest.fixture(scope="session")
def runs(shapes_folder: Path) -> Runs:
    """Trains tiny networks."""
    return Runs(shapes_folder)


@pytest.fixture(scope="session")
def tiny_run(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run, for tests to read; those that change it copy it first."""
    return runs.train(tmp_path_factory.mktemp("tiny") / "run")


class InstalledPackages:
    """A folder in which packages are installed as pip does it: modules, and metadata with entry points."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def add(self, name: str, entry_points: dict[str, dict[str, str]], **modules: str) -> None:
        """Install a package.

        Args:
            name: of the package, version 1.0.
            entry_points: group -> name -> ``module:attribute``.
            modules: text of each module, by its name.
        """
        metadata = self.folder / f"{name.replace('-', '_')}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(
            "\n".join(
                line
                for group, named in entry_points.items()
                for line in (f"[{group}]", *(f"{key} = {value}" for key, value in named.items()), "")
            )
        )
        for module, text in modules.items():
            (self.folder / f"{module}.py").write_text(text)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InstalledPackages]:
    """Packages that this process finds while the test runs; install all of them before any is looked for."""
    import sys

    packages = InstalledPackages(tmp_path / "site-packages")
    before = set(sys.modules)
    monkeypatch.syspath_prepend(packages.folder)
    yield packages
    for name in set(sys.modules) - before:
        if str(packages.folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
