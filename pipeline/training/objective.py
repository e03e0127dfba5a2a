"""Losses and optimizers by name, each MONAI's or torch's own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from atlaseg.pipeline.errors import OptionError

__all__ = ["LOSSES", "OPTIMIZERS", "build_loss", "build_optimizer"]

LOSSES = ("dice", "dice-ce", "dice-focal")
OPTIMIZERS = ("adamw", "sgd")


class DiceFocal(nn.Module):
    """Dice plus focal loss (Lin et al., ICCV 2017, gamma 2), both of the softmax.

    MONAI's ``DiceFocalLoss`` takes the Dice of the softmax but the focal loss of sigmoids, one class against the
    rest, which is not how the network's logits are read. The focal term here is summed over the classes of a
    voxel, as cross-entropy is.
    """

    def __init__(self) -> None:
        super().__init__()
        from monai.losses import DiceLoss, FocalLoss

        self.dice = DiceLoss(include_background=False, to_onehot_y=True, softmax=True)
        self.focal = FocalLoss(to_onehot_y=True, gamma=2.0, use_softmax=True)

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Mean over patches and voxels of logits ``(B, K, *spatial)`` and channel indices ``(B, 1, *spatial)``."""
        # MONAI's mean is over the classes too, of which all but one are zero
        total: torch.Tensor = self.dice(logits, labels) + logits.shape[1] * self.focal(logits, labels)
        return total


def build_loss(name: str) -> nn.Module:
    """Loss of logits ``(B, K, *spatial)`` against channel indices ``(B, 1, *spatial)``.

    The Dice term (Milletari et al., V-Net, 3DV 2016) leaves out the background, is computed per patch and
    averaged over structures and patches.

    Raises:
        OptionError: no such loss.
    """
    from monai.losses import DiceCELoss, DiceLoss

    if name == "dice":
        return DiceLoss(include_background=False, to_onehot_y=True, softmax=True)
    if name == "dice-ce":
        return DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)
    if name == "dice-focal":
        return DiceFocal()
    raise OptionError(f"no loss {name!r}; choose one of {', '.join(LOSSES)}")


def build_optimizer(
    network: nn.Module, name: str, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Optimizer of all parameters; weight decay spares biases and normalisation, which have one dimension.

    Args:
        network: to be trained.
        name: ``adamw`` (Loshchilov and Hutter, ICLR 2019) or ``sgd`` (Nesterov momentum 0.99, as nnU-Net).
        learning_rate: the highest; a schedule lowers it.
        weight_decay: per step, relative to the learning rate.

    Raises:
        OptionError: no such optimizer.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    makers: dict[str, Callable[[], torch.optim.Optimizer]] = {
        "adamw": lambda: torch.optim.AdamW(groups, lr=learning_rate, fused=True),
        "sgd": lambda: torch.optim.SGD(groups, lr=learning_rate, momentum=0.99, nesterov=True),
    }
    if name not in makers:
        raise OptionError(f"no optimizer {name!r}; choose one of {', '.join(OPTIMIZERS)}")
    return makers[name]()
