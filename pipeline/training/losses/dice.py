"""MONAI's Dice losses, of the softmax, without the background."""

from __future__ import annotations

from monai.losses import DiceCELoss, DiceLoss

__all__ = ["dice", "dice_ce"]


def dice() -> DiceLoss:
    """1 - Dice, per patch and structure, averaged."""
    return DiceLoss(include_background=False, to_onehot_y=True, softmax=True)


def dice_ce() -> DiceCELoss:
    """The same plus the cross-entropy of all classes."""
    return DiceCELoss(include_background=False, to_onehot_y=True, softmax=True)
