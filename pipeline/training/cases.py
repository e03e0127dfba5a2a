"""Preprocessed cases, kept in memory or on disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.transforms import Transform

from atlaseg.pipeline.errors import DatasetError, MissingFileError, OptionError
from atlaseg.pipeline.failures import user_error

__all__ = ["located", "preprocessed_cases", "refuse_empty", "sources"]


def located(
    cases: Sequence[Mapping[str, Any]], folder: str, run: str, scans: str = ""
) -> list[dict[str, Any]]:
    """Cases with absolute paths of their files.

    Args:
        cases: each ``{"name": ..., "image": [path, ...], "label": path}``, paths relative to ``folder``; a ``prior`` is
            relative to ``run``, and so are the files of a case with a ``source``, which was made from that other case;
            of one with a ``certainty``, whose labels are by atlases, the images are relative to ``scans``.
        folder: of the data set.
        run: folder of the run.
        scans: folder of scans without labels.

    Raises:
        MissingFileError: a file is not there.
    """
    result = []
    for case in cases:
        made = "source" in case or "certainty" in case
        home = scans if "certainty" in case else run if made else folder
        images = [str(Path(home, path)) for path in case["image"]]
        files = {"label": str(Path(run if made else folder, case["label"]))}
        if "prior" in case:
            files["prior"] = str(Path(run, case["prior"]))
        for path in (*images, *files.values()):
            if not Path(path).is_file():
                raise MissingFileError(
                    f"{path}: no such file (case {case['name']}); give the folder of the data set, for `python -m "
                    "monai.bundle` by --dataset_dir, and that of scans without labels by --unlabelled_dir"
                )
        # one 4-D file is not a list of one channel
        result.append({"image": images if len(images) > 1 else images[0], **files})
    return result


def sources(cases: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[int]:
    """For each warped case of ``cases.json``, the place of the training case that it was made from.

    >>> sources({"training": [{"name": "a"}, {"name": "b"}], "warped": [{"name": "b-to-a", "source": "b"}]})
    [1]
    """
    places = {case["name"]: place for place, case in enumerate(cases["training"])}
    return [places[case["source"]] for case in cases.get("warped", ())]


_READING = threading.Lock()


class _OneAtATime(Transform):
    """A transform that never runs in two threads, so that memory is needed for preparing one scan and no more."""

    def __init__(self, transform: Callable[[Any], Any]) -> None:
        self.transform = transform

    def __call__(self, case: Any) -> Any:
        # one lock for all: training and validation share their transform
        with _READING:
            try:
                return _without_folders(self.transform(case))
            except RuntimeError as error:  # MONAI wraps every error of a transform
                raise user_error(error, _file_of(case), "cannot be prepared for training") from error


def _without_folders(case: Any) -> Any:
    """The case with the names of its files, not their folders, which a cache on disk would keep."""
    for image in case.values() if isinstance(case, dict) else ():
        if (meta := getattr(image, "meta", None)) and "filename_or_obj" in meta:
            meta["filename_or_obj"] = Path(str(meta["filename_or_obj"])).name
    return case


def _file_of(case: Mapping[str, Any]) -> str:
    """The file that messages name: the first channel of the scan."""
    return str(case["image"] if isinstance(case["image"], str) else case["image"][0])


def refuse_empty(image: Any) -> None:
    """Refuse a scan without any voxel to crop to; called by the configs.

    Raises:
        DatasetError: always.
    """
    file = getattr(image, "meta", {}).get("filename_or_obj", "the scan")
    raise DatasetError(
        f"{file}: the scan is empty, no voxel lies above the plan's foreground_threshold, to which this network crops"
    )


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

    transform = _OneAtATime(transform)
    if cache == "memory":
        return CacheDataset(data, transform, num_workers=0, progress=False, copy_cache=False)
    if cache == "disk":
        stamped = [{**case, "stamp": f"{_changed(case)} {recipe}"} for case in data]
        return PersistentDataset(stamped, transform, cache_dir=folder)
    raise OptionError(f"no cache {cache!r}; choose memory or disk")


def _changed(case: Mapping[str, Any]) -> list[float]:
    """When each file of a case was last changed."""
    images = case["image"] if isinstance(case["image"], list) else [case["image"]]
    more = [case[key] for key in ("label", "prior") if key in case]
    return [Path(path).stat().st_mtime for path in (*images, *more)]
