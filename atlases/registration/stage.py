"""Stage of a registration: the type of transform, and its settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from atlaseg.pipeline.errors import OptionError

__all__ = ["BENDING", "KINDS", "LINEAR", "METRICS", "STAGES_OF", "Kind", "Metric", "Stage", "stages_of"]

Kind = Literal["rigid", "similarity", "affine", "bspline", "syn", "deformable", "tps"]
Metric = Literal["ssd", "mi", "ncc", "lncc"]
KINDS: tuple[str, ...] = get_args(Kind)
METRICS: tuple[str, ...] = get_args(Metric)

#: Kinds that are a matrix, and those that are a warp and so begin at one.
LINEAR: frozenset[str] = frozenset({"rigid", "similarity", "affine"})
BENDING: frozenset[str] = frozenset({"bspline", "syn", "deformable"})

#: What a user who names one transform gets: each stage begins where the one before ended.
STAGES_OF: dict[str, tuple[Kind, ...]] = {
    "rigid": ("rigid",),
    "similarity": ("rigid", "similarity"),
    "affine": ("rigid", "affine"),
    "bspline": ("rigid", "affine", "bspline"),
    "syn": ("rigid", "affine", "syn"),
    "deformable": ("rigid", "affine", "deformable"),
    "tps": ("tps",),
}

#: More levels than any image can be halved, and more iterations than any registration needs.
MOST_LEVELS, MOST_ITERATIONS = 10, 100_000


@dataclass(frozen=True)
class Stage:
    """One stage of a registration. What is ``None`` is chosen from the data
    (:mod:`atlaseg.atlases.registration.presets`).

    Args:
        kind: ``rigid`` (6 parameters), ``similarity`` (7), ``affine`` (12), ``bspline`` (free-form, cubic),
            ``syn`` (symmetric diffeomorphic, ANTs), ``deformable`` (a dense displacement field), ``tps``
            (thin-plate spline through landmarks; takes no metric).
        metric: ``ssd`` (mean squared difference), ``mi`` (mutual information), ``ncc`` (correlation over the
            whole image), ``lncc`` (correlation in a window around each voxel).
        metric_radius: of the window of ``lncc``, voxels.
        shrink: factor of each level of the pyramid, coarse to fine, such as ``(4, 2, 1)``.
        smoothing_mm: standard deviation of the Gaussian at each level, mm.
        iterations: most iterations at each level.
        grid_spacing_mm: distance of the control points of a B-spline at the finest level, mm.
        samples: voxels drawn for the metric at each iteration; 0 for all of them.
    """

    kind: Kind
    metric: Metric | None = None
    metric_radius: int | None = None
    shrink: tuple[int, ...] | None = None
    smoothing_mm: tuple[float, ...] | None = None
    iterations: tuple[int, ...] | None = None
    grid_spacing_mm: float | None = None
    samples: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise OptionError(f"no transform {self.kind!r}; choose one of {', '.join(KINDS)}")
        if self.metric is not None and self.metric not in METRICS:
            raise OptionError(f"no metric {self.metric!r}; choose one of {', '.join(METRICS)}")
        levels = {len(v) for v in (self.shrink, self.smoothing_mm, self.iterations) if v is not None}
        if len(levels) > 1 or levels == {0}:
            raise OptionError(
                f"{self.kind}: shrink, smoothing and iterations must name the same number of levels"
            )
        if levels and max(levels) > MOST_LEVELS:
            raise OptionError(
                f"{self.kind}: at most {MOST_LEVELS} levels, found {max(levels)}: each halves the one before"
            )
        for name, unit, values, (least, most) in (
            ("shrink factors", "", self.shrink, (1, 2 ** (MOST_LEVELS - 1))),
            ("smoothing", " mm", self.smoothing_mm, (0, 1e4)),
            ("iterations", "", self.iterations, (1, MOST_ITERATIONS)),
            ("grid spacing", " mm", _one(self.grid_spacing_mm), (1e-3, 1e6)),
            ("metric radius", " voxels", _one(self.metric_radius), (1, 64)),
            ("samples", "", _one(self.samples), (0, 10**9)),
        ):
            for value in values or ():
                # not the other way round: NaN is neither smaller nor larger than anything
                if not least <= value <= most:
                    raise OptionError(
                        f"{self.kind}: {name} must be from {least:g} to {most:g}{unit}, found {value}"
                    )


def _one(value: float | None) -> tuple[float, ...] | None:
    return None if value is None else (value,)


def stages_of(transform: str) -> tuple[Stage, ...]:
    """Stages of a transform by its name, everything else left to the data.

    >>> [stage.kind for stage in stages_of("bspline")]
    ['rigid', 'affine', 'bspline']

    Raises:
        OptionError: there is no such transform.
    """
    if transform not in STAGES_OF:
        raise OptionError(f"no transform {transform!r}; choose one of {', '.join(STAGES_OF)}")
    return tuple(Stage(kind) for kind in STAGES_OF[transform])
