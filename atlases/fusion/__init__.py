"""Label fusion: one rule per file, all on the same candidates."""

from atlaseg.atlases.fusion.candidates import Candidates, Fused, FusionRule
from atlaseg.atlases.fusion.generative import GenerativeFusion
from atlaseg.atlases.fusion.global_weighted import GlobalWeighted
from atlaseg.atlases.fusion.joint import JointFusion
from atlaseg.atlases.fusion.local_weighted import LocalWeighted
from atlaseg.atlases.fusion.majority import Majority
from atlaseg.atlases.fusion.registry import FUSION_RULES, fuse, make_rule
from atlaseg.atlases.fusion.staple import Staple

__all__ = [
    "FUSION_RULES",
    "Candidates",
    "Fused",
    "FusionRule",
    "GenerativeFusion",
    "GlobalWeighted",
    "JointFusion",
    "LocalWeighted",
    "Majority",
    "Staple",
    "fuse",
    "make_rule",
]
