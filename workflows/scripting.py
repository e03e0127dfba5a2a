"""What scripts call by ``import atlaseg``: whole jobs as functions that take paths and give back objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

    from atlaseg.atlases.fusion.candidates import FusionRule
    from atlaseg.atlases.registration.transforms.transform import Transform
    from atlaseg.pipeline.case import Dataset
    from atlaseg.pipeline.segmenter import Segmentation, Segmenter

__all__ = ["checked_job", "evaluate", "fuse", "load", "make_phantom", "train", "warp"]

File = Path | str


def make_phantom(
    folder: File,
    scans: int = 12,
    *,
    kind: Literal["brain", "ellipsoids-and-boxes", "noisy-spheres"] = "brain",
    seed: int = 0,
) -> Dataset:
    """Make a synthetic data set to try things on, as ``atlaseg phantom``.

    Args:
        folder: that must not exist, or be empty.
        scans: how many to make, all labelled.
        kind: brains with five structures, or simple shapes in noise.
        seed: of everything random.

    Returns:
        The data set that the folder holds now.

    Raises:
        OptionError: the folder is not empty, or an option is not possible.

    Example::

        dataset = atlaseg.make_phantom("PHANTOM", scans=5)
        print(dataset.labels.names)
    """
    from atlaseg.pipeline.datasets import read_dataset
    from atlaseg.workflows.phantom import Phantom

    checked_job(Phantom, "make_phantom", out=folder, subjects=scans, kind=kind, seed=seed).run()
    return read_dataset(Path(folder))


def train(dataset: File, out: File, method: str | None = None, **options: Any) -> Segmenter:
    """Train a method on a folder of labelled scans, as ``atlaseg train``: the same checks, the same run.

    An interrupted call goes on where it stopped, and one that had finished opens what there is.

    Args:
        dataset: folder of the data set.
        out: folder of the run.
        method: one of those that ``atlaseg methods`` lists, by default the first of them, a network.
        options: of ``atlaseg train --help``, with ``_`` for ``-``: ``epochs=300``, ``folds=1``, ``keep=10``.

    Returns:
        What :func:`load` makes of the run.

    Raises:
        OptionError: there is no such method or option, or its value is not possible.
        DatasetError: the data set has errors that `atlaseg check` lists.
        AtlasegError: whatever else stops the training.

    Example::

        segmenter = atlaseg.train("DATASET", "RUN", method="unet", minutes=60)
    """
    from atlaseg.workflows.train import Train

    checked_job(Train, "train", dataset=dataset, out=out, method=method, **options).run()
    return load(out)


def load(folder: File, *others: File, device: str = "auto") -> Segmenter:
    """Open a run of ``atlaseg train``, whatever its method, or take labelled scans as atlases.

    Args:
        folder: of a run, or of labelled scans in any layout that :func:`read_dataset` reads.
        others: further runs of networks, which become an ensemble with the first.
        device: of networks: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``cuda:1``.

    Returns:
        A segmenter of the class that suits the run.

    Raises:
        OptionError: the folder is neither, or runs do not go together.
        AtlasegError: a file in it is not as it must be.

    Example::

        segmenter = atlaseg.load("RUN")
        result = segmenter.segment(atlaseg.read_image("scan.nii.gz"))
        result.save("labels.nii.gz", "scan.nii.gz")
    """
    from atlaseg.workflows.methods.models import models_among

    folders = (Path(folder), *map(Path, others))
    models = models_among(folders)
    if models.rest:
        from atlaseg.pipeline.errors import OptionError

        raise OptionError(f"{models.rest[0]}: not a run of atlaseg train, so it cannot join {folder}")
    return models.source.load(models.folders, device=device)


def fuse(
    label_maps: Sequence[File],
    rule: str | FusionRule | None = None,
    *,
    scan: File | None = None,
    images: Sequence[File] = (),
    probabilities: bool = False,
    **options: Any,
) -> Segmentation:
    """Join label maps of one scan into one, as ``atlaseg fuse``.

    Args:
        label_maps: files on one grid, two or more, such as those of several raters.
        rule: name of a fusion rule, one of those that ``atlaseg methods`` lists, or a rule of your own; by default each
            label map has one vote.
        scan: the scan itself; for rules that compare intensities.
        images: the image that belongs to each label map, on the same grid; for rules that compare intensities.
        probabilities: also return them, ``(K, *spatial)``.
        options: of the rule.

    Raises:
        OptionError: no such rule or option, or it needs images that are not given.
        AtlasegError: a file is not as it must be, or lies on another grid.

    Example::

        result = atlaseg.fuse(["anna.nii.gz", "ben.nii.gz", "carl.nii.gz"], "staple")
        result.save("consensus.nii.gz", "scan.nii.gz")
    """
    from atlaseg.pipeline.errors import OptionError
    from atlaseg.pipeline.io.volume import read_header
    from atlaseg.pipeline.segmenter import Segmentation
    from atlaseg.workflows.fuse import fuse_files, rule_for

    paths = tuple(map(Path, label_maps))
    if rule is None or isinstance(rule, str):
        rule = rule_for(rule, options, paths[0] if paths else None)
    elif options:
        raise OptionError(f"options of a rule of your own ({', '.join(options)}) belong into the rule itself")
    target = None if scan is None else Path(scan)
    table, fused = fuse_files(paths, rule, target, tuple(map(Path, images)), probabilities=probabilities)
    return Segmentation(table.to_values(fused.labels), read_header(paths[0]).affine, fused.probabilities)


def evaluate(
    predictions: File,
    references: File,
    *,
    labels: File | None = None,
    tolerance_mm: float = 1.0,
    surface: Literal["voxels", "elements"] = "voxels",
    only_predicted: bool = False,
) -> pd.DataFrame:
    """Score label maps by reference ones, as ``atlaseg evaluate``.

    Args:
        predictions: a label map, or a folder of them.
        references: a label map, or a folder with label maps of the same names.
        labels: names of the structures: a plan.yaml, or a data set's folder; by default looked for beside the
            references.
        tolerance_mm: distance that the surface Dice takes as agreement.
        surface: what surfaces are made of.
        only_predicted: leave out references without a prediction instead of counting them with the worst scores.

    A case that cannot be compared is named on standard error and left out.

    Returns:
        A table with a row for each case and structure, with the columns of the command's csv file.

    Raises:
        OptionError: an option has no sensible value.
        AtlasegError: there is nothing to compare, or no case can be.

    Example::

        scores = atlaseg.evaluate("LABELS", "DATASET/labelsTr", only_predicted=True)
        print(scores.groupby("structure")["dice"].mean())
    """
    import contextlib
    import io
    from tempfile import TemporaryDirectory

    import pandas as pd

    from atlaseg.pipeline.errors import DatasetError
    from atlaseg.workflows.evaluate import Evaluate

    with TemporaryDirectory() as folder:
        table = Path(folder) / "scores.csv"
        job = checked_job(
            Evaluate,
            "evaluate",
            predictions=predictions,
            references=references,
            out=table,
            labels=labels,
            tolerance_mm=tolerance_mm,
            surface=surface,
            only_predicted=only_predicted,
        )
        with contextlib.redirect_stdout(io.StringIO()):  # the summary; problems are told on standard error
            job.run()
        if not table.is_file():
            raise DatasetError(
                f"{predictions}: no case could be compared with {references}; see the lines before"
            )
        # "NA" may be the name of a structure
        empty = {"volume_difference_percent": [""]}
        return pd.read_csv(table, keep_default_na=False, na_values=empty)


def warp(moving: File, transform: Transform, fixed: File, out: File, *, labels: bool = False) -> None:
    """Carry an image or a label map to the grid of another image.

    Args:
        moving: NIfTI file, 3-D.
        transform: fixed -> moving points, such as the one of a :class:`Registration`.
        fixed: the image whose grid is wanted.
        out: file for the result.
        labels: the file is a label map, whose values must not be mixed.

    Raises:
        AtlasegError: a file is missing or broken.

    Example::

        found = atlaseg.register("fixed.nii.gz", "moving.nii.gz", "affine")
        atlaseg.warp("moving_labels.nii.gz", found.transform, "fixed.nii.gz", "warped.nii.gz", labels=True)
    """
    from tempfile import TemporaryDirectory

    from atlaseg.atlases.registration.transforms.transform_files import write_transform
    from atlaseg.workflows.warp import Warp

    with TemporaryDirectory() as folder:
        path = Path(folder) / "transform.h5"
        write_transform(path, transform)
        Warp(
            Path(moving),
            out=Path(out),
            transform=(str(path),),
            reference=Path(fixed),
            labels=labels,
        ).run()


def checked_job(kind: type[Any], who: str, /, **given: Any) -> Any:
    """A command's job from options by their plain names, checked as on the command line.

    Args:
        kind: class of the job.
        who: the function that was called, for messages.
        given: its options.

    Raises:
        OptionError: there is no such option, or its value is of another type or out of range.

    >>> from atlaseg.workflows.train import Train
    >>> checked_job(Train, "train", dataset="DATA", out="RUN", folds=3).folds
    3
    """
    from typing import get_args

    from atlaseg.pipeline.errors import OptionError, PlanError
    from atlaseg.pipeline.schema import convert
    from atlaseg.workflows.methods.option_groups import fill, option_types

    offered = option_types(kind)
    if unknown := [name for name in given if name not in offered]:
        raise OptionError(f"{who} has no option {unknown[0]!r}; it has {', '.join(offered)}")
    options = {}
    for name, value in given.items():
        if Path in (offered[name], *get_args(offered[name])):
            options[name] = None if value is None else Path(value)
            continue
        try:
            options[name] = convert(offered[name], list(value) if isinstance(value, tuple) else value, name)
        except PlanError as error:
            raise OptionError(f"{who}: {error}") from error
    return fill(kind, **options)
