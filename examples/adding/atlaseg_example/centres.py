"""A registration engine: it lays the centre of mass of one image on that of the other."""

from collections.abc import Sequence
from typing import ClassVar

import SimpleITK as sitk

from atlaseg.atlases.registration.engine import Problem
from atlaseg.atlases.registration.engines.registry import EngineRow
from atlaseg.atlases.registration.stage import Stage
from atlaseg.atlases.registration.transforms.transform import Transform

ROW = EngineRow(
    "centres", "shifts that lay centres of mass on each other", "atlaseg_example.centres:CentresEngine"
)


class CentresEngine:
    """Says which transforms and metrics it has, and registers."""

    name: ClassVar[str] = "centres"
    kinds: ClassVar[frozenset[str]] = frozenset({"rigid"})
    metrics: ClassVar[frozenset[str]] = frozenset({"ncc"})

    def register(self, problem: Problem, stages: Sequence[Stage]) -> Transform:  # noqa: ARG002
        """From points of the fixed image to points of the moving one, ``problem.initial`` included."""
        near = problem.carried(
            problem.initial
        )  # the moving image where it begins, on the grid of the fixed one
        shift = sitk.CenteredTransformInitializer(
            near.fixed, near.moving, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
        )
        return Transform.compose([Transform(shift), problem.initial])
