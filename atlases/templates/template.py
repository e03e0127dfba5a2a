"""Groupwise templates: the mean image of a set of atlases in their mean shape.

Every atlas is registered to the current template, the warped images are averaged, and the average is moved by the
inverse of the mean of all transforms, so that neither the first template nor any one atlas lends it its shape: Guimond
et al., Computer Vision and Image Understanding 77:192-210 (2000), doi:10.1006/cviu.1999.0815; Joshi et al., NeuroImage
23:S151-S160 (2004), doi:10.1016/j.neuroimage.2004.07.068; Avants et al., NeuroImage 49:2457-2466 (2010),
doi:10.1016/j.neuroimage.2009.09.062. Images are resampled once, from their own grid.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.atlas_set import AtlasSet
from atlaseg.atlases.registration.defaults import DEFAULT_TRANSFORM
from atlaseg.atlases.registration.register import engine_for
from atlaseg.atlases.registration.stage import Stage, stages_of
from atlaseg.atlases.registration.transforms.displacement import grid_points
from atlaseg.atlases.registration.transforms.frames import affine_of, read_itk, to_itk
from atlaseg.atlases.registration.transforms.inversion import invert
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.atlases.registration.transforms.transform_files import read_transform, write_transform
from atlaseg.atlases.templates.mean_shape import affine_part, closest_rotation, mean_shape
from atlaseg.atlases.templates.population import robust_mean
from atlaseg.atlases.templates.template_grid import common_grid, medoid
from atlaseg.atlases.templates.template_judgement import Judgement, judge
from atlaseg.atlases.templates.template_measures import change, sharpness
from atlaseg.atlases.templates.template_tasks import (
    Carry,
    Registering,
    carry,
    each,
    register_to_template,
    write_template,
)
from atlaseg.pipeline.errors import DatasetError, OptionError
from atlaseg.pipeline.progress import Progress

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["Iteration", "Template", "TemplateOptions", "build_template"]

Floats = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]

#: Changes whenever finished registrations of an earlier version must not be taken up.
_VERSION = 1


@dataclass(frozen=True)
class TemplateOptions:
    """Options of building a template.

    Args:
        stages: name of a transform, or stages that are run as they are
            (:func:`atlaseg.atlases.templates.template_tasks.fit`).
        engine: of the registrations.
        iterations: registrations of every atlas to a new template.
        sharpening: share, 0 to 1, of a Laplacian-sharpened image in each template; ANTs mixes in a quarter.
        channel: of the images.
        seed: of the registrations.
        threads: of one registration.

    Raises:
        OptionError: a number is out of range, or there is no such transform.
    """

    stages: str | tuple[Stage, ...] = DEFAULT_TRANSFORM
    engine: str = "auto"
    iterations: int = 4
    sharpening: float = 0.0
    channel: int = 0
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise OptionError(f"iterations of a template must be at least 1, found {self.iterations}")
        if not 0 <= self.sharpening <= 1:
            raise OptionError(f"sharpening must be from 0 to 1, found {self.sharpening:g}")
        if self.channel < 0:
            raise OptionError(f"channel must be 0 or more, found {self.channel}")
        # of a transform that is named, the default engine runs the linear stages before the last
        stages = stages_of(self.stages)[-1:] if isinstance(self.stages, str) else self.stages
        engine_for(stages, self.engine)  # refuses what the engine lacks


@dataclass(frozen=True)
class Iteration:
    """Result of one iteration.

    Args:
        number: from 1; 0 is the first template, after rigid alignment.
        displacement_mm: length of the mean displacement field, mean around the structures: how far the template was
            from the mean shape. It falls to what is common to the errors of registration, not to 0.
        affine_mm: the same of the mean affine part.
        change: root mean square difference to the template before, around the structures, over its standard deviation.
        sharpness: mean gradient magnitude of the template around the structures, in its intensity range per mm.
        agreement: Dice of the carried label maps of every two atlases, mean.
        left_out: name -> why an atlas took no part.
    """

    number: int
    displacement_mm: float
    affine_mm: float
    change: float
    sharpness: float
    agreement: float
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Template:
    """A template and the transforms of its atlases.

    Args:
        image: float32, intensities about 0 to 1.
        transforms: atlas -> template point -> atlas point; without the atlases that were left out.
        iterations: one for each round.
        warped: atlas -> ``.npy`` file of its image on the template's grid.
        centre: atlas that the template was begun with.
    """

    image: sitk.Image
    transforms: dict[str, Transform]
    iterations: tuple[Iteration, ...]
    warped: dict[str, Path]
    centre: str

    @property
    def left_out(self) -> dict[str, str]:
        """Name -> why an atlas took no part in the last round."""
        return self.iterations[-1].left_out

    def report(self) -> dict[str, Any]:
        """Figures of all rounds, for JSON."""
        return {"begun_with": self.centre, "iterations": [asdict(i) for i in self.iterations]}


def build_template(
    atlases: AtlasSet,
    work: Path,
    options: TemplateOptions | None = None,
    *,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Template:
    """Unbiased template of a set of atlases.

    Every finished registration is kept in the work folder, below a name made from the options and the content of the
    atlases: the same call resumes after an interruption, and more iterations continue from fewer.

    Args:
        atlases: two or more, of one kind of scan; labels reveal failed registrations
            (:func:`atlaseg.atlases.propagation.failed_registrations.leave_out`).
        work: folder for finished registrations and warped images.
        options: how.
        executor: runs registrations in parallel.
        progress: told the number of finished and of all registrations.

    Raises:
        DatasetError: fewer than two atlases, or registration failed for all but one.
        AtlasegError: a file is missing or broken, an image has no contrast, an engine lacks a stage.
    """
    if len(atlases) < 2:
        raise DatasetError(f"{atlases.name}: a template needs at least two atlases, found {len(atlases)}")
    return _Builder(atlases, work, options or TemplateOptions(), executor, progress).build()


class _Builder:
    """The rounds of one template; holds what they share."""

    def __init__(
        self,
        atlases: AtlasSet,
        work: Path,
        options: TemplateOptions,
        executor: Executor | None,
        progress: Progress | None,
    ) -> None:
        self.atlases = atlases
        self.options = options
        self.folder = work / _fingerprint(atlases, options)
        self.executor = executor
        self.progress = progress
        self.done = 0

    def build(self) -> Template:
        template, centre = self._begin()
        transforms: dict[str, Transform] = {}
        iterations = []
        for number in range(1, self.options.iterations + 1):
            before = template
            transforms, iteration, template = self._improve(number, before)
            iterations.append(iteration)
        last = self.folder / f"iteration-{self.options.iterations:02d}"
        warped = {name: last / f"{name}.mean.npy" for name in transforms}
        return Template(read_itk(template), transforms, tuple(iterations), warped, centre)

    def _begin(self) -> tuple[Path, str]:
        """Rigid alignment to the central atlas, and the mean of that."""
        centre = medoid(self.atlases)
        folder = self.folder / "iteration-00"
        target = folder / "centre.nii.gz"
        by_name = {atlas.name: atlas for atlas in self.atlases.atlases}
        image = by_name[centre].image(self.options.channel)
        write_template(target, image)
        files = self._register_all(folder, target, "rigid", skip=centre)
        if not (folder / f"{centre}.h5").is_file():
            write_transform(folder / f"{centre}.h5", Transform.identity())
        files[0][centre] = folder / f"{centre}.h5"
        left_out = self._judged(folder, target, files).left_out
        names = [name for name in self.atlases.names if name not in left_out]
        # poses are rigid, even if the engine returns an affine transform
        poses = {
            name: closest_rotation(
                affine_part(read_transform(files[0][name], own=True), image), _middle(image)
            )
            for name in names
        }
        grid = common_grid(self.atlases, poses, centre)
        reference = folder / "grid.nii.gz"
        write_template(reference, grid)
        mean = self._average(folder, reference, {name: (files[0][name],) for name in names})
        first = folder / "template.nii.gz"
        write_template(first, to_itk(self._sharpened(mean, affine_of(grid)), affine_of(grid)))
        self._tidy(folder)
        return first, centre

    def _improve(self, number: int, target: Path) -> tuple[dict[str, Transform], Iteration, Path]:
        """One round: register, judge, average shapes and images."""
        folder = self.folder / f"iteration-{number:02d}"
        files = self._register_all(folder, target, self.options.stages)
        judged = self._judged(folder, target, files)
        region = judged.region
        names = [name for name in self.atlases.names if name not in judged.left_out]
        found = {name: read_transform(files[0][name], own=True) for name in names}
        before = read_itk(target)
        mean = mean_shape([found[name] for name in names], before, region)
        back = invert(mean.transform, before).transform
        inverse = folder / "mean-inverse.h5"
        write_transform(inverse, back)
        image = self._average(folder, target, {name: (inverse, files[0][name]) for name in names})
        sharpened = self._sharpened(image, affine_of(before))
        new = to_itk(sharpened, affine_of(before))
        path = folder / "template.nii.gz"
        write_template(path, new)
        self._tidy(folder, keep_mean=number == self.options.iterations)
        iteration = Iteration(
            number=number,
            displacement_mm=round(mean.displacement_mm, 5),
            affine_mm=round(mean.affine_mm, 5),
            change=round(change(_voxels(before), sharpened, region), 5),
            sharpness=round(sharpness(new, region), 5),
            agreement=round(judged.agreement, 5),
            left_out=judged.left_out,
        )
        return {name: Transform.compose([back, found[name]]) for name in names}, iteration, path

    def _register_all(
        self,
        folder: Path,
        target: Path,
        stages: str | tuple[Stage, ...],
        skip: str | None = None,
    ) -> tuple[dict[str, Path], dict[str, str]]:
        """Transform files by name, and reasons of those that failed."""
        options = self.options
        members = [atlas for atlas in self.atlases.atlases if atlas.name != skip]
        tasks = [
            Registering(
                atlas,
                self.atlases.labels,
                target,
                stages,
                options.engine,
                options.channel,
                options.seed,
                options.threads,
                folder / f"{atlas.name}.h5",
            )
            for atlas in members
        ]
        reasons = each(register_to_template, tasks, self.executor, self._finished)
        files = {task.atlas.name: task.out for task, reason in zip(tasks, reasons, strict=True) if not reason}
        failed = {t.atlas.name: reason for t, reason in zip(tasks, reasons, strict=True) if reason}
        return files, failed

    def _finished(self) -> None:
        self.done += 1
        if self.progress:
            self.progress(
                self.done,
                len(self.atlases) * (self.options.iterations + 1) - 1,
                "registering to the template",
            )

    def _judged(self, folder: Path, target: Path, files: tuple[dict[str, Path], dict[str, str]]) -> Judgement:
        """Which atlases fit, from what :meth:`_register_all` returned."""
        found, failed = files
        names = list(found)
        if len(names) < 2:
            reason = next(iter(failed.values()), "")
            raise DatasetError(f"{self.atlases.name}: registration failed for all but one atlas: {reason}")
        each(carry, [self._task(folder, target, n, (found[n],), labels=True) for n in names], self.executor)
        return judge(folder, names, _voxels(read_itk(target)), len(self.atlases.labels), failed)

    def _task(
        self, folder: Path, reference: Path, name: str, transforms: tuple[Path, ...], *, labels: bool
    ) -> Carry:
        atlas = self.atlases.subset([name]).atlases[0]
        suffix = ".npy" if labels else ".mean.npy"
        label = folder / f"{name}.labels.npy" if labels else None
        return Carry(
            atlas,
            self.atlases.labels,
            reference,
            transforms,
            folder / f"{name}{suffix}",
            label,
            self.options.channel,
        )

    def _average(self, folder: Path, reference: Path, chains: dict[str, tuple[Path, ...]]) -> Floats:
        tasks = [self._task(folder, reference, name, chain, labels=False) for name, chain in chains.items()]
        each(carry, tasks, self.executor)
        return robust_mean([task.image for task in tasks])

    def _sharpened(self, mean: Floats, affine: Matrix) -> Floats:
        import SimpleITK as sitk

        share = np.float32(self.options.sharpening)
        if not share:
            return mean
        return (1 - share) * mean + share * _voxels(sitk.LaplacianSharpening(to_itk(mean, affine)))

    def _tidy(self, folder: Path, *, keep_mean: bool = False) -> None:
        """Warped images are made again at once; transforms are what took time."""
        for path in folder.glob("*.npy"):
            if not (keep_mean and path.name.endswith(".mean.npy")):
                path.unlink()


def _fingerprint(atlases: AtlasSet, options: TemplateOptions) -> str:
    """Name of a work folder: the same for the same atlases and options but the number of rounds."""
    digest = hashlib.sha256()
    settings = asdict(replace(options, iterations=1, threads=1)) | {"version": _VERSION}
    digest.update(json.dumps([settings, atlases.labels.values], sort_keys=True).encode())
    for atlas in atlases.atlases:
        digest.update(atlas.name.encode())
        for path in (*atlas.images, atlas.label):
            with path.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def _middle(image: sitk.Image) -> npt.NDArray[np.float64]:
    points: npt.NDArray[np.float64] = grid_points(image, max(1, min(image.GetSize()) // 4)).mean(axis=0)
    return points


def _voxels(image: sitk.Image) -> Floats:
    from atlaseg.atlases.registration.transforms.frames import from_itk

    return from_itk(image)[0].astype(np.float32)
