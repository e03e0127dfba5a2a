"""Table of loss functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from atlaseg.pipeline.registry import Registry, Row

if TYPE_CHECKING:
    from torch import nn

__all__ = ["LOSSES", "LossRow", "build_loss"]


@dataclass(frozen=True)
class LossRow(Row):
    """A loss; ``target`` makes a module that takes logits ``(B, K, *spatial)`` and channel indices
    ``(B, 1, *spatial)`` and gives one number.
    """


#: Names that ``TrainingPlan.loss`` may have. The Dice term of each leaves out the background, is computed per patch and
#: averaged over structures and patches.
LOSSES: Registry[LossRow] = Registry(
    "loss",
    LossRow,
    (
        LossRow(
            "dice",
            "overlap of each structure with its prediction",
            "atlaseg.pipeline.training.losses.dice:dice",
            source="Milletari et al., V-Net, 3DV 2016, https://arxiv.org/abs/1606.04797",
        ),
        LossRow(
            "dice-ce",
            "Dice plus cross-entropy; the default",
            "atlaseg.pipeline.training.losses.dice:dice_ce",
            source="Isensee et al., Nature Methods 18, 2021, https://doi.org/10.1038/s41592-020-01008-z",
        ),
        LossRow(
            "dice-focal",
            "Dice plus focal loss, which gives easy voxels less weight",
            "atlaseg.pipeline.training.losses.dice_focal:DiceFocal",
            source="Lin et al., ICCV 2017, https://arxiv.org/abs/1708.02002",
        ),
    ),
    group="atlaseg.losses",
)


def build_loss(name: str) -> nn.Module:
    """Loss of logits ``(B, K, *spatial)`` against channel indices ``(B, 1, *spatial)``.

    Raises:
        OptionError: no such loss.
        PackageError: the package that adds it is broken.
    """
    loss: nn.Module = LOSSES.load(name)()
    return loss
