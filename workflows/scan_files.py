"""Which scans a command is to label: files, folders, channels, or the validation cases of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["find_scans", "validation_scans"]


def validation_scans(run: Path) -> dict[str, tuple[Path, ...]]:
    """Scans of a run's validation cases, as `atlaseg train` left them out.

    Raises:
        MissingFileError: the run lacks its list of cases.
        UnreadableFileError: the list is damaged.
        DatasetError: a name is not usable as a file name.
    """
    from pipeline.case import Case
    from pipeline.errors import MissingFileError
    from pipeline.files import read_json, taking_apart

    lists, request = run / "configs" / "cases.json", run / "configs" / "request.json"
    for path in (lists, request):
        if not path.is_file():
            raise MissingFileError(
                f"{path}: not there, so the validation cases are not known; name the scans instead"
            )
    with taking_apart(request, "the options of a run"):
        folder = Path(read_json(request)["dataset"])
    with taking_apart(lists, "the cases of a run"):
        # a Case refuses names that lead out of the folder of results
        cases = [
            Case(str(entry["name"]), tuple(folder / path for path in entry["image"]))
            for entry in read_json(lists)["validation"]
        ]
    return {case.name: case.images for case in cases}


def find_scans(images: tuple[Path, ...], channels: int) -> dict[str, tuple[Path, ...]]:
    """Scans by name, each with the files of its channels.

    Args:
        images: files and folders.
        channels: how many the network expects.

    Raises:
        MissingFileError: a path does not exist, or a channel of a scan is missing.
        DatasetError: there are no scans, or two of the same name.
    """
    from pipeline.errors import DatasetError, MissingFileError
    from pipeline.scan_names import volume_name

    scans: dict[str, tuple[Path, ...]] = {}
    for file in _files(images):
        name = volume_name(file)
        parts: tuple[Path, ...] = (file,)
        if channels > 1 and name.endswith("_0000"):
            ending = file.name[len(name) :]
            name = name[:-5]
            parts = tuple(file.with_name(f"{name}_{c:04d}{ending}") for c in range(channels))
            if missing := [p for p in parts if not p.is_file()]:
                raise MissingFileError(f"{missing[0]}: this channel of scan {name} is missing")
        elif channels > 1 and name[-5:-4] == "_" and name[-4:].isdigit():
            continue  # a further channel, which comes with its first
        if name in scans:
            raise DatasetError(
                f"{file}: there is another scan called {name}; results would replace each other"
            )
        scans[name] = parts
    if not scans:
        raise DatasetError(f"no .nii or .nii.gz file in {', '.join(map(str, images))}")
    return scans


def _files(images: tuple[Path, ...]) -> Iterator[Path]:
    from pipeline.errors import MissingFileError

    for path in images:
        if path.is_dir():
            yield from sorted(
                p
                for p in path.iterdir()
                if p.name.endswith((".nii", ".nii.gz")) and not p.name.startswith(".")
            )
        elif path.is_file():
            yield path
        else:
            raise MissingFileError(f"{path}: no such file or folder")
