"""Default transform and default engines, with the reasons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from atlaseg.atlases.registration.stage import Stage

__all__ = ["DEFAULT_TRANSFORM", "default_engine", "default_linear_engine"]

#: A dense warp: of all transforms it brings fusion the most Dice in the least time (docs/reference/benchmarks.md).
DEFAULT_TRANSFORM: Final = "deformable"

#: Engine of the last of these kinds among the stages: ANTs alone has SyN, and of the dense warps torch's is the best
#: and the quickest on hippocampi and mouse brains (docs/decisions/0012-a-dense-engine-of-our-own.md).
_ENGINE_OF = {"syn": "ants", "deformable": "torch"}
#: Of all other stages: it has the best B-splines, and linear stages that draw voxels, so that large scans take seconds.
_ENGINE_OF_OTHERS = "elastix"

#: Engine of the linear stages before a transform that bends. torch compares every voxel in windows, which suits crops
#: around a structure, but two modalities need mutual information.
_LINEAR_ENGINE, _LINEAR_ENGINE_ACROSS = "torch", "elastix"


def default_engine(stages: Sequence[Stage]) -> str:
    """Name of the engine that ``auto`` means for some stages."""
    names = [_ENGINE_OF[stage.kind] for stage in stages if stage.kind in _ENGINE_OF]
    return names[-1] if names else _ENGINE_OF_OTHERS


def default_linear_engine(same_modality: bool) -> str:
    """Name of the engine that registers a scan and an atlas linearly, before a transform that bends."""
    return _LINEAR_ENGINE if same_modality else _LINEAR_ENGINE_ACROSS
