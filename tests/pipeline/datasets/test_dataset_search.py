"""How a run finds its data set again."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from atlaseg.pipeline.datasets.dataset_search import dataset_of_run, files_digest
from atlaseg.pipeline.errors import DatasetError, MissingFileError, UnreadableFileError


def test_digest_sees_a_change_anywhere_in_a_gzip_file(tmp_path: Path) -> None:
    content = bytearray(1 << 20)
    digests = set()
    for place in (0, 4096, 777_777, (1 << 20) - 1):
        content[place] = 1
        path = tmp_path / f"{place}.nii.gz"
        path.write_bytes(gzip.compress(bytes(content), mtime=0))
        digests.add(files_digest([path]))
    assert len(digests) == 4
    with pytest.raises(MissingFileError, match=r"none\.nii: no such file"):
        files_digest([tmp_path / "none.nii"])


@pytest.fixture
def moved(tiny_run: Path, shapes_folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A run and its data set, moved together."""
    run, data = tmp_path / "new" / "runs" / "r", tmp_path / "new" / "data" / "shapes"
    shutil.copytree(tiny_run, run)
    shutil.copytree(shapes_folder, data)
    return run, data


def test_the_data_set_is_found_near_the_run(
    moved: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, data = moved
    monkeypatch.chdir(tmp_path / "new" / "data")
    assert dataset_of_run(run) == data
    far = tmp_path / "far" / "away" / "from" / "it"
    far.parent.mkdir(parents=True)
    run.rename(far)
    assert dataset_of_run(far).resolve() == data  # below the current folder
    monkeypatch.chdir(far)
    with pytest.raises(MissingFileError, match=r"not found near the run.*--dataset") as error:
        dataset_of_run(far)
    assert "\n" not in str(error.value)
    (far / "dataset").symlink_to(data)
    assert dataset_of_run(far) == far / "dataset"


def test_only_the_very_files_are_taken(moved: tuple[Path, Path], tmp_path: Path) -> None:
    run, data = moved
    (case,) = json.loads((run / "configs" / "cases.json").read_text())["validation"]
    assert dataset_of_run(run, data) == data
    (data / case["label"]).unlink()  # labels are not needed to label a scan
    assert dataset_of_run(run, data) == data
    (data / case["image"][0]).write_bytes(b"another scan")
    with pytest.raises(
        DatasetError, match=rf"not the data set of .*: the scan of case {case['name']} is another"
    ):
        dataset_of_run(run, data)
    with pytest.raises(MissingFileError, match="has such cases, but the scan of case"):
        dataset_of_run(run)
    (data / case["image"][0]).unlink()
    with pytest.raises(DatasetError, match=f"it has no {case['image'][0]}"):
        dataset_of_run(run, data)
    with pytest.raises(MissingFileError, match="nowhere: no such folder"):
        dataset_of_run(run, tmp_path / "nowhere")


def test_a_run_of_version_0_1_knows_the_path(moved: tuple[Path, Path], tmp_path: Path) -> None:
    run, data = moved
    path = run / "configs" / "request.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dataset": str(data)}))
    run = run.rename(tmp_path / "elsewhere")
    assert dataset_of_run(run) == data
    (run / "configs" / "request.json").write_text("[]")
    with pytest.raises(UnreadableFileError, match=r"request\.json"):
        dataset_of_run(run)
    (run / "configs" / "request.json").unlink()
    with pytest.raises(MissingFileError, match="the cases of the run are not known"):
        dataset_of_run(run)
