"""Registration by ANTs, through antspyx."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from atlaseg.atlases.registration.contrast_and_overlap import require_contrast, require_overlap
from atlaseg.atlases.registration.engine import Problem, RegistrationError
from atlaseg.atlases.registration.engine_facts import DENSE_VOXELS, EngineFacts, Preset
from atlaseg.atlases.registration.quiet import quiet
from atlaseg.atlases.registration.stage import Stage
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.atlases.registration.transforms.transform_files import read_transform, write_transform
from atlaseg.pipeline.errors import OptionError

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["AntsEngine"]

#: The gradient step of linear transforms, and SyN's gradient step, variance of the update field and of the total
#: field (voxels), as in the script ``antsRegistrationSyN.sh`` that comes with ANTs.
_TRANSFORMS = {
    "rigid": "Rigid[0.1]",
    "similarity": "Similarity[0.1]",
    "affine": "Affine[0.1]",
    "syn": "SyN[0.2,3,0]",
}
_METRICS = {"ssd": "MeanSquares", "mi": "Mattes", "ncc": "GC", "lncc": "CC"}
_HISTOGRAM_BINS = 32
_THREADS = "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"


@dataclass(frozen=True)
class AntsEngine:
    """Runs ``antsRegistration`` inside this process: linear stages and symmetric diffeomorphic ones (SyN).

    ANTs reads the number of threads once, at its first registration in a process; a later one with another number
    keeps the first. The result depends on the seed and, in the last digits, on the number of threads.

    Source: B. B. Avants, C. L. Epstein, M. Grossman, J. C. Gee, Symmetric diffeomorphic image registration with
    cross-correlation, Medical Image Analysis 12 (2008) 26-41, doi:10.1016/j.media.2007.06.004; the options are
    those that ``antsRegistration --help`` lists.
    """

    name: ClassVar[str] = "ants"
    kinds: ClassVar[frozenset[str]] = frozenset(_TRANSFORMS)
    metrics: ClassVar[frozenset[str]] = frozenset(_METRICS)
    facts: ClassVar[EngineFacts] = EngineFacts(
        presets={
            "linear": Preset("mi", "mi", (500, 250, 100), 250_000, radius=4),
            "syn": Preset("lncc", "mi", (100, 70, 20), most_voxels=DENSE_VOXELS),
        },
    )

    def register(self, problem: Problem, stages: Sequence[Stage]) -> Transform:
        """The whole mapping fixed -> moving points; with a SyN stage, the mapping back is known too.

        Args:
            problem: the images.
            stages: complete; a ``syn`` stage uses every voxel, so its ``samples`` must be 0.

        Raises:
            OptionError: ``samples`` of a ``syn`` stage.
            RegistrationError: ANTs failed, or its result is not finite.
        """
        for stage in stages:
            if stage.kind == "syn" and stage.samples:
                raise OptionError(
                    f"syn: ANTs uses every voxel for it, found samples {stage.samples}; leave them out"
                )
        # ITK inside ANTs reads the number when it is first used, be it to load the library or to make an image
        with _threads(problem.threads):
            return self._register(problem, stages)

    def _register(self, problem: Problem, stages: Sequence[Stage]) -> Transform:
        from ants.internal import get_lib_fn, get_pointer_string

        # the lists of arguments hold addresses of these images: they must live until the call is over
        images = {
            name: _image(getattr(problem, name)) for name in ("fixed", "moving", "fixed_mask", "moving_mask")
        }
        addresses = {
            name: "NA" if image is None else get_pointer_string(image) for name, image in images.items()
        }
        require_contrast(self.name, problem)
        require_overlap(self.name, problem, problem.initial, "the initial transform")
        with TemporaryDirectory(prefix="ants-") as folder:
            initial = Path(folder, "initial.h5")
            write_transform(initial, problem.initial)
            arguments = _arguments(problem, stages, addresses, initial)
            with quiet():
                failed = get_lib_fn("antsRegistration")(arguments)
            written = Path(folder, "resultComposite.h5")
            if failed or not written.is_file():
                raise RegistrationError(
                    f"ants failed (code {failed}): the images may have too little overlap or contrast to go by; try "
                    "another initialisation, metric or engine, or masks"
                )
            forward = read_transform(written).itk
            back = Path(folder, "resultInverseComposite.h5")
            inverse = read_transform(back).itk if back.is_file() else None
        del images
        result = Transform(forward, inverse)
        require_overlap(self.name, problem, result, "the result")
        return result


def _image(image: sitk.Image | None) -> Any:
    """The same image as ANTs has it, or ``None``."""
    import ants

    return None if image is None else ants.from_sitk(image)


def _arguments(
    problem: Problem, stages: Sequence[Stage], addresses: dict[str, str], initial: Path
) -> list[str]:
    """The command line of ``antsRegistration``."""
    arguments = ["--dimensionality", "3", "--float", "1", "--random-seed", str(problem.seed % 2**31 + 1)]
    arguments += ["--initial-moving-transform", str(initial), "--collapse-output-transforms", "1"]
    arguments += ["--write-composite-transform", "1", "--use-histogram-matching", "0"]
    arguments += ["--output", str(initial.with_name("result"))]
    for stage in stages:
        for part in _parts(stage):
            arguments += _stage_arguments(part, problem.fixed, addresses)
    return arguments


def _parts(stage: Stage) -> Iterator[Stage]:
    """The levels of a stage one by one where voxels are drawn: ANTs has one sampling rate for all levels."""
    if not stage.samples:
        yield stage
        return
    for shrink, smoothing, iterations in zip(
        stage.shrink or (), stage.smoothing_mm or (), stage.iterations or (), strict=True
    ):
        yield replace(stage, shrink=(shrink,), smoothing_mm=(smoothing,), iterations=(iterations,))


def _stage_arguments(stage: Stage, fixed: sitk.Image, addresses: dict[str, str]) -> list[str]:
    shrink = stage.shrink or ()
    sampling = "None"
    if stage.samples:
        voxels = np.prod([max(n // shrink[0], 1) for n in fixed.GetSize()])
        sampling = f"Random,{min(stage.samples / voxels, 1.0):.6f}"
    option = {"mi": _HISTOGRAM_BINS, "lncc": stage.metric_radius}.get(str(stage.metric), "NA")
    metric = f"{addresses['fixed']},{addresses['moving']},1,{option},{sampling}"
    stop = "1e-7,8" if stage.kind == "syn" else "1e-6,10"
    values = {
        "transform": _TRANSFORMS[stage.kind],
        "metric": f"{_METRICS[str(stage.metric)]}[{metric}]",
        "convergence": f"[{_list(stage.iterations)},{stop}]",
        "shrink-factors": _list(shrink),
        "smoothing-sigmas": f"{_list(stage.smoothing_mm)}mm",
        "masks": f"[{addresses['fixed_mask']},{addresses['moving_mask']}]",
    }
    return [word for name, value in values.items() for word in (f"--{name}", value)]


def _list(values: Sequence[float] | None) -> str:
    """Values of the levels as ANTs has them."""
    return "x".join(f"{value:g}" for value in values or ())


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """The environment variable from which ITK inside ANTs takes the number of threads, set and put back."""
    before = os.environ.get(_THREADS)
    os.environ[_THREADS] = str(number)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_THREADS]
        else:
            os.environ[_THREADS] = before
