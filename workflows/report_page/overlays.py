"""Slices of a scan in three planes with the outlines of truth and prediction, for the report."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from atlaseg.pipeline.errors import MissingFileError
from atlaseg.pipeline.io.volume import read_header, read_label_map, read_voxels
from atlaseg.pipeline.overlay_colours import OUTLINE_EDGE, PICTURE_GROUND, PICTURE_TEXT, TRUTH_COLOUR
from atlaseg.workflows.report_page.drawing import Canvas
from atlaseg.workflows.report_page.palette import Style
from atlaseg.workflows.report_page.voxels import Truths

__all__ = ["Views"]

#: Plane, the array axis it is cut across, and the letters at the left and upper edge. Arrays are RAS+.
PLANES = (("sagittal", 0, "P", "S"), ("coronal", 1, "R", "S"), ("axial", 2, "R", "A"))
MARGIN_MM = 8.0
GAP, WIDTH = 6.0, 520.0
_LETTER: dict[str, Any] = {
    "font_size": 13,
    "fill": PICTURE_TEXT,
    "stroke": OUTLINE_EDGE,
    "stroke_width": 3,
    "paint_order": "stroke",
}


class Views:
    """Scan and truth of a case, turned so that the axes are closest to RAS+, and the slices to show."""

    def __init__(self, truths: Truths, case: str, key: str) -> None:
        from nibabel.orientations import io_orientation

        known = truths.get(case)
        if known is None or known.label is None:
            raise MissingFileError("it is not in the data set; give the one of the benchmark by --dataset")
        self.case, self.key = case, key
        self.header = read_header(known.label)
        self._turn = io_orientation(self.header.affine)
        self.truth = self.canonical(read_label_map(known.label))
        scan = read_voxels(known.images[0])
        scan = scan.reshape(*scan.shape[:3], -1)[..., 0] if scan.ndim > 3 else scan
        self.scan = self.canonical(scan)
        if self.scan.shape != self.truth.shape:
            raise MissingFileError("its scan and its label map differ in shape")
        # column i of io_orientation tells which output axis input axis i becomes
        sizes = np.empty(3)
        sizes[self._turn[:, 0].astype(int)] = self.header.spacing
        self.spacing = sizes
        self.box: list[tuple[int, int]] = []
        self.at: list[int] = []
        self.window = (0.0, 1.0)

    def canonical(self, voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Array with its axes turned to RAS+."""
        from nibabel.orientations import apply_orientation

        turned: npt.NDArray[Any] = apply_orientation(voxels.reshape(self.header.spatial_shape), self._turn)
        return turned

    def aim(self, predictions: Sequence[npt.NDArray[np.int64]]) -> None:
        """Choose the slices with most wrong voxels of all methods together, and the part of them that is shown."""
        shown = self.truth != 0
        wrong = np.zeros(self.truth.shape, dtype=np.int32)
        for prediction in predictions:
            wrong += prediction != self.truth
            shown = shown | (prediction != 0)
        weight = wrong if wrong.any() else shown.astype(np.int32)
        places = np.nonzero(shown)
        for axis, size in enumerate(self.spacing):
            others = tuple(n for n in range(3) if n != axis)
            self.at.append(int(np.argmax(weight.sum(axis=others))))
            margin, end = int(np.ceil(MARGIN_MM / size)), self.truth.shape[axis]
            if len(places[axis]):
                self.box.append(
                    (max(int(places[axis].min()) - margin, 0), min(int(places[axis].max()) + margin + 1, end))
                )
            else:
                self.box.append((0, end))
        inside = self.scan[tuple(slice(*ends) for ends in self.box)].astype(np.float64)
        finite = inside[np.isfinite(inside)]
        if finite.size:
            low, high = (float(v) for v in np.percentile(finite, (0.5, 99.5)))
            self.window = (low, high if high > low else low + 1.0)

    def draw(self, style: Style | None, prediction: npt.NDArray[np.int64] | None) -> Markup:
        """Three planes side by side, in one scale; the scan's slices are stored by the tile without a method."""
        extents = [self._extent(axis) for _, axis, _, _ in PLANES]
        scale = (WIDTH - 2 * GAP) / sum(width for width, _ in extents)
        height = max(high for _, high in extents) * scale
        who = "truth" if style is None else style.label
        canvas = Canvas(WIDTH, height, f"Three planes of case {self.case} with the outlines of {who}")
        canvas.add("rect", x=0, y=0, width=WIDTH, height=height, fill=PICTURE_GROUND)
        left = 0.0
        for (plane, axis, at_left, at_top), extent in zip(PLANES, extents, strict=True):
            wide, high = extent[0] * scale, extent[1] * scale
            top = (height - high) / 2
            name = f"{self.key}-{plane}"
            if style is None:
                canvas.add(
                    "image", id=name, x=left, y=top, width=wide, height=high, preserveAspectRatio="none",
                    href=_png(self._slice(self.scan, axis), self.window),
                )  # fmt: skip
            else:
                canvas.add("use", href=f"#{name}")
            clip = (left, top, wide, high)
            # where both agree, the method's line lies in the truth's
            self._outline(
                canvas, self.truth, axis, clip, TRUTH_COLOUR, 3.0 if prediction is not None else 1.8
            )
            if style is not None and prediction is not None:
                self._outline(canvas, prediction, axis, clip, style.colour, 2.0, style.dash)
            canvas.text(left + 5, top + high / 2 + 4, at_left, **_LETTER)
            canvas.text(left + wide / 2, top + 15, at_top, "middle", **_LETTER)
            left += wide + GAP
        if style is None:
            _scale_bar(canvas, scale, height)
        return canvas.markup()

    def _extent(self, axis: int) -> tuple[float, float]:
        """Width and height of a plane in mm."""
        sizes = [(high - low) * float(size) for (low, high), size in zip(self.box, self.spacing, strict=True)]
        del sizes[axis]
        return sizes[0], sizes[1]

    def _slice(self, voxels: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
        """Slice as rows from top to bottom, columns from left to right of the picture."""
        across, up = (slice(*self.box[n]) for n in range(3) if n != axis)
        plane = np.take(voxels, self.at[axis], axis=axis)[across, up].T[::-1]
        # as radiologists look at it: the patient's right is at the left
        return plane if axis == 0 else plane[:, ::-1]

    def _outline(
        self,
        canvas: Canvas,
        labels: npt.NDArray[np.int64],
        axis: int,
        clip: tuple[float, float, float, float],
        colour: str,
        width: float,
        dash: str = "",
    ) -> None:
        from skimage.measure import find_contours

        plane = self._slice(labels, axis)
        left, top, wide, high = clip
        per_row, per_column = high / plane.shape[0], wide / plane.shape[1]
        parts = []
        for value in np.unique(plane[plane != 0]):
            # background around the plane closes lines at its edge
            for line in find_contours(np.pad(plane == value, 1).astype(np.float64), 0.5):
                places = (line - 0.5) * (per_row, per_column) + (top, left)
                parts.append("M" + "L".join(f"{x:.1f} {y:.1f}" for y, x in places) + "Z")
        if parts:
            look: dict[str, Any] = {"fill": "none", "d": "".join(parts), "stroke_linejoin": "round"}
            if colour == TRUTH_COLOUR:  # its dark edge keeps it apart from bright tissue
                canvas.add("path", stroke=OUTLINE_EDGE, stroke_opacity=0.6, stroke_width=width + 1.6, **look)
            if dash:
                look["stroke_dasharray"] = dash
            canvas.add("path", stroke=colour, stroke_width=width, **look)


def _scale_bar(canvas: Canvas, scale: float, height: float) -> None:
    """A bar of a round length, about a tenth of the picture."""
    lengths = [1, 2, 5, 10, 20, 50, 100]
    length = min(lengths, key=lambda mm: abs(mm * scale - WIDTH / 10))
    x, y = WIDTH - 10 - length * scale, height - 10
    canvas.add("path", d=f"M{x:.1f} {y:.1f}h{length * scale:.1f}", stroke=PICTURE_TEXT, stroke_width=3)
    canvas.text(x + length * scale / 2, y - 6, f"{length} mm", "middle", **_LETTER)


def _png(plane: npt.NDArray[Any], window: tuple[float, float]) -> str:
    """Grey picture as a data URI."""
    from PIL import Image

    low, high = window
    grey = np.nan_to_num((plane.astype(np.float64) - low) / (high - low), nan=0.0, posinf=1.0, neginf=0.0)
    stream = io.BytesIO()
    Image.fromarray(np.round(np.clip(grey, 0, 1) * 255).astype(np.uint8)).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
