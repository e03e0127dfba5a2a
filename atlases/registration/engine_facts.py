"""Facts of an engine: its presets for each type of stage, and its requirements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from atlaseg.atlases.registration.stage import LINEAR, Metric

__all__ = ["DENSE_VOXELS", "EngineFacts", "Preset", "facts_of"]


@dataclass(frozen=True)
class Preset:
    """Default settings of one engine for one type of stage.

    Args:
        same: metric for images of one modality.
        different: metric for images of two; ``None`` where the engine has none.
        same_in_slabs: in place of ``same`` where an image has few slices; ``None``: no other.
        iterations: at each level, coarse to fine; the first is repeated where there are more levels.
        samples: voxels drawn; 0 for all.
        all_up_to: images of at most so many voxels use all of them (mutual information excepted, which is slow
            with many), ...
        iterations_of_all: ... and then need this many iterations.
        radius: of the window of ``lncc``, voxels.
        radius_in_crops: the same for images that are short along an axis; 0 where it does not matter.
        most_voxels: of the finest level; larger images are compared at half their resolution, or a quarter, ...; 0
            for no bound.
        grid_factor: of the distance of control points, against what the voxels would allow.
    """

    same: Metric
    different: Metric | None
    iterations: tuple[int, ...]
    samples: int = 0
    all_up_to: int = 0
    iterations_of_all: tuple[int, ...] = ()
    radius: int = 2
    radius_in_crops: int = 0
    most_voxels: int = 0
    grid_factor: float = 1.0
    same_in_slabs: Metric | None = None


#: A dense field is not worked out on more voxels than this: the finest level is then a coarser one.
DENSE_VOXELS = 16_000_000
#: For an engine or a kind without a preset.
_OTHER = Preset("ncc", "mi", (200, 100, 50))


@dataclass(frozen=True)
class EngineFacts:
    """Properties of an engine; the defaults suit an engine without stated properties.

    Args:
        presets: by kind of stage; ``linear`` stands for rigid, similarity and affine.
        fewest_slices: by kind of stage, the smallest number of voxels along the shortest axis that it can register.
        revision: of an algorithm that is not the library's own: raised whenever the same stages find another result,
            so that stored registrations are computed again. ``None``: use the library's version.
        bending_margin: voxels around the structures of an atlas beyond which the engine need not bend it; ``None``:
            it sees the whole atlas.
    """

    presets: Mapping[str, Preset] = field(default_factory=dict)
    fewest_slices: Mapping[str, int] = field(default_factory=dict)
    revision: int | None = None
    bending_margin: int | None = None

    def preset(self, kind: str) -> Preset:
        """The preset of a kind of stage."""
        return self.presets.get("linear" if kind in LINEAR else kind, _OTHER)


def facts_of(engine: object) -> EngineFacts:
    """Facts of an engine or of its class; the default ones where it has no ``facts``."""
    facts = getattr(engine, "facts", None)
    return facts if isinstance(facts, EngineFacts) else EngineFacts()
