"""The protocol that every registration engine satisfies, and the table of engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from atlaseg.atlases.registration.stage import Stage
from atlaseg.pipeline.errors import AtlasegError, GeometryError, OptionError

if TYPE_CHECKING:
    import SimpleITK as sitk

    from atlaseg.atlases.registration.transforms.transform import Transform

__all__ = [
    "ENGINES",
    "Problem",
    "RegistrationEngine",
    "RegistrationError",
    "check_slices",
    "check_stages",
    "make_engine",
    "reason_of",
]


class RegistrationError(AtlasegError, RuntimeError):
    """An engine could not register a pair of images."""


def reason_of(error: BaseException) -> str:
    """What a library said when it gave up, in one line, without the places in its source."""
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
    """Runs stages with one library."""

    name: ClassVar[str]
    #: kinds and metrics that the library has
    kinds: ClassVar[frozenset[str]]
    metrics: ClassVar[frozenset[str]]

    def register(self, problem: Problem, stages: Sequence[Stage]) -> Transform:
        """The whole mapping fixed -> moving points, ``problem.initial`` included.

        Args:
            problem: the images.
            stages: complete, as :func:`atlaseg.atlases.registration.engines.presets.complete` makes them.

        Raises:
            RegistrationError: the library gave up, in one line with its reason.
        """
        ...


#: Engine by name: module, class, the package that pip installs for it, the module that shows it is there.
ENGINES: dict[str, tuple[str, str, str, str]] = {
    "elastix": (
        "atlaseg.atlases.registration.engines.elastix.elastix_engine",
        "ElastixEngine",
        "itk-elastix",
        "itk",
    ),
    "ants": ("atlaseg.atlases.registration.engines.ants", "AntsEngine", "antspyx", "ants"),
    "simpleitk": (
        "atlaseg.atlases.registration.engines.simpleitk",
        "SimpleItkEngine",
        "SimpleITK",
        "SimpleITK",
    ),
    "torch": ("atlaseg.atlases.registration.engines.torch.torch_engine", "TorchEngine", "torch", "torch"),
    "greedy": (
        "atlaseg.atlases.registration.engines.greedy",
        "GreedyEngine",
        "atlaseg[greedy]",
        "picsl_greedy",
    ),
}

#: Fewest slices with which an engine, or one kind of its stages, comes to something: greedy halves thin masks away, and
#: the demons have no way to leave out what continues a slab.
FEWEST_SLICES: dict[str | tuple[str, str], int] = {"greedy": 8, ("simpleitk", "deformable"): 8}


def make_engine(name: str) -> RegistrationEngine:
    """Engine by name.

    Raises:
        OptionError: there is no such engine, or its library is not installed.
    """
    if name not in ENGINES:
        raise OptionError(f"no registration engine {name!r}; choose one of {', '.join(ENGINES)}")
    module, kind, package, library = ENGINES[name]
    if find_spec(library) is None:
        raise OptionError(f"engine {name} needs a library that is not installed: pip install '{package}'")
    engine: RegistrationEngine = getattr(import_module(module), kind)()
    return engine


def check_stages(engine: RegistrationEngine, stages: Sequence[Stage]) -> None:
    """Refuse what an engine lacks, and say which one has it.

    Raises:
        OptionError: a kind of transform or a metric that the engine does not have.
    """
    for stage in stages:
        if stage.kind not in engine.kinds:
            raise OptionError(f"{engine.name} has no {stage.kind} stage; {_who('kinds', stage.kind)}")
        if stage.metric is not None and stage.metric not in engine.metrics:
            raise OptionError(f"{engine.name} has no metric {stage.metric}; {_who('metrics', stage.metric)}")


def check_slices(engine_name: str, stages: Sequence[Stage], slices: int, image: str) -> None:
    """Refuse images with too few slices for an engine.

    Args:
        engine_name: as in :data:`ENGINES`.
        stages: what is to be run.
        slices: voxels along the shortest axis of the image.
        image: what it is called.

    Raises:
        GeometryError: the engine would come to nothing with so few.
    """
    for stage in stages:
        fewest = FEWEST_SLICES.get((engine_name, stage.kind), FEWEST_SLICES.get(engine_name, 1))
        if slices < fewest:
            raise GeometryError(
                f"{image}: {slices} slice(s) are too few for the {stage.kind} stage of {engine_name}, which needs "
                f"{fewest}; choose the engine torch"
            )


def _who(what: str, wanted: str) -> str:
    """Which engines have it, as advice."""
    having = []
    for name, (module, kind, _, _) in ENGINES.items():
        if wanted in getattr(getattr(import_module(module), kind), what):
            having.append(name)
    return f"engines that have it: {', '.join(having)}" if having else "no engine has it"
