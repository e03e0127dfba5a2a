"""Preprocessed cases, kept in memory or on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import MissingFileError, OptionError

__all__ = ["located", "preprocessed_cases"]


def located(cases: Sequence[Mapping[str, Any]], folder: str) -> list[dict[str, Any]]:
    """Cases with their files' paths made whole.

    Args:
        cases: each ``{"name": ..., "image": [path, ...], "label": path}``, paths relative to ``folder``.
        folder: of the data set.

    Raises:
        MissingFileError: a file is not there.
    """
    result = []
    for case in cases:
        images = [str(Path(folder, path)) for path in case["image"]]
        label = str(Path(folder, case["label"]))
        for path in (*images, label):
            if not Path(path).is_file():
                raise MissingFileError(
                    f"{path}: no such file (case {case['name']}); where has the data set moved? Give its dataset_dir"
                )
        # one 4-D file is not a list of one channel
        result.append({"image": images if len(images) > 1 else images[0], "label": label})
    return result


def preprocessed_cases(
    data: Sequence[dict[str, Any]],
    transform: Callable[[Any], Any],
    cache: str,
    folder: str,
    recipe: str = "",
) -> Any:
    """Data set of preprocessed cases: MONAI's ``CacheDataset`` or ``PersistentDataset``.

    Args:
        data: as :func:`located` gives.
        transform: deterministic preprocessing.
        cache: ``memory`` or ``disk``.
        folder: of the cache on disk; a case is processed anew when its files or the recipe change.
        recipe: says what the transform does (which itself, with functions in it, cannot be hashed).

    Raises:
        OptionError: no such kind of cache.
    """
    from monai.data import CacheDataset, PersistentDataset

    if cache == "memory":
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return CacheDataset(data, transform, num_workers=workers, progress=False, copy_cache=False)
    if cache == "disk":
        stamped = [{**case, "stamp": f"{_changed(case)} {recipe}"} for case in data]
        return PersistentDataset(stamped, transform, cache_dir=folder)
    raise OptionError(f"no cache {cache!r}; choose memory or disk")


def _changed(case: Mapping[str, Any]) -> list[float]:
    """When each file of a case was last changed."""
    images = case["image"] if isinstance(case["image"], list) else [case["image"]]
    return [Path(path).stat().st_mtime for path in (*images, case["label"])]
