"""A loss: the squared error of the probabilities."""

import torch
from torch import nn

from atlaseg.pipeline.training.losses.registry import LossRow

ROW = LossRow(
    "brier",
    "squared error of the probabilities",
    "atlaseg_example.brier:Brier",
    source="Brier, Monthly Weather Review 78(1), 1950",
)


class Brier(nn.Module):
    """Of logits ``(B, K, *spatial)`` against channel indices ``(B, 1, *spatial)``."""

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean over patches and voxels, summed over the classes."""
        truth = nn.functional.one_hot(labels[:, 0].long(), logits.shape[1]).movedim(-1, 1)
        return (logits.softmax(1) - truth).square().sum(1).mean()
