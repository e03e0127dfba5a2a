"""``atlaseg segment``: scans in, label maps on the scans' own grids out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from pipeline.network_segmenter import NetworkSegmenter

__all__ = ["Segment"]


@dataclass(frozen=True)
class Segment:
    """Label scans with a trained network: atlaseg segment RUN SCAN... --out LABELS.

    RUN is a folder that `atlaseg train` wrote; several runs (such as the folds) are averaged as an ensemble.
    Results have the names of the scans, their exact geometry and the data set's own label values. A scan that
    cannot be labelled is named at the end; the others are done.
    """

    positional: ClassVar[tuple[str, ...]] = ("paths",)

    paths: tuple[Path, ...]
    """Runs, then scans (.nii, .nii.gz) or folders of scans; channels of a scan are NAME_0000, NAME_0001, ..."""
    out: Path
    """Folder for the label maps."""
    validation: bool = False
    """Label the validation cases of the run; then name the run alone."""
    tta: bool = False
    """Test-time augmentation: average over mirrored and shifted copies. 8 times slower; see if you gain by it."""
    probabilities: bool = False
    """Also write NAME_probabilities.nii.gz, 4-D, one volume per label, background first."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu or cuda."""

    def run(self) -> int:
        """Label all scans; returns 0, or 1 where a scan failed.

        Raises:
            AtlasegError: no scan can be labelled at all (no such model, no scans).
        """
        from pipeline.errors import AtlasegError
        from pipeline.network_segmenter import NetworkSegmenter

        runs, images = split_paths(self.paths)
        self._check(runs, images)
        segmenter = NetworkSegmenter.load(*runs, device=self.device)
        channels = len(segmenter.fitted_plan.channels)
        scans = validation_scans(runs[0]) if self.validation else find_scans(images, channels)
        failed: dict[str, str] = {}
        for number, (name, files) in enumerate(scans.items(), start=1):
            try:
                self._one(segmenter, name, files, f"[{number}/{len(scans)}] {name}")
            except (AtlasegError, RuntimeError, MemoryError) as error:
                # torch reports exhausted memory as RuntimeError; the batch goes on all the same
                failed[name] = " ".join(str(error).split())
        print(f"{len(scans) - len(failed)} of {len(scans)} scans labelled in {self.out}")
        for name, reason in failed.items():
            print(f"FAILED {name}: {reason}", file=sys.stderr)
        return 1 if failed else 0

    def _check(self, runs: list[Path], images: tuple[Path, ...]) -> None:
        from pipeline.errors import OptionError

        if self.validation and (images or len(runs) > 1):
            raise OptionError("--validation labels the validation cases of one run: name that run alone")
        if not self.validation and not images:
            raise OptionError("name the scans, or folders of scans, to label after the run")

    def _one(self, segmenter: NetworkSegmenter, name: str, files: tuple[Path, ...], title: str) -> None:
        from tqdm import tqdm

        from pipeline.volume import read_image, write_label_map, write_probabilities

        target = self.out / f"{name}.nii.gz"
        if any(target.resolve() == file.resolve() for file in files):
            from pipeline.errors import OptionError

            raise OptionError(f"{target}: the result would replace the scan; choose another --out")
        with tqdm(
            total=1.0, desc=title, bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}", disable=None
        ) as bar:

            def progress(share: float) -> None:
                bar.n = share
                bar.update(0)

            result = segmenter.segment(
                read_image(files),
                tta=True if self.tta else None,
                probabilities=self.probabilities,
                progress=progress,
            )
        write_label_map(target, result.label_map, files[0])
        if result.probabilities is not None:
            import numpy as np

            chances: Any = np.asarray(result.probabilities, dtype=np.float32)
            write_probabilities(self.out / f"{name}_probabilities.nii.gz", chances, files[0])


def split_paths(paths: tuple[Path, ...]) -> tuple[list[Path], tuple[Path, ...]]:
    """Folders of runs, and the rest.

    Raises:
        OptionError: there is no run among the paths.
    """
    from pipeline.errors import OptionError

    runs = [path for path in paths if (path / "configs" / "plan.yaml").is_file()]
    rest = tuple(path for path in paths if path not in runs)
    if not runs:
        raise OptionError(
            f"none of {', '.join(map(str, paths))} is a run of atlaseg train (with configs/plan.yaml)"
        )
    return runs, rest


def validation_scans(run: Path) -> dict[str, tuple[Path, ...]]:
    """Scans of a run's validation cases, as `atlaseg train` left them out.

    Raises:
        MissingFileError: the run lacks its list of cases.
        UnreadableFileError: the list is damaged.
        DatasetError: a name is not usable as a file name.
    """
    from pipeline.case import Case
    from pipeline.errors import MissingFileError, UnreadableFileError
    from pipeline.files import read_json

    lists, request = run / "configs" / "cases.json", run / "configs" / "request.json"
    for path in (lists, request):
        if not path.is_file():
            raise MissingFileError(
                f"{path}: not there, so the validation cases are not known; name the scans instead"
            )
    try:
        folder = Path(read_json(request)["dataset"])
        # a Case refuses names that lead out of the folder of results
        cases = [
            Case(str(entry["name"]), tuple(folder / path for path in entry["image"]))
            for entry in read_json(lists)["validation"]
        ]
    except (KeyError, TypeError) as error:
        raise UnreadableFileError(
            f"{lists}: not the cases that `atlaseg train` writes; name the scans instead"
        ) from error
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
    from pipeline.volume import volume_name

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
