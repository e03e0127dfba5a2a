"""Registration, label fusion and priors; what scripts need, loaded when first used.

>>> from atlaseg.atlases import Stage
>>> Stage("affine", metric="mi").metric
'mi'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atlaseg.atlases.atlas import Atlas
    from atlaseg.atlases.atlas_set import AtlasSet
    from atlaseg.atlases.fusion.candidates import Candidates, Fused
    from atlaseg.atlases.fusion.registry import fuse
    from atlaseg.atlases.multi_atlas_segmenter import MultiAtlasSegmenter
    from atlaseg.atlases.registration.register import Registration, register
    from atlaseg.atlases.registration.stage import Stage
    from atlaseg.atlases.registration.transforms.resampling import resample_image, resample_labels
    from atlaseg.atlases.registration.transforms.transform import Transform
    from atlaseg.atlases.registration.transforms.transform_files import read_transform, write_transform
    from atlaseg.atlases.templates.probabilistic import ProbabilisticAtlas

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
    "Atlas": "atlaseg.atlases.atlas",
    "AtlasSet": "atlaseg.atlases.atlas_set",
    "Candidates": "atlaseg.atlases.fusion.candidates",
    "Fused": "atlaseg.atlases.fusion.candidates",
    "MultiAtlasSegmenter": "atlaseg.atlases.multi_atlas_segmenter",
    "ProbabilisticAtlas": "atlaseg.atlases.templates.probabilistic",
    "Registration": "atlaseg.atlases.registration.register",
    "Stage": "atlaseg.atlases.registration.stage",
    "Transform": "atlaseg.atlases.registration.transforms.transform",
    "fuse": "atlaseg.atlases.fusion.registry",
    "read_transform": "atlaseg.atlases.registration.transforms.transform_files",
    "register": "atlaseg.atlases.registration.register",
    "resample_image": "atlaseg.atlases.registration.transforms.resampling",
    "resample_labels": "atlaseg.atlases.registration.transforms.resampling",
    "write_transform": "atlaseg.atlases.registration.transforms.transform_files",
}


def __getattr__(name: str) -> Any:
    """The object of that name, from the module it lives in."""
    if name not in _HOMES:
        raise AttributeError(f"module 'atlaseg.atlases' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
