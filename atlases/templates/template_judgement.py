"""Judge which atlases fit a template after an iteration, and where their structures lie on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.fusion.candidates import Candidates
from atlaseg.atlases.propagation.failed_registrations import leave_out
from atlaseg.atlases.propagation.quality import agreement, assess, region_of_interest

__all__ = ["Judgement", "judge"]

#: Voxels of all atlases together at which their fit is judged.
_JUDGED = 60_000_000


@dataclass(frozen=True, eq=False)
class Judgement:
    """Judgement of the warped atlases of one iteration.

    Args:
        left_out: name -> why an atlas takes no part.
        agreement: Dice of the label maps of every two of the others, mean.
        region: ``(x, y, z)``, the structures of at least half of the others, and one voxel around them.
    """

    left_out: dict[str, str]
    agreement: float
    region: npt.NDArray[np.bool_]


def judge(
    folder: Path,
    names: Sequence[str],
    template: npt.NDArray[np.float32],
    classes: int,
    failed: Mapping[str, str],
) -> Judgement:
    """Judge atlases that lie on the grid of a template.

    Args:
        folder: holds ``NAME.npy``, ``(x, y, z)`` float32, NaN outside the atlas, and ``NAME.labels.npy``.
        names: of the atlases that were registered, at least two.
        template: ``(x, y, z)``.
        classes: ``K``, the background included.
        failed: name -> why an atlas could not be registered.
    """
    step = max(1, int(np.ceil((template.size * len(names) / _JUDGED) ** (1 / 3))))
    thin = (slice(None, None, step),) * 3
    images = np.stack([np.load(folder / f"{n}.npy", mmap_mode="r")[thin] for n in names])
    labels = np.stack([np.load(folder / f"{n}.labels.npy", mmap_mode="r")[thin] for n in names])
    inside = np.isfinite(images)
    candidates = Candidates(
        labels, classes, np.where(inside, images, 0)[:, None], template[thin][None], inside
    )
    poor = {names[index]: reason for index, reason in leave_out(assess(candidates))}
    kept = [index for index, name in enumerate(names) if name not in poor]
    dice = agreement(labels[kept], classes)
    votes = np.zeros(template.shape, np.uint16)
    for index in kept:
        votes += np.load(folder / f"{names[index]}.labels.npy", mmap_mode="r") != 0
    structures = (2 * votes >= len(kept)).astype(np.uint8)
    return Judgement(
        left_out={**failed, **poor},
        agreement=float(dice[np.triu_indices(len(kept), 1)].mean()),
        region=region_of_interest(structures[None], margin=1),
    )
