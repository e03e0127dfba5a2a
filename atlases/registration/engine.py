"""Protocol of registration engines: input, result and error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from atlaseg.atlases.registration.stage import Stage
from atlaseg.pipeline.errors import AtlasegError

if TYPE_CHECKING:
    import SimpleITK as sitk

    from atlaseg.atlases.registration.transforms.transform import Transform

__all__ = ["Problem", "RegistrationEngine", "RegistrationError", "reason_of"]


class RegistrationError(AtlasegError, RuntimeError):
    """An engine could not register a pair of images."""


def reason_of(error: BaseException) -> str:
    """Error message of a library in one line, without references to its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[-1].removeprefix("ITK ERROR: ").strip() if lines else ""
    return " ".join(said.split()).rstrip(".;") or type(error).__name__


@dataclass(frozen=True, eq=False)
class Problem:
    """A pair of images as engines get it: float32, intensities rescaled to [0, 1], checked, at least 4 voxels wide.

    Args:
        fixed: the image that stays; its grid is where the metric is computed.
        moving: the image that is carried to it.
        initial: where to begin, fixed -> moving points.
        fixed_mask: uint8 on the grid of ``fixed``, 1 where the metric counts, or ``None``.
        moving_mask: the same for ``moving``.
        seed: of everything random.
        threads: at most so many.
    """

    fixed: sitk.Image
    moving: sitk.Image
    initial: Transform
    fixed_mask: sitk.Image | None = None
    moving_mask: sitk.Image | None = None
    seed: int = 0
    threads: int = 1

    def carried(self, transform: Transform) -> Problem:
        """The same problem with the moving image on the grid of the fixed one, where it then begins.

        Args:
            transform: fixed -> moving points.
        """
        import SimpleITK as sitk

        from atlaseg.atlases.registration.transforms.transform import Transform

        moving = sitk.Resample(self.moving, self.fixed, transform.itk, sitk.sitkLinear, 0.0)
        mask = self.moving_mask
        if mask is not None:
            mask = sitk.Resample(mask, self.fixed, transform.itk, sitk.sitkNearestNeighbor, 0)
        return replace(self, moving=moving, moving_mask=mask, initial=Transform.identity())

    def turned(self) -> Problem:
        """The same pair with the roles exchanged; the initial transform must be linear."""
        return replace(
            self,
            fixed=self.moving,
            moving=self.fixed,
            initial=self.initial.linear_inverse(),
            fixed_mask=self.moving_mask,
            moving_mask=self.fixed_mask,
        )

    def where_both_are(self) -> Problem:
        """The same problem with the metric confined to where the moving image is, by the initial transform."""
        import SimpleITK as sitk

        inside = self.moving_mask
        if inside is None:
            inside = sitk.Image(self.moving.GetSize(), sitk.sitkUInt8) + 1
            inside.CopyInformation(self.moving)
        seen = sitk.Resample(inside, self.fixed, self.initial.itk, sitk.sitkNearestNeighbor, 0)
        if self.fixed_mask is not None:
            seen = seen * self.fixed_mask
        # thin slices may pass between all voxels of a coarser image
        return replace(self, fixed_mask=seen) if sitk.GetArrayViewFromImage(seen).any() else self


@runtime_checkable
class RegistrationEngine(Protocol):
    """Runs stages with one library; made without arguments.

    A class may also have ``facts``, an :class:`~atlaseg.atlases.registration.engine_facts.EngineFacts`.
    """

    name: ClassVar[str]
    #: kinds of stages and metrics that it has, of those in :mod:`atlaseg.atlases.registration.stage`
    kinds: ClassVar[frozenset[str]]
    metrics: ClassVar[frozenset[str]]

    def register(self, problem: Problem, stages: Sequence[Stage]) -> Transform:
        """The whole mapping fixed -> moving points, ``problem.initial`` included.

        Args:
            problem: the images.
            stages: complete, as :func:`atlaseg.atlases.registration.presets.complete` makes them.

        Raises:
            RegistrationError: the library failed, in one line with its reason.
        """
        ...
