"""Label fusion: one rule per file, all on the same candidates."""

from atlases.fusion.candidates import Candidates, Fused, FusionRule
from atlases.fusion.global_weighted import GlobalWeighted
from atlases.fusion.joint import JointFusion
from atlases.fusion.local_weighted import LocalWeighted
from atlases.fusion.majority import Majority
from atlases.fusion.staple import Staple
from atlases.fusion.table import FUSION_RULES, make_rule

__all__ = [
    "FUSION_RULES",
    "Candidates",
    "Fused",
    "FusionRule",
    "GlobalWeighted",
    "JointFusion",
    "LocalWeighted",
    "Majority",
    "Staple",
    "make_rule",
]
