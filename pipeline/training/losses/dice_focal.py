"""Dice plus focal loss, both of the softmax."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss, FocalLoss
from torch import nn

__all__ = ["DiceFocal"]


class DiceFocal(nn.Module):
    """Dice plus focal loss (Lin et al., ICCV 2017, gamma 2), both of the softmax.

    MONAI's ``DiceFocalLoss`` takes the Dice of the softmax but the focal loss of sigmoids, one class against the
    rest, which is not how the network's logits are read. The focal term here is summed over the classes of a
    voxel, as cross-entropy is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dice = DiceLoss(include_background=False, to_onehot_y=True, softmax=True)
        self.focal = FocalLoss(to_onehot_y=True, gamma=2.0, use_softmax=True)

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean over patches and voxels of logits ``(B, K, *spatial)`` and channel indices ``(B, 1, *spatial)``."""
        # MONAI's mean is over the classes too, of which all but one are zero
        total: torch.Tensor = self.dice(logits, labels) + logits.shape[1] * self.focal(logits, labels)
        return total
