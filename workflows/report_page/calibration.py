"""Whether probabilities mean what they say: reliability diagram and expected calibration error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from atlaseg.pipeline.errors import AtlasegError, GeometryError
from atlaseg.pipeline.io.volume import Header, grid_difference, read_header, read_voxels
from atlaseg.workflows.report_page.benchmark_tables import Benchmark
from atlaseg.workflows.report_page.blocks import Block, Figure, Notice
from atlaseg.workflows.report_page.context import Context
from atlaseg.workflows.report_page.drawing import Canvas, linear_scale, path, shorten
from atlaseg.workflows.report_page.palette import GRID, INK, MUTED, Style
from atlaseg.workflows.report_page.voxels import Truths, label_table, read_truth

__all__ = ["BINS", "MARGIN_MM", "Reliability", "calibration_blocks", "reliability", "total_reliability"]

BINS = 15
#: Voxels within this of the box around the true structures count; the far background is certain and says nothing.
MARGIN_MM = 5.0
#: Bins with fewer voxels are noise and not drawn; the error counts them.
FEWEST_VOXELS = 50
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 300.0, 330.0, 42.0, 12.0, 48.0, 38.0


@dataclass(frozen=True, eq=False)
class Reliability:
    """Voxels by their confidence, the probability of the likeliest label. Sums of several cases add up.

    Args:
        voxels: ``(BINS,)`` number of voxels whose confidence lies in each of the equal parts of [0, 1].
        confidence: ``(BINS,)`` sum of their confidences.
        correct: ``(BINS,)`` number of those whose likeliest label is the true one.
    """

    voxels: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    correct: npt.NDArray[np.int64]

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(
            self.voxels + other.voxels, self.confidence + other.confidence, self.correct + other.correct
        )

    @property
    def error(self) -> float:
        """Expected calibration error: mean distance of accuracy and confidence of the bins, by their voxels.

        Source: Guo, Pleiss, Sun, Weinberger, On Calibration of Modern Neural Networks, ICML 2017,
        arXiv:1706.04599, equation 3.
        """
        return float(np.abs(self.correct - self.confidence).sum() / self.voxels.sum())


def reliability(
    probabilities: npt.NDArray[Any], truth: npt.NDArray[np.int64], spacing: Sequence[float]
) -> Reliability:
    """Reliability of one case, over the voxels in the box around its structures and :data:`MARGIN_MM` beyond.

    A method is judged where there is something to decide: in the whole scan, the error is that of the background.
    The box is the truth's, so that it is the same for every method.

    Args:
        probabilities: ``(K, *spatial)``.
        truth: channel indices ``(*spatial)``.
        spacing: voxel size, mm.

    >>> truth = np.array([0, 1, 1, 1]).reshape(4, 1, 1)
    >>> sure = np.stack([truth == 0, truth == 1]) * 0.8 + 0.1
    >>> round(reliability(sure, truth, (1, 1, 1)).error, 3)
    0.1
    """
    box = _box(truth, spacing)
    inside = probabilities[(slice(None), *box)]
    confidence = inside.max(axis=0).astype(np.float64).ravel()
    correct = (inside.argmax(axis=0) == truth[box]).ravel()
    index = np.clip((confidence * BINS).astype(np.int64), 0, BINS - 1)
    return Reliability(
        np.bincount(index, minlength=BINS),
        np.bincount(index, weights=confidence, minlength=BINS).astype(np.float64),
        np.bincount(index[correct], minlength=BINS),
    )


def _box(truth: npt.NDArray[np.int64], spacing: Sequence[float]) -> tuple[slice, ...]:
    places = np.nonzero(truth)
    if not len(places[0]):
        return (slice(None),) * truth.ndim
    margins = [int(np.ceil(MARGIN_MM / size)) for size in spacing]
    return tuple(
        slice(max(int(at.min()) - m, 0), int(at.max()) + m + 1) for at, m in zip(places, margins, strict=True)
    )


def total_reliability(
    benchmark: Benchmark, truths: Truths, method: str, labels: int | None, problems: list[str]
) -> Reliability | None:
    """Reliability of the probabilities of one method over all its cases; ``None`` where none were kept.

    Args:
        benchmark: the folder.
        truths: cases of the data set.
        method: its name.
        labels: number of labelled training cases.
        problems: takes a line for each case that cannot be read.
    """
    table = label_table(benchmark)
    total: Reliability | None = None
    for cell in benchmark.cells_with(method, labels):
        for case in cell.test:
            if not cell.probabilities(case).is_file():
                continue
            try:
                truth, header = read_truth(truths, case)
                probabilities = _read_probabilities(cell.probabilities(case), header, len(table))
                found = reliability(probabilities, table.to_indices(truth), header.spacing)
            except (AtlasegError, OSError) as error:
                problems.append(f"{method}, case {case}: {error}")
                continue
            total = found if total is None else total + found
    return total


def _read_probabilities(path: Path, header: Header, K: int) -> npt.NDArray[Any]:
    """Probabilities ``(K, *spatial)`` on the grid of a header."""
    found = read_header(path)
    if difference := grid_difference(header, found):
        raise GeometryError(f"{path}: not on the grid of {header.path.name} ({difference})")
    if found.channels != K:
        raise GeometryError(f"{path}: expected {K} probabilities for each voxel, found {found.channels}")
    voxels = read_voxels(path)
    return np.moveaxis(voxels.reshape(*header.spatial_shape, K), -1, 0)


def calibration_blocks(context: Context) -> list[Block]:
    """Reliability diagrams of the methods whose probabilities were kept, or why there are none."""
    if context.truths is None:
        return [Notice("Not computed: the data set was not found where the benchmark read it.")]
    found = {
        name: sums
        for name in context.styles
        if (
            sums := total_reliability(
                context.benchmark, context.truths, name, context.labels, context.problems
            )
        )
        is not None
    }
    panels = reliability_figures(found, context.styles)
    if not panels:
        return [Notice("No probabilities were kept: run the benchmark with --probabilities.")]
    return [
        Figure(
            panels,
            f"Share of correctly labelled voxels against the probability of their label, in {BINS} bins (those with "
            f"fewer than {FEWEST_VOXELS} voxels are not drawn); on the diagonal, probabilities mean what they say, "
            "below it a method is too sure of itself.\n"
            "Grey bars: share of the voxels in each bin (square root). Voxels in the box around the true structures "
            f"and {MARGIN_MM:g} mm beyond it{context.at_labels}.\n"
            "ECE: expected calibration error, the mean distance from the diagonal. Only methods whose probabilities "
            "were kept.",
        )
    ]


def reliability_figures(found: Mapping[str, Reliability], styles: Mapping[str, Style]) -> list[Markup]:
    """Reliability diagram of each method: accuracy against confidence, bars for the share of voxels."""
    return [_figure(found[name], style) for name, style in styles.items() if name in found]


def _figure(found: Reliability, style: Style) -> Markup:
    canvas = Canvas(WIDTH, HEIGHT, f"Reliability diagram of {style.label}")
    x_scale = linear_scale(0, 1, LEFT, WIDTH - RIGHT, 5)
    y_scale = linear_scale(0, 1, HEIGHT - BOTTOM, TOP, 5)
    canvas.text(0, 13, f"{style.number}  {shorten(style.label, 26)}", font_size=12.5, font_weight=600)
    canvas.y_axis(y_scale, LEFT, WIDTH - RIGHT, "Accuracy")
    canvas.x_axis(x_scale, TOP, HEIGHT - BOTTOM, "Confidence")
    share = found.voxels / found.voxels.sum()
    for bin_, part in enumerate(share):
        left, right = x_scale(bin_ / BINS), x_scale((bin_ + 1) / BINS)
        # the last bin holds most voxels by far; the root lets the others be seen
        top = y_scale(float(np.sqrt(part)))
        tip = f"confidence {bin_ / BINS:.2f} to {(bin_ + 1) / BINS:.2f}: {part:.2%} of the voxels"
        canvas.add(
            "rect", tip=tip, x=left + 0.5, y=top, width=right - left - 1, height=y_scale(0) - top, fill=GRID
        )
    diagonal = path([(x_scale(0), y_scale(0)), (x_scale(1), y_scale(1))])
    canvas.add("path", d=diagonal, stroke=MUTED, stroke_width=1, stroke_dasharray="4 3")
    filled = np.flatnonzero(found.voxels >= FEWEST_VOXELS)
    confidence = found.confidence[filled] / found.voxels[filled]
    accuracy = found.correct[filled] / found.voxels[filled]
    places = [(x_scale(float(c)), y_scale(float(a))) for c, a in zip(confidence, accuracy, strict=True)]
    if places:
        canvas.add("path", d=path(places), fill="none", stroke=style.colour, stroke_width=1.6)
    for (x, y), c, a in zip(places, confidence, accuracy, strict=True):
        canvas.marker(style, x, y, 3.6, tip=f"confidence {c:.3f}, accuracy {a:.3f}")
    canvas.text(x_scale(0.04), y_scale(0.93), f"ECE {found.error:.3f}", font_weight=600, fill=INK)
    return canvas.markup()
