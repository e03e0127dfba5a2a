"""Preprocessed cases, in memory and on disk."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import Compose, Transform

from atlaseg.pipeline.errors import MissingFileError, OptionError
from atlaseg.pipeline.training.cases import located, preprocessed_cases


def folder_of(path: Path) -> list[dict[str, Any]]:
    for name in ("a_0000", "a_0001", "a", "b"):
        np.save(path / f"{name}.npy", np.zeros(2))
    return [{"name": "x", "image": ["a_0000.npy", "a_0001.npy"], "label": "a.npy"}]


def test_located(tmp_path: Path) -> None:
    cases = folder_of(tmp_path)
    several = located(cases, str(tmp_path), "")
    assert several == [
        {
            "image": [str(tmp_path / "a_0000.npy"), str(tmp_path / "a_0001.npy")],
            "label": str(tmp_path / "a.npy"),
        }
    ]
    cases[0]["image"] = ["b.npy"]
    assert located(cases, str(tmp_path), "")[0]["image"] == str(tmp_path / "b.npy")
    cases[0]["label"] = str(tmp_path / "b.npy")  # outside of the data set's folder
    assert located(cases, str(tmp_path), "")[0]["label"] == str(tmp_path / "b.npy")


def test_files_that_were_made_lie_in_the_run(tmp_path: Path) -> None:
    for name in ("data", "run"):
        (tmp_path / name).mkdir()
        folder_of(tmp_path / name)
    data, run = str(tmp_path / "data"), str(tmp_path / "run")
    own = {"name": "x", "image": ["a.npy"], "label": "b.npy", "prior": "a_0000.npy"}
    made = {**own, "name": "x-to-y", "source": "x"}
    assert located([own, made], data, run) == [
        {"image": f"{data}/a.npy", "label": f"{data}/b.npy", "prior": f"{run}/a_0000.npy"},
        {"image": f"{run}/a.npy", "label": f"{run}/b.npy", "prior": f"{run}/a_0000.npy"},
    ]
    (tmp_path / "run" / "a_0000.npy").unlink()
    with pytest.raises(MissingFileError, match="a_0000"):
        located([own], data, run)


def test_a_moved_data_set(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"a_0000\.npy.*case x.*dataset_dir"):
        located(folder_of(tmp_path), str(tmp_path / "elsewhere"), "")


class Reading(Transform):
    """Reads a case and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, case: dict[str, Any]) -> dict[str, torch.Tensor]:
        self.count += 1
        return {key: torch.from_numpy(np.load(case[key])) for key in ("image", "label")}


def two_cases(folder: Path) -> list[dict[str, Any]]:
    for index in range(4):
        np.save(folder / f"{index}.npy", np.full(3, index))
    return [{"image": str(folder / f"{i}.npy"), "label": str(folder / f"{i + 2}.npy")} for i in range(2)]


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_each_case_is_read_once(tmp_path: Path, cache: str) -> None:
    reading = Reading()
    cases = preprocessed_cases(two_cases(tmp_path), Compose([reading]), cache, str(tmp_path / "cache"))
    for _ in range(3):
        assert cases[1]["image"].tolist() == [1, 1, 1]
        assert cases[0]["label"].tolist() == [2, 2, 2]
    assert reading.count == 2


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    data = two_cases(tmp_path)

    def first() -> list[int]:
        cases = preprocessed_cases(data, Compose([Reading()]), "disk", str(tmp_path / "cache"))
        return cases[0]["image"].tolist()

    assert first() == [0, 0, 0]
    np.save(tmp_path / "0.npy", np.full(3, 9))
    os.utime(tmp_path / "0.npy", (1, 1))
    assert first() == [9, 9, 9]


def test_unknown_cache(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="memory or disk"):
        preprocessed_cases([], lambda case: case, "cloud", str(tmp_path))


def test_another_recipe_is_prepared_again(tmp_path: Path) -> None:
    data, reading = two_cases(tmp_path), Reading()
    for recipe, expected in (("a", 1), ("a", 1), ("b", 2)):
        preprocessed_cases(data, Compose([reading]), "disk", str(tmp_path / "cache"), recipe)[0]
        assert reading.count == expected


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_threads_do_not_run_the_transform_together(tmp_path: Path, cache: str) -> None:
    """However many threads cut patches, memory is needed for preparing one scan."""
    inside, most = [0], [0]

    def transform(case: dict[str, Any]) -> dict[str, torch.Tensor]:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.02)
        inside[0] -= 1
        return {key: torch.from_numpy(np.load(case[key])) for key in ("image", "label")}

    data = two_cases(tmp_path)
    with ThreadPoolExecutor(4) as executor:
        made = executor.map(
            lambda i: preprocessed_cases(data, transform, cache, f"{tmp_path}/{i}")[i % 2], range(4)
        )
        assert [case["image"].tolist() for case in made] == [[0] * 3, [1] * 3] * 2
    assert most == [1]
