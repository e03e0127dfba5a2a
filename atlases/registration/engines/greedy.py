"""Registration by greedy, through picsl-greedy (an optional package)."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.registration.contrast_and_overlap import require_contrast, require_overlap
from atlaseg.atlases.registration.engine import Problem, RegistrationError, reason_of
from atlaseg.atlases.registration.engine_facts import DENSE_VOXELS, EngineFacts, Preset
from atlaseg.atlases.registration.quiet import quiet
from atlaseg.atlases.registration.stage import Stage
from atlaseg.atlases.registration.transforms.transform import Transform
from atlaseg.pipeline.errors import OptionError

if TYPE_CHECKING:
    import SimpleITK as sitk

__all__ = ["GreedyEngine"]

_FREEDOM = {"rigid": 6, "similarity": 7, "affine": 12}
#: Standard deviation by which greedy smooths an image before it shrinks it, in voxels of the shrunk image.
_OWN_SMOOTHING = 0.5
#: Smoothing of the update and of the whole warp at each iteration, voxels: greedy's own defaults.
_UPDATE_SMOOTHING, _WARP_SMOOTHING = 1.732, 0.7071


@dataclass(frozen=True)
class _Pass:
    """Levels that one run of greedy can do: each of half the factor of the one before."""

    iterations: tuple[int, ...]
    extra_smoothing_mm: float


@dataclass(frozen=True)
class GreedyEngine:
    """Runs greedy inside this process: linear stages, and a dense warp made of many small diffeomorphic steps.

    Equal seeds give equal results to the last bit on one thread only: on several, sums are added in the order in
    which threads finish.

    greedy smooths each level of its pyramid itself, by half a voxel of that level; smoothing that goes beyond is
    done before, less cannot be had. It has no sampling: every voxel counts.

    Source: P. A. Yushkevich et al., Fast automatic segmentation of hippocampal subfields and medial temporal lobe
    subregions in 3 tesla and 7 tesla T2-weighted MRI, Alzheimer's and Dementia 12 (2016) P126-P127,
    doi:10.1016/j.jalz.2016.06.205; options: https://greedy.readthedocs.io.
    """

    name: ClassVar[str] = "greedy"
    kinds: ClassVar[frozenset[str]] = frozenset({*_FREEDOM, "deformable"})
    metrics: ClassVar[frozenset[str]] = frozenset({"ssd", "mi", "lncc"})
    facts: ClassVar[EngineFacts] = EngineFacts(
        presets={
            "linear": Preset("lncc", "mi", (100, 50, 10)),
            "deformable": Preset("lncc", "lncc", (100, 100, 50), most_voxels=DENSE_VOXELS),
        },
        # it halves thin masks away
        fewest_slices=dict.fromkeys((*_FREEDOM, "deformable"), 8),
    )

    def register(self, problem: Problem, stages: Sequence[Stage]) -> Transform:
        """The whole mapping fixed -> moving points; where the last stage is a warp, the mapping back is known too.

        Args:
            problem: the images. Where its initial transform is deformable, the moving image is carried onto the grid
                of the fixed one first, and what lies outside of it is not seen.
            stages: complete; ``samples`` 0, shrink factors powers of two.

        Raises:
            OptionError: sampling, a shrink factor that is no power of two, or too little smoothing.
            RegistrationError: greedy failed, or its result is not finite.
        """
        passes = [(stage, part) for stage in stages for part in _passes(stage, problem.fixed)]
        require_contrast(self.name, problem)
        require_overlap(self.name, problem, problem.initial, "the initial transform")
        current = problem.initial
        for stage, part in passes:
            if stage.kind in _FREEDOM and current.is_linear:
                current = _linear(problem, stage, part, current.matrix)
            elif stage.kind in _FREEDOM:
                step = _linear(problem.carried(current), stage, part, np.eye(4))
                current = Transform.compose([step, current])
            elif current.is_linear:
                current = Transform.compose([_warp(problem, stage, part, current.matrix), current])
            else:
                step = _warp(problem.carried(current), stage, part, np.eye(4))
                current = Transform.compose([step, current])
        require_overlap(self.name, problem, current, "the result")
        return current


def _passes(stage: Stage, fixed: sitk.Image) -> Iterator[_Pass]:
    """The runs of greedy that do the levels of a stage."""
    if stage.samples:
        raise OptionError(
            f"{stage.kind}: greedy has no sampling, found samples {stage.samples}; leave it out"
        )
    finest = min(fixed.GetSpacing())
    levels: list[tuple[int, float, int]] = []
    for factor, smoothing, iterations in zip(
        stage.shrink or (), stage.smoothing_mm or (), stage.iterations or (), strict=True
    ):
        if factor & (factor - 1):
            raise OptionError(
                f"{stage.kind}: greedy halves images, so shrink factors must be 1, 2, 4, ..., found {factor}"
            )
        own = _OWN_SMOOTHING * factor * finest if factor > 1 else 0.0
        if smoothing < own - 1e-3 * finest:
            raise OptionError(
                f"{stage.kind}: greedy smooths by at least {own:g} mm at shrink factor {factor}, found {smoothing:g} mm"
            )
        extra = round(max(smoothing**2 - own**2, 0.0) ** 0.5, 3)
        if levels and (levels[-1][0] != 2 * factor or levels[-1][1] != extra):
            yield _pass(levels)
            levels = []
        levels.append((factor, extra, iterations))
    yield _pass(levels)


def _pass(levels: list[tuple[int, float, int]]) -> _Pass:
    # greedy's last level is always the whole image: levels finer than asked for get no iterations
    finer = levels[-1][0].bit_length() - 1
    return _Pass((*(iterations for _, _, iterations in levels), *(0,) * finer), levels[0][1])


def _linear(problem: Problem, stage: Stage, part: _Pass, begin: npt.NDArray[np.float64]) -> Transform:
    options = ["-a", "-dof", str(_FREEDOM[stage.kind])]
    matrix = _run(problem, stage, part, ("-ia", begin), options, ("matrix",))["matrix"]
    matrix = np.asarray(matrix, dtype=np.float64)
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-9:
        raise RegistrationError(
            f"greedy: the {stage.kind} stage ended in a matrix that is not invertible; try a mask or another engine"
        )
    return Transform.from_matrix(matrix)


def _warp(problem: Problem, stage: Stage, part: _Pass, before: npt.NDArray[np.float64]) -> Transform:
    """The warp that goes before a matrix: fixed points -> fixed points."""
    options = ["-s", f"{_UPDATE_SMOOTHING}vox", f"{_WARP_SMOOTHING}vox", "-wp", "0", "-oinv", "back"]
    found = _run(problem, stage, part, ("-it", before), options, ("warp", "back"))
    return Transform(_field(found["warp"]), _field(found["back"]))


def _field(warp: sitk.Image) -> sitk.Transform:
    """Greedy hands warps to SimpleITK in ITK's own frame, as displacements in LPS+ mm."""
    import SimpleITK as sitk

    if not np.isfinite(sitk.GetArrayViewFromImage(warp)).all():
        raise RegistrationError("greedy: the warp is not finite; try more smoothing or another metric")
    return sitk.DisplacementFieldTransform(sitk.Cast(warp, sitk.sitkVectorFloat64))


def _run(
    problem: Problem,
    stage: Stage,
    part: _Pass,
    begin: tuple[str, npt.NDArray[np.float64]],
    options: list[str],
    wanted: tuple[str, ...],
) -> dict[str, Any]:
    """Run greedy once; the first thing wanted is its output."""
    from picsl_greedy import Greedy3D

    images = {"fixed": _smooth(problem.fixed, part), "moving": _smooth(problem.moving, part)}
    command = [
        "-i",
        "fixed",
        "moving",
        "-m",
        *_metric(problem, stage),
        "-n",
        "x".join(map(str, part.iterations)),
    ]
    for name, option in (("fixed_mask", "-gm"), ("moving_mask", "-mm")):
        mask = getattr(problem, name)
        if mask is not None:
            images[name] = mask
            command += [option, name]
    # seed 0 means the clock to greedy
    command += [*options, "-seed", str(problem.seed % 2**30 + 1), "-threads", str(problem.threads), "-V", "0"]
    said = io.StringIO()
    greedy = Greedy3D()
    with TemporaryDirectory(prefix="greedy-") as folder:
        matrix = Path(folder, "begin.mat")
        np.savetxt(matrix, begin[1], fmt="%.17g")
        command += [begin[0], str(matrix), "-o", wanted[0]]
        outputs: dict[str, Any] = dict.fromkeys(wanted)
        try:
            with quiet():
                greedy.execute(" ".join(command), out=said, err=said, **images, **outputs)
        except RuntimeError as error:
            raise RegistrationError(
                f"greedy: the {stage.kind} stage failed ({reason_of(error)}); try another initialisation, metric or "
                "engine"
            ) from error
    return {name: greedy[name] for name in wanted}


def _metric(problem: Problem, stage: Stage) -> list[str]:
    if stage.metric == "lncc":
        # of greedy's two, only the weighted one leaves out of its windows what is outside the masks
        masked = problem.fixed_mask is not None or problem.moving_mask is not None
        return ["WNCC" if masked else "NCC", "x".join([str(stage.metric_radius)] * 3)]
    return ["SSD" if stage.metric == "ssd" else "MI"]


def _smooth(image: sitk.Image, part: _Pass) -> sitk.Image:
    import SimpleITK as sitk

    if part.extra_smoothing_mm == 0:
        return image
    return sitk.SmoothingRecursiveGaussian(image, part.extra_smoothing_mm)
