"""Registration, label fusion and priors; what scripts need, loaded when first used.

>>> from atlases import Stage
>>> Stage("affine", metric="mi").metric
'mi'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atlases.atlas import Atlas, AtlasSet
    from atlases.fusion.candidates import Candidates, Fused
    from atlases.fusion.table import fuse
    from atlases.multi_atlas_segmenter import MultiAtlasSegmenter
    from atlases.probabilistic import ProbabilisticAtlas
    from atlases.registration.register import Registration, register
    from atlases.registration.resampling import resample_image, resample_labels
    from atlases.registration.stage import Stage
    from atlases.registration.transform import Transform
    from atlases.registration.transform_files import read_transform, write_transform

__all__ = [
    "Atlas",
    "AtlasSet",
    "Candidates",
    "Fused",
    "MultiAtlasSegmenter",
    "ProbabilisticAtlas",
    "Registration",
    "Stage",
    "Transform",
    "fuse",
    "read_transform",
    "register",
    "resample_image",
    "resample_labels",
    "write_transform",
]

#: Where each name lives; a script that only registers need not load torch.
_HOMES = {
    "Atlas": "atlases.atlas",
    "AtlasSet": "atlases.atlas",
    "Candidates": "atlases.fusion.candidates",
    "Fused": "atlases.fusion.candidates",
    "MultiAtlasSegmenter": "atlases.multi_atlas_segmenter",
    "ProbabilisticAtlas": "atlases.probabilistic",
    "Registration": "atlases.registration.register",
    "Stage": "atlases.registration.stage",
    "Transform": "atlases.registration.transform",
    "fuse": "atlases.fusion.table",
    "read_transform": "atlases.registration.transform_files",
    "register": "atlases.registration.register",
    "resample_image": "atlases.registration.resampling",
    "resample_labels": "atlases.registration.resampling",
    "write_transform": "atlases.registration.transform_files",
}


def __getattr__(name: str) -> Any:
    """The object of that name, from the module it lives in."""
    if name not in _HOMES:
        raise AttributeError(f"module 'atlases' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
