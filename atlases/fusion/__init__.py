"""Label fusion: one rule per file, all on the same candidates."""

from atlases.fusion.candidates import Candidates, Fused, FusionRule
from atlases.fusion.generative import GenerativeFusion
from atlases.fusion.global_weighted import GlobalWeighted
from atlases.fusion.joint import JointFusion
from atlases.fusion.local_weighted import LocalWeighted
from atlases.fusion.majority import Majority
from atlases.fusion.staple import Staple
from atlases.fusion.table import FUSION_RULES, fuse, make_rule

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
