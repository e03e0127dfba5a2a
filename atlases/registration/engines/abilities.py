"""Refuse what an engine does not support before it runs, naming those that do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from atlaseg.atlases.registration.engine import RegistrationEngine
from atlaseg.atlases.registration.engine_facts import facts_of
from atlaseg.atlases.registration.engines.registry import ENGINES
from atlaseg.atlases.registration.stage import Stage
from atlaseg.pipeline.errors import GeometryError, OptionError

__all__ = ["check_modality", "check_slices", "check_stages"]


def check_stages(engine: RegistrationEngine, stages: Sequence[Stage]) -> None:
    """Refuse kinds of transforms and metrics that an engine lacks.

    Raises:
        OptionError: a kind of transform or a metric that the engine does not have.
    """
    for stage in stages:
        if stage.kind not in engine.kinds:
            who = _who(other.name for other in _engines() if stage.kind in other.kinds)
            raise OptionError(f"{engine.name} has no {stage.kind} stage; {who}")
        if stage.metric is not None and stage.metric not in engine.metrics:
            who = _who(other.name for other in _engines() if stage.metric in other.metrics)
            raise OptionError(f"{engine.name} has no metric {stage.metric}; {who}")


def check_slices(engine: RegistrationEngine, stages: Sequence[Stage], slices: int, image: str) -> None:
    """Refuse images with too few slices for an engine.

    Args:
        engine: that is to run the stages.
        stages: what is to be run.
        slices: voxels along the shortest axis of the image.
        image: what it is called.

    Raises:
        GeometryError: the engine would come to nothing with so few.
    """
    for stage in stages:
        fewest = _fewest_slices(engine, stage.kind)
        if slices < fewest:
            who = _who(
                (
                    other.name
                    for other in _engines()
                    if stage.kind in other.kinds and slices >= _fewest_slices(other, stage.kind)
                ),
                "engines that need fewer",
            )
            raise GeometryError(
                f"{image}: {slices} slice(s) are too few for the {stage.kind} stage of {engine.name}, which needs "
                f"{fewest}; {who}"
            )


def check_modality(engine: RegistrationEngine, stages: Sequence[Stage], same_modality: bool) -> None:
    """Refuse stages without a metric of their own for which the engine has none that suits the images.

    Args:
        engine: that is to run the stages.
        stages: as the user gave them.
        same_modality: whether equal tissue has about equal intensity in both images.

    Raises:
        OptionError: the engine compares only images of one modality.
    """
    for stage in stages:
        preset = facts_of(engine).preset(stage.kind)
        if same_modality or stage.metric is not None or preset.different is not None:
            continue
        who = _who(
            (
                other.name
                for other in _engines()
                if stage.kind in other.kinds and facts_of(other).preset(stage.kind).different is not None
            ),
            "engines that can",
        )
        raise OptionError(
            f"the {stage.kind} stage of {engine.name} compares intensities ({preset.same}) and cannot register scans "
            f"of different modalities; {who}"
        )


def _fewest_slices(engine: RegistrationEngine | type[RegistrationEngine], kind: str) -> int:
    return facts_of(engine).fewest_slices.get(kind, 1)


def _engines() -> list[type[RegistrationEngine]]:
    """The class of every engine, whether its library is installed or not."""
    return [row.load() for row in ENGINES.rows()]


def _who(names: Iterable[str], what: str = "engines that have it") -> str:
    """Which engines can do it, as advice."""
    having = ", ".join(names)
    return f"{what}: {having}" if having else "no engine has it"
