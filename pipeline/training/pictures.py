"""Pictures of a training run: curves, and validation cases with truth and prediction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from ignite.engine import Engine, Events

from atlaseg.pipeline.io.files import replacing
from atlaseg.pipeline.overlay_colours import structure_colours
from atlaseg.pipeline.training.history import History

__all__ = ["RunPictures", "draw_curves", "draw_overlays"]


class RunPictures:
    """Handler that draws ``curves.png`` and ``overlay.png`` into the run's folder when training ends.

    Args:
        folder: the run's folder.
        history: rows of the run.
        evaluator: MONAI evaluator, whose network and inferer label the cases that are shown.
        dataset: preprocessed validation cases.
        cases: how many are shown.
    """

    def __init__(
        self, folder: str | Path, history: History, evaluator: Any, dataset: Sequence[Any], cases: int = 3
    ) -> None:
        self.folder = Path(folder)
        self.history = history
        self.evaluator = evaluator
        self.dataset = dataset
        self.cases = cases

    def attach(self, engine: Engine) -> None:
        """Draw at the end."""
        engine.add_event_handler(Events.COMPLETED, self.draw)

    def draw(self, _engine: Engine) -> None:
        """Draw both pictures now."""
        draw_curves(self.folder / "curves.png", self.history.rows)
        shown = []
        network = self.evaluator.network
        network.eval()
        for index in range(min(self.cases, len(self.dataset))):
            item = self.dataset[index]
            image = torch.as_tensor(item["image"]).as_subclass(torch.Tensor)
            with torch.inference_mode():
                logits = self.evaluator.inferer(image[None].to(self.evaluator.state.device), network)
            label = torch.as_tensor(item["label"]).as_subclass(torch.Tensor)
            shown.append(
                (
                    image[0].numpy(),
                    label[0].numpy().astype(int),
                    logits[0].argmax(0).cpu().numpy().astype(int),
                )
            )
        if shown:
            draw_overlays(self.folder / "overlay.png", shown)


def draw_curves(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Loss, learning rate and validation Dice over the iterations, as a PNG.

    Args:
        path: of the picture.
        rows: of :class:`~atlaseg.pipeline.training.history.History`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps = [row["iteration"] for row in rows]
    left.plot(steps, [row["loss"] for row in rows], color="#1f5fa8", label="loss")
    left.set(xlabel="iteration", ylabel="training loss")
    rate = left.twinx()
    rate.plot(steps, [row["lr"] for row in rows], color="#999999", linewidth=1, linestyle="--")
    rate.set_ylabel("learning rate (dashed)", color="#777777")
    validated = [row for row in rows if "val_dice" in row]
    names = [key for key in (validated[0] if validated else {}) if key.startswith("val_dice_")]
    for name in names[:10]:
        right.plot(
            [row["iteration"] for row in validated],
            [row[name] for row in validated],
            linewidth=1,
            alpha=0.8,
            label=name.removeprefix("val_dice_"),
        )
    right.plot(
        [row["iteration"] for row in validated],
        [row["val_dice"] for row in validated],
        color="black",
        marker="o",
        markersize=3,
        label="mean",
    )
    right.set(xlabel="iteration", ylabel="validation Dice")
    if validated:
        right.legend(fontsize=7, loc="lower right")
    for axes in (left, right):
        axes.grid(alpha=0.2)
        axes.set_xlim(left=0)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)


def draw_overlays(
    path: Path, cases: Sequence[tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]]
) -> None:
    """Scan, truth and prediction of some cases, in the slice with most labelled voxels, as a PNG.

    Args:
        path: of the picture.
        cases: for each, image, truth and prediction ``(X, Y, Z)`` on one grid, labels as channel indices.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.1 * len(cases)), layout="constrained")
    axes = figure.subplots(len(cases), 3, squeeze=False)
    colours = ListedColormap([(0, 0, 0, 0), *((*rgb, 1) for rgb in structure_colours(255))])
    for row, (image, truth, prediction) in zip(axes, cases, strict=True):
        labelled = truth if truth.any() else prediction
        slice_ = int((labelled > 0).sum(axis=(0, 1)).argmax())
        low, high = np.percentile(image, (1, 99))
        for axis, (title, overlay) in zip(
            row, (("scan", None), ("truth", truth), ("prediction", prediction)), strict=True
        ):
            axis.imshow(image[:, :, slice_].T, cmap="gray", vmin=low, vmax=high, origin="lower")
            if overlay is not None:
                axis.imshow(
                    overlay[:, :, slice_].T,
                    cmap=colours,
                    vmin=0,
                    vmax=255,
                    alpha=0.55,
                    origin="lower",
                    interpolation="nearest",
                )
            axis.set_title(title, fontsize=9)
            axis.axis("off")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)
