"""Curves and overlays: what is drawn where."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import matplotlib.image
import numpy as np
import pytest
import torch

from atlaseg.pipeline.training.pictures import RunPictures, draw_curves, draw_overlays

ROWS = [
    {"iteration": 2, "loss": 1.0, "lr": 0.1},
    {"iteration": 4, "loss": 0.5, "lr": 0.05, "val_dice": 0.5, "val_dice_liver": 0.5},
]


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], []], ids=["validated", "not-yet", "empty"])
def test_curves(tmp_path: Path, rows: list[dict[str, float]]) -> None:
    draw_curves(tmp_path / "curves.png", rows)
    assert matplotlib.image.imread(tmp_path / "curves.png").ndim == 3


def coloured(path: Path) -> np.ndarray:
    """Columns of a picture that are not grey, as shares of its width."""
    pixels = matplotlib.image.imread(path)[..., :3]
    columns = np.flatnonzero((np.ptp(pixels, axis=2) > 0.1).any(axis=0))
    return columns / pixels.shape[1]


def test_truth_in_the_middle_prediction_on_the_right(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=(10, 10, 6))
    label = np.zeros((10, 10, 6), int)
    label[4:7, 4:7, 3] = 1
    none = np.zeros_like(label)
    draw_overlays(tmp_path / "truth.png", [(image, label, none)])
    draw_overlays(tmp_path / "prediction.png", [(image, none, label)])
    truth, prediction = coloured(tmp_path / "truth.png"), coloured(tmp_path / "prediction.png")
    assert truth.size
    assert prediction.size
    assert (truth > 1 / 3).all()
    assert (truth < 2 / 3).all()
    assert (prediction > 2 / 3).all()


@pytest.mark.thorough
def test_at_the_end_of_training(tmp_path: Path) -> None:
    history = SimpleNamespace(rows=ROWS)
    cases = [{"image": torch.rand(1, 8, 8, 8), "label": torch.zeros(1, 8, 8, 8)} for _ in range(2)]
    network = torch.nn.Conv3d(1, 2, 1)
    evaluator = SimpleNamespace(
        network=network,
        inferer=lambda image, net: net(image),
        state=SimpleNamespace(device=torch.device("cpu")),
    )
    assert history.rows
    pictures = RunPictures(tmp_path, history, evaluator, cases, cases=3)  # type: ignore[arg-type]
    pictures.draw(None)  # type: ignore[arg-type]
    assert {p.name for p in tmp_path.iterdir()} == {"curves.png", "overlay.png"}
