"""Table of metrics: their computation, labels, units, which values are better, and the worst values.

Everything that names metrics uses this table: columns of score tables, statistics, tests, rankings, figures and help
texts. A
metric is a function of a :class:`~atlaseg.pipeline.evaluation.mask_pair.MaskPair` and a row here, or a row in a package
that names it by an entry point of ``atlaseg.metrics``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from atlaseg.pipeline.errors import DatasetError, OptionError, PackageError
from atlaseg.pipeline.registry import Registry, Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atlaseg.pipeline.evaluation.mask_pair import MaskPair

__all__ = [
    "METRICS",
    "Better",
    "Metric",
    "drawn_metrics",
    "judged_metrics",
    "main_metric",
    "rankable_metrics",
    "ranked_metrics",
    "tested_metrics",
]

#: Which values are better; ``none`` for sizes, which are neither good nor bad and stand in the table of cases only.
Better = Literal["high", "low", "near 0", "none"]


@dataclass(frozen=True)
class Metric(Row):
    """A metric; its target is a function ``(MaskPair) -> float | None``, ``None`` where it has no value.

    Args:
        name: its column in tables.
        label: what people call it, as it stands within a sentence.
        unit: such as ``mm``; empty for a share or a ratio.
        better: which values are better.
        best: value of two masks that are both empty.
        worst: value where one of the masks is empty or there is no prediction. ``diagonal`` is the diagonal of the
            grid in mm, which no distance exceeds; ``counted`` asks the function, as if the prediction were empty.
        at_tolerance: whether it depends on the tolerance that ``--tolerance-mm`` gives.
        takes_empty: whether the function also judges masks that are empty; only a missing prediction then counts with
            ``worst``.
        tested: whether methods are tested against each other by it.
        drawn: whether it has figures.
        ranked: whether methods are ranked by it where nothing else is asked for.
    """

    label: str = field(kw_only=True)
    unit: str = field(default="", kw_only=True)
    better: Better = field(default="high", kw_only=True)
    best: float = field(default=1.0, kw_only=True)
    worst: float | Literal["diagonal", "counted"] = field(default=0.0, kw_only=True)
    at_tolerance: bool = field(default=False, kw_only=True)
    takes_empty: bool = field(default=False, kw_only=True)
    tested: bool = field(default=True, kw_only=True)
    drawn: bool = field(default=True, kw_only=True)
    ranked: bool = field(default=False, kw_only=True)

    @property
    def title(self) -> str:
        """Label and unit, to stand above a column or at an axis."""
        name = f"{self.label[:1].upper()}{self.label[1:]}"
        return f"{name} ({self.unit})" if self.unit else name

    def title_at(self, tolerance_mm: float) -> str:
        """The title, with the tolerance where the metric depends on it."""
        return f"{self.title} at {tolerance_mm:g} mm" if self.at_tolerance else self.title

    @property
    def decimals(self) -> int:
        """Decimals to show."""
        return 2 if self.unit else 3

    @property
    def bounds(self) -> tuple[float | None, float | None]:
        """Lowest and highest possible value; ``None`` where there is no such end, or it depends on the grid."""
        if self.worst == "counted":
            return None, None
        ends = (self.best, None if isinstance(self.worst, str) else self.worst)
        return ends if self.better == "low" else (ends[1], ends[0])

    def compute(self, pair: MaskPair) -> float | None:
        """Value for one structure of one case.

        Raises:
            DatasetError: the value is NaN or infinite.
            PackageError: the function of an installed package fails.
        """
        if pair.found is None and self.worst != "counted":
            return self._worst(pair)
        if not self.takes_empty:
            empty = (pair.reference_voxels == 0) + (pair.prediction_voxels == 0)
            if empty:
                return self.best if empty == 2 else self._worst(pair)
        value = self._asked(pair)
        if value is not None and not math.isfinite(value):
            raise DatasetError(
                f"metric {self.name} is {value}; a score must be a number, or None without a value"
            )
        return value

    def _worst(self, pair: MaskPair) -> float:
        return pair.diagonal_mm if isinstance(self.worst, str) else self.worst

    def _asked(self, pair: MaskPair) -> float | None:
        function = self.load()
        if not self.package:
            value = function(pair)
        else:
            try:
                value = function(pair)
            except Exception as error:  # another's code may fail by anything, and that is no fault of atlaseg
                raise PackageError(
                    f"package {self.package}: metric {self.name} failed ({type(error).__name__}: {error}); "
                    "update the package or uninstall it"
                ) from error
        return None if value is None else float(value)


_TAHA = "Taha and Hanbury, BMC Medical Imaging 15:29 (2015), doi:10.1186/s12880-015-0068-x"
_NIKOLOV = "Nikolov et al., J Med Internet Res 23(7):e26151 (2021), doi:10.2196/26151"
_HERE = "atlaseg.pipeline.evaluation"

#: All metrics in the order of their columns; the first is the one that cases are sorted and methods are described by.
METRICS = Registry(
    "metric",
    Metric,
    [
        Metric(
            "dice",
            "twice the common voxels by those of both maps, 2 TP / (2 TP + FP + FN)",
            f"{_HERE}.overlap:dice",
            label="Dice",
            ranked=True,
            source=_TAHA,
        ),
        Metric(
            "iou",
            "intersection over union, TP / (TP + FP + FN)",
            f"{_HERE}.overlap:iou",
            label="IoU",
            tested=False,
            drawn=False,
            source=_TAHA,
        ),
        Metric(
            "precision",
            "share of the prediction that is right, TP / (TP + FP)",
            f"{_HERE}.overlap:precision",
            label="precision",
            tested=False,
            drawn=False,
            source=_TAHA,
        ),
        Metric(
            "recall",
            "share of the reference that is found, TP / (TP + FN), sensitivity",
            f"{_HERE}.overlap:recall",
            label="recall",
            tested=False,
            drawn=False,
            source=_TAHA,
        ),
        Metric(
            "accuracy",
            "share of the grid's voxels on which both maps agree about the structure",
            f"{_HERE}.overlap:accuracy",
            label="accuracy",
            takes_empty=True,
            tested=False,
            drawn=False,
            source=_TAHA,
        ),
        Metric(
            "volume_reference_ml",
            "volume in the reference",
            f"{_HERE}.volumes:reference_ml",
            label="reference volume",
            unit="ml",
            better="none",
            worst="counted",
            takes_empty=True,
            tested=False,
            drawn=False,
        ),
        Metric(
            "volume_prediction_ml",
            "volume in the prediction",
            f"{_HERE}.volumes:prediction_ml",
            label="predicted volume",
            unit="ml",
            better="none",
            worst="counted",
            takes_empty=True,
            tested=False,
            drawn=False,
        ),
        Metric(
            "volume_difference_ml",
            "prediction minus reference; positive is too large",
            f"{_HERE}.volumes:difference_ml",
            label="volume difference",
            unit="ml",
            better="near 0",
            best=0.0,
            worst="counted",
            takes_empty=True,
            tested=False,
            drawn=False,
            source=_TAHA,
        ),
        Metric(
            "volume_difference_percent",
            "prediction minus reference in percent of the reference",
            f"{_HERE}.volumes:difference_percent",
            label="volume difference",
            unit="%",
            better="near 0",
            best=0.0,
            worst="counted",
            takes_empty=True,
            tested=False,
            drawn=False,
            source=_TAHA,
        ),
        Metric(
            "hd95_mm",
            "the larger of the two directed 95th percentiles of surface distances",
            f"{_HERE}.surface_metrics:hd95",
            label="HD95",
            unit="mm",
            better="low",
            best=0.0,
            worst="diagonal",
            ranked=True,
            source=_TAHA,
        ),
        Metric(
            "assd_mm",
            "mean distance of both surfaces to the other one",
            f"{_HERE}.surface_metrics:assd",
            label="ASSD",
            unit="mm",
            better="low",
            best=0.0,
            worst="diagonal",
            drawn=False,
            source=_TAHA,
        ),
        Metric(
            "surface_dice",
            "share of both surfaces that lies within the tolerance of the other",
            f"{_HERE}.surface_metrics:surface_dice",
            label="surface Dice",
            at_tolerance=True,
            source=_NIKOLOV,
        ),
    ],
    group="atlaseg.metrics",
)


def main_metric() -> Metric:
    """The main metric of methods, where only one is shown."""
    return METRICS.rows()[0]


def judged_metrics() -> list[Metric]:
    """Metrics with better and worse values, in the order of the table; they enter statistics."""
    return [metric for metric in METRICS.rows() if metric.better != "none"]


def tested_metrics() -> list[Metric]:
    """Metrics that methods are tested on against each other; those without a unit first."""
    return sorted((m for m in judged_metrics() if m.tested), key=lambda metric: metric.unit != "")


def drawn_metrics() -> list[Metric]:
    """Metrics with figures of their own; those without a unit first."""
    return sorted((m for m in judged_metrics() if m.drawn), key=lambda metric: metric.unit != "")


def rankable_metrics() -> list[Metric]:
    """Metrics that methods can be ranked by: those whose best values lie at one end."""
    return [metric for metric in METRICS.rows() if metric.better in ("high", "low")]


def ranked_metrics(names: Sequence[str] = ()) -> list[Metric]:
    """Metrics that a ranking is made of: those that are named, or one of volumes and one of surfaces.

    The default is that of the BraTS challenges: Dice and HD95.

    Raises:
        OptionError: there is no such metric, or it cannot be ranked by.

    >>> [metric.name for metric in ranked_metrics()]
    ['dice', 'hd95_mm']
    """
    rankable = rankable_metrics()
    if not names:
        return [metric for metric in rankable if metric.ranked]
    by_name = {metric.name: metric for metric in rankable}
    for name in names:
        if name not in by_name:
            METRICS.find(name)
            raise OptionError(f"metric {name!r} cannot be ranked by; choose of {', '.join(by_name)}")
    return [by_name[name] for name in dict.fromkeys(names)]
