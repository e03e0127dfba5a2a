"""Learn a correction from a set of atlases: segment each by all others, and learn from the errors."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from atlaseg.atlases.correction.correction import Correction, Example
from atlaseg.atlases.fusion.registry import FUSION_RULES
from atlaseg.atlases.propagation.propagation import PropagationOptions, propagate
from atlaseg.atlases.propagation.selection import spread
from atlaseg.pipeline.errors import DatasetError
from atlaseg.pipeline.io.volume import read_header, read_label_map
from atlaseg.pipeline.progress import Progress

if TYPE_CHECKING:
    from atlaseg.atlases.atlas_set import AtlasSet
    from atlaseg.atlases.fusion.candidates import FusionRule

__all__ = ["FEWEST_ATLASES", "MOST_SCANS", "learn_correction", "learns_by_itself"]

#: A correction that was learnt from fewer scans knows them, not what they have in common.
FEWEST_ATLASES = 4
#: At most so many scans teach it, though more atlases may label them. With 20 atlases of hippocampi, 20 scans taught a
#: correction that brought 0.009 Dice, 10 of them one that brought 0.002.
MOST_SCANS = 20
#: Largest number of atlases from which a correction is learnt by default: 380 registrations.
_MOST_BY_ITSELF = 20
#: What progress calls it.
_WHAT = "learning a correction"


def learns_by_itself(fusion: str, atlases: int) -> bool:
    """Whether a correction is learnt by default: for rules that gain by it, with few atlases."""
    gains = FUSION_RULES.find(fusion).gains_by_correction
    return gains and FEWEST_ATLASES <= atlases <= _MOST_BY_ITSELF


def learn_correction(
    atlases: AtlasSet,
    options: PropagationOptions,
    rule: FusionRule,
    *,
    executor: Executor | None = None,
    work: Path | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> Correction:
    """Segment scans of atlases by all other atlases, and learn the systematic errors of the fusion.

    Of more than 20 atlases, 20 that are spread evenly over their order are labelled: it takes ``n (n - 1)``
    registrations for ``n`` atlases up to 20, and ``20 (n - 1)`` for more.

    Args:
        atlases: four or more.
        options: of the propagation, as scans will be labelled with.
        rule: of the fusion.
        executor: runs one registration per task; ``None``: here, one after the other.
        work: folder that keeps finished registrations.
        threads: of each registration, at most.
        progress: told the number of scans done and their total.

    Raises:
        DatasetError: there are fewer than four atlases.
        NothingToLearnError: votes were never close.
        AtlasegError: as :func:`atlaseg.atlases.propagation.propagation.propagate`.
    """
    members = atlases.atlases
    if len(members) < FEWEST_ATLASES:
        raise DatasetError(
            f"a correction is learnt from {FEWEST_ATLASES} atlases or more, found {len(members)}; fuse without one"
        )

    def examples() -> Iterator[Example]:
        taught = spread(members, MOST_SCANS)
        for done, atlas in enumerate(taught):
            if progress is not None:
                progress(done, len(taught), _WHAT)
            scan = atlas.channels(), read_header(atlas.images[0]).affine
            found = propagate(
                atlases.without(atlas.name), scan, options, executor=executor, work=work, threads=threads
            )
            fused = rule.fuse(found.candidates(), probabilities=True)
            truth = atlases.labels.to_indices(read_label_map(atlas.label))
            yield Example(np.asarray(fused.probabilities), found.target, truth)
        if progress is not None:
            progress(len(taught), len(taught), _WHAT)

    return Correction.learn(examples(), seed=options.seed)
