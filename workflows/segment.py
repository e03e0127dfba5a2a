"""``atlaseg segment``: scans in, label maps on the scans' own grids out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias

from atlaseg.pipeline.schema import Count, Share
from atlaseg.workflows.methods.names import Kind

if TYPE_CHECKING:
    from atlaseg.pipeline.segmenter import Segmentation
    from atlaseg.workflows.methods.atlas_classical_labelling import AtlasClassicalLabeller
    from atlaseg.workflows.methods.atlas_labelling import AtlasLabeller
    from atlaseg.workflows.methods.classical_labelling import ClassicalLabeller, SeedLabeller
    from atlaseg.workflows.methods.joined_labelling import JoinedLabeller

    Labeller: TypeAlias = (
        "NetworkLabeller | AtlasLabeller | JoinedLabeller | ClassicalLabeller | AtlasClassicalLabeller"
        " | SeedLabeller"
    )

__all__ = ["Segment"]

ATLAS_OPTIONS = (
    "fusion",
    "transform",
    "engine",
    "linear",
    "different_modality",
    "keep",
    "masks",
    "workers",
    "threads",
    "work",
)
#: Options that mean something to some kinds of model only.
OPTIONS_OF = {
    "network": ("tta", "device"),
    "atlas": ATLAS_OPTIONS,
    "joined": ("tta", "device", "masks", "workers", "threads", "work", "combine", "weight"),
    "classical": ("masks",),
    "atlas-classical": ("masks", "workers", "threads", "work", "weight"),
    "seeds": ("masks", "method", "seed", "option"),
}


@dataclass(frozen=True)
class Segment:
    """Label scans by networks, atlases or a classical method: atlaseg segment RUN SCAN... --out LABELS.

    RUN is a folder that `atlaseg train` wrote; several networks (such as the folds) are averaged as an ensemble.
    RUN may also be a folder of labelled scans in any layout that `atlaseg train` takes: they are registered to each
    scan and their labels fused, without any training; a scan that is itself among them is labelled by the others.
    Without RUN, --method region-growing grows regions from the seeds that --seed names.

    Results have the names of the scans, their exact geometry and the data set's own label values. A scan that
    cannot be labelled is named at the end; the others are done. With atlases, NAME_atlases.json says how well each
    atlas fitted, which were left out and why, and the same command after an interruption goes on where it stopped.
    """

    positional: ClassVar[tuple[str, ...]] = ("paths",)
    repeated: ClassVar[tuple[str, ...]] = ("seed", "option")

    paths: tuple[Path, ...]
    """Runs, then scans (.nii, .nii.gz) or folders of scans; channels of a scan are NAME_0000, NAME_0001, ..."""
    out: Path
    """Folder for the label maps."""
    validation: bool = False
    """Label the validation cases of the run; then name the run alone."""
    dataset: Path | None = None
    """With --validation: the data set of the run; by default RUN/dataset, or the folder near RUN, or below the current
    one, that has the run's cases."""
    tta: bool = False
    """Networks: test-time augmentation, the average over mirrored and shifted copies; 8 times slower."""
    probabilities: bool = False
    """Also write NAME_probabilities.nii.gz, 4-D, one volume per label, background first."""
    device: str = "auto"
    """Networks: auto (a GPU where there is one), cpu or cuda."""
    fusion: str | None = None
    """Atlases: joint (the default), majority, global-weighted, local-weighted, staple or generative."""
    transform: str | None = None
    """Atlases: rigid, similarity, affine, bspline, syn or deformable (the default)."""
    engine: str | None = None
    """Atlases: torch, elastix, ants, simpleitk or greedy; by default the one that suits the transform."""
    linear: Literal["auto", "rigid", "affine"] | None = None
    """Atlases: where the bending begins; by default the better of several is found (auto)."""
    different_modality: bool = False
    """Atlases: they come from another kind of scan (CT for MRI, T2 for T1)."""
    keep: Count | None = None
    """Atlases: how many to register in full to each scan, the most similar to it; by default all."""
    masks: Path | None = None
    """Mask of the scan, or folder of masks with the names of the scans. Atlases are registered inside only, classical
    methods label inside only; networks take none."""
    workers: Count | None = None
    """Atlases: registrations at the same time, each in a process of its own; by default one for each core."""
    threads: Count | None = None
    """Atlases: threads of each registration; by default 1."""
    work: Path | None = None
    """Atlases: folder for finished registrations, which is kept, for example to fuse them in another way; by default
    OUT/.registrations, which is removed once every scan is labelled."""
    combine: Literal["ensemble", "bayes", "none"] | None = None
    """Networks with atlases: how the two are joined in the end; by default as the run has it."""
    weight: Share | None = None
    """Networks and classical methods with atlases: of the atlases there; 0 takes network or method alone."""
    method: str | None = None
    """Without RUN: region-growing."""
    seed: tuple[str, ...] = ()
    """Without RUN: where to begin, x,y,z in voxels from 0, or x,y,zmm in RAS+ millimetres; VALUE:x,y,z gives the region
    another label value than 1. May be repeated."""
    option: tuple[str, ...] = ()
    """Without RUN: an option of the method, name=value; may be repeated (docs/explanation/classical.md)."""

    def run(self) -> int:
        """Label all scans; returns 0, or 1 where a scan failed or a region has leaked over most of it.

        Raises:
            AtlasegError: no scan can be labelled at all (no such model, no scans).
        """
        from atlaseg.pipeline.errors import AtlasegError, FullDiskError
        from atlaseg.pipeline.failures import user_error
        from atlaseg.workflows.console.screen import printable
        from atlaseg.workflows.inputs.scan_files import FoundScans, digits_of, find_scans, validation_scans

        models = Models("seeds", (), self.paths) if self.method or self.seed else find_models(self.paths)
        self._check(models)
        failed: dict[str, str] = {}
        with self.labeller(models) as labeller:
            found = (
                FoundScans(validation_scans(models.folders[0], self.dataset), {}, ())
                if self.validation
                else find_scans(models.rest, labeller.channels, digits_of(models.folders))
            )
            scans = found.files
            failed.update(found.problems)
            for note in found.notes:
                print(note, file=sys.stderr)
            for number, (name, files) in enumerate(scans.items(), start=1):
                try:
                    self._one(labeller, name, files, f"[{number}/{len(scans)}] {name}")
                except FullDiskError:
                    raise  # the next would fare no better
                except (AtlasegError, RuntimeError, MemoryError) as error:
                    # torch reports exhausted memory as RuntimeError; the batch goes on all the same
                    reason = printable(str(user_error(error, str(files[0]), "cannot be labelled")))
                    named = any(str(file) in reason for file in files)
                    failed[name] = reason if named else f"{printable(str(files[0]))}: {reason}"
            if not failed:
                labeller.finish()
            doubtful: dict[str, str] = getattr(labeller, "doubtful", {})
        total = len(scans) + len(found.problems)
        print(f"{total - len(failed)} of {total} scans labelled in {self.out}")
        for name, reason in failed.items():
            print(f"FAILED {printable(name)}: {reason}", file=sys.stderr)
        for name, reason in doubtful.items():
            print(f"LEAKED {printable(name)}: {reason}", file=sys.stderr)
        return 1 if failed or doubtful else 0

    def _check(self, models: Models) -> None:
        from atlaseg.pipeline.errors import OptionError
        from atlaseg.workflows.methods.names import refuse_options_of_others

        if self.validation and models.kind == "seeds":
            raise OptionError("--validation labels the validation cases of a run: name one, without --method")
        if self.validation and models.kind == "dataset":
            raise OptionError(
                f"--validation: {models.folders[0]} is a folder of labelled scans, which keeps none back; name scans"
            )
        if self.validation and (models.rest or len(models.folders) > 1):
            raise OptionError("--validation labels the validation cases of one run: name that run alone")
        if self.dataset is not None and not self.validation:
            raise OptionError(
                "--dataset says where the cases of --validation are: give both, or name scans alone"
            )
        if not self.validation and not models.rest:
            raise OptionError("name the scans, or folders of scans, to label after the run")
        subject = str(models.folders[0]) if models.folders else f"--method {self.method}"
        kind = "atlas" if models.kind == "dataset" else models.kind
        refuse_options_of_others(self, OPTIONS_OF, kind, subject)

    def labeller(self, models: Models) -> Labeller:
        """What labels scans by these models; a context manager, whose `label` takes one scan at a time."""
        if models.kind == "network":
            return NetworkLabeller(
                models.folders, self.device, tta=self.tta, probabilities=self.probabilities
            )
        if models.kind in ("classical", "seeds"):
            from atlaseg.workflows.methods.classical_labelling import ClassicalLabeller, SeedLabeller

            if models.kind == "seeds":
                return SeedLabeller(
                    self.method, self.seed, self.option, masks=self.masks, probabilities=self.probabilities
                )
            return ClassicalLabeller(models.folders[0], masks=self.masks, probabilities=self.probabilities)
        from atlaseg.workflows.methods.atlas_labelling import AtlasChoices, AtlasLabeller

        choices = AtlasChoices(**{name: getattr(self, name) for name in ATLAS_OPTIONS})
        if models.kind == "joined":
            from atlaseg.workflows.methods.joined_labelling import JoinedLabeller

            return JoinedLabeller(
                models.folders[0],
                self.out,
                choices,
                device=self.device,
                tta=self.tta,
                probabilities=self.probabilities,
                combine=self.combine,
                weight=self.weight,
            )
        if models.kind == "atlas-classical":
            from atlaseg.workflows.methods.atlas_classical_labelling import AtlasClassicalLabeller

            return AtlasClassicalLabeller(
                models.folders[0], self.out, choices, probabilities=self.probabilities, weight=self.weight
            )
        return AtlasLabeller(models.folders[0], self.out, choices, probabilities=self.probabilities)

    def _one(self, labeller: Labeller, name: str, files: tuple[Path, ...], title: str) -> None:
        from atlaseg.pipeline.io.volume import write_label_map, write_probabilities

        target = self.out / f"{name}.nii.gz"
        if any(self.out.resolve() in (file.parent.resolve(), file.resolve().parent) for file in files):
            from atlaseg.pipeline.errors import OptionError

            raise OptionError(
                f"{target}: the result would replace the scan, or be taken for one; choose another --out"
            )
        result = labeller.label(name, files, title)
        write_label_map(target, result.label_map, files[0])
        if result.probabilities is not None:
            import numpy as np

            chances: Any = np.asarray(result.probabilities, dtype=np.float32)
            write_probabilities(self.out / f"{name}_probabilities.nii.gz", chances, files[0])


class NetworkLabeller:
    """Labels scans with a network or an ensemble.

    Args:
        runs: folders that `atlaseg train` wrote.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        tta: average over mirrored and shifted copies even where the plan does not.
        probabilities: whether labels come with probabilities.

    Raises:
        AtlasegError: a run cannot be opened, or the runs do not go together.
    """

    def __init__(self, runs: Sequence[Path], device: str, *, tta: bool, probabilities: bool) -> None:
        from atlaseg.pipeline.network_segmenter import NetworkSegmenter

        self.tta, self.probabilities = tta, probabilities
        self._segmenter = NetworkSegmenter.load(*runs, device=device)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    @property
    def channels(self) -> int:
        """How many channels scans must have."""
        return len(self._segmenter.fitted_plan.channels)

    def label(self, name: str, files: tuple[Path, ...], title: str) -> Segmentation:  # noqa: ARG002
        """Labels of one scan."""
        from atlaseg.pipeline.io.volume import read_image
        from atlaseg.pipeline.progress import ProgressDisplay

        with ProgressDisplay(title, 1.0) as bar:
            return self._segmenter.segment(
                read_image(files),
                tta=True if self.tta else None,
                probabilities=self.probabilities,
                progress=bar,
            )

    def finish(self) -> None:
        """Nothing is kept from scan to scan."""


@dataclass(frozen=True)
class Models:
    """What the paths of a command line are.

    Args:
        kind: ``network`` runs, an ``atlas``, ``joined``, ``classical`` or ``atlas-classical`` run, a ``dataset``
            (labelled scans), or ``seeds`` without any model.
        folders: of the models; one, unless they are networks; none with seeds.
        rest: paths of the scans.
    """

    kind: Kind | Literal["dataset", "seeds"]
    folders: tuple[Path, ...]
    rest: tuple[Path, ...]


#: What a run of each kind is, in messages.
_SAID: dict[Kind, str] = {
    "network": "is a network",
    "atlas": "holds atlases",
    "joined": "is a network with atlases",
    "classical": "holds a classical method",
    "atlas-classical": "holds a classical method with atlases",
}


def kind_of_run(folder: Path) -> Kind | None:
    """What kind of method wrote a folder; ``None`` for other folders and for files."""
    from atlaseg.atlases.atlas_classical_segmenter import is_atlas_classical_bundle
    from atlaseg.atlases.atlas_network_segmenter import ATLASES
    from atlaseg.atlases.multi_atlas_bundle import is_atlas_bundle
    from atlaseg.pipeline.classical.classical_bundle import is_classical_bundle

    if is_atlas_classical_bundle(folder):
        return "atlas-classical"
    if is_classical_bundle(folder):
        return "classical"
    if is_atlas_bundle(folder / ATLASES):
        return "joined"
    if (folder / "configs" / "plan.yaml").is_file():
        return "network"
    return "atlas" if is_atlas_bundle(folder) else None


def find_models(paths: tuple[Path, ...]) -> Models:
    """Tell models from scans.

    Raises:
        OptionError: there is no model among the paths, or several that do not go together.
    """
    from atlaseg.pipeline.errors import OptionError
    from atlaseg.workflows.methods.atlas_labelling import is_dataset

    runs = [(path, kind) for path in paths if (kind := kind_of_run(path)) is not None]
    if runs:
        path, kind = runs[0]
        for other, of_another in runs[1:]:
            if not kind == of_another == "network":
                raise OptionError(
                    f"{path} {_SAID[kind]} and {other} {_SAID[of_another]}: they cannot be joined, name one of them"
                )
        folders = tuple(path for path, _ in runs)
        return Models(kind, folders, tuple(path for path in paths if path not in folders))
    if paths and is_dataset(paths[0]):
        return Models("dataset", paths[:1], paths[1:])
    raise OptionError(
        f"none of {', '.join(map(str, paths))} is a run of atlaseg train, and the first is not a folder of labelled "
        "scans (with dataset.json, or images/ and labels/)"
    )
