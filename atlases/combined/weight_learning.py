"""Learn the weight of the atlases in combination with a network or a classical method, from labelled cases.

One rule for both (:func:`learn_weight`): cases are labelled with each of a few weights, and the weight with the best
mean Dice over structures and cases is taken, the smallest of equals. No case may teach that the method, or the atlases
it is labelled by, have learnt from. How that is kept differs, because of what training costs:

- A network trains for minutes to days. It is trained once, and the cases that were kept for validation teach
  (:func:`weight_beside_network`).
- A classical method learns in seconds. Training scans teach, up to ten: they are split into groups, and each group is
  labelled by a method that has learnt from all other scans, and by the other atlases (:func:`weight_beside_classical`).
  A correction, which has seen every atlas, is left out there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atlaseg.atlases.combined.combination import Combination, Kind
from atlaseg.atlases.network_training.prior import prior_of
from atlaseg.atlases.propagation.selection import spread
from atlaseg.pipeline.classical.classical_segmenter import ClassicalSegmenter
from atlaseg.pipeline.errors import DatasetError
from atlaseg.pipeline.evaluation.confusion_matrix import mean_dice
from atlaseg.pipeline.io.mask import read_mask
from atlaseg.pipeline.io.volume import read_image, read_label_map
from atlaseg.pipeline.progress import Progress

if TYPE_CHECKING:
    from atlaseg.atlases.atlas_set import AtlasSet
    from atlaseg.atlases.multi_atlas_segmenter import MultiAtlasSegmenter
    from atlaseg.pipeline.case import Case, LabelTable
    from atlaseg.pipeline.network_segmenter import NetworkSegmenter

__all__ = [
    "CLASSICAL_WEIGHTS",
    "WEIGHTS",
    "Example",
    "LearntWeight",
    "learn_weight",
    "weight_beside_classical",
    "weight_beside_network",
]

#: Weights of the atlases among which training of a network chooses.
WEIGHTS: dict[Kind, tuple[float, ...]] = {
    "none": (0.0,),
    "bayes": (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0),
    "ensemble": tuple(n / 10 for n in range(11)),
}
#: Weights of the atlases among which a classical method chooses; each costs it a labelling of every example.
CLASSICAL_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
#: Largest number of training scans from which the weight of a classical method is learnt, and of their groups.
MOST_SCANS, MOST_GROUPS = 10, 5
#: What progress calls it.
_WHAT = "learning the weight of the atlases"


@dataclass(frozen=True, eq=False)
class Example:
    """A case from which the weight is learnt.

    Args:
        labels: channel indices ``(*spatial)`` that the method and the atlases, with a given weight, give the case.
        truth: its true channel indices ``(*spatial)``.
        classes: ``K``, the background included.
    """

    labels: Callable[[float], npt.NDArray[Any]]
    truth: npt.NDArray[Any]
    classes: int


@dataclass(frozen=True)
class LearntWeight:
    """The learnt weight.

    Args:
        weight: of the atlases.
        dice: mean Dice of each weight that was tried.
        taught_by: the cases, in words.
    """

    weight: float
    dice: Mapping[float, float]
    taught_by: str = ""

    @property
    def about(self) -> dict[str, Any]:
        """Plain data for the run's folder."""
        dice = {str(weight): round(mean, 5) for weight, mean in self.dice.items()}
        return {"weight_from": self.taught_by, "dice_of_weights": dice}


def learn_weight(examples: Iterable[Example], weights: Sequence[float], taught_by: str = "") -> LearntWeight:
    """The weight that labels cases best, by mean Dice over structures and cases; the smallest of equals.

    Args:
        examples: cases from which neither method nor atlases have learnt.
        weights: to choose from.
        taught_by: the cases, in words.

    Raises:
        DatasetError: there is no example.
    """
    scores: dict[float, list[float]] = {weight: [] for weight in weights}
    for example in examples:
        for weight, found in scores.items():
            found.append(mean_dice(example.labels(weight), example.truth, example.classes))
    if not all(scores.values()):
        raise DatasetError("no held-out case to learn the weight of the atlases from; give a weight")
    means = {weight: float(np.mean(found)) for weight, found in scores.items()}
    return LearntWeight(max(means, key=lambda weight: (round(means[weight], 6), -weight)), means, taught_by)


def weight_beside_network(
    kind: Kind,
    network: NetworkSegmenter,
    atlases: MultiAtlasSegmenter,
    cases: Sequence[Case],
    table: LabelTable,
    progress: Progress | None = None,
) -> LearntWeight:
    """Learn the weight from cases held out of the training.

    Args:
        kind: of the combination.
        network: trained.
        atlases: fitted, with their correction if they have one.
        cases: labelled, neither trained on nor among the atlases.
        table: of their labels.
        progress: told the number of cases done and their total.

    Raises:
        DatasetError: there is no case.
        AtlasegError: a file is not as it must be, or no atlas could be registered.
    """

    def examples() -> Iterator[Example]:
        for done, case in enumerate(cases):
            if progress is not None:
                progress(done, len(cases), _WHAT)
            yield _held_out(kind, network, atlases, case, table)
        if progress is not None:
            progress(len(cases), len(cases), _WHAT)

    return learn_weight(examples(), WEIGHTS[kind], f"{len(cases)} held-out cases")


def _held_out(
    kind: Kind, network: NetworkSegmenter, atlases: MultiAtlasSegmenter, case: Case, table: LabelTable
) -> Example:
    image = read_image(case.images)
    found = atlases.propagate(image)
    prior = prior_of(atlases, found, image) if network.fitted_plan.prior_channels else None
    own = np.asarray(network.segment(image, prior=prior, probabilities=True).probabilities)
    votes = np.asarray(atlases.fuse(found, probabilities=True, borders=False).probabilities)

    def labels(weight: float) -> npt.NDArray[Any]:
        return Combination(kind, weight).apply(own, votes).argmax(axis=0)

    return Example(labels, _truth(case, table), len(own))


def weight_beside_classical(
    everything: AtlasSet,
    classical: ClassicalSegmenter,
    atlases: MultiAtlasSegmenter,
    progress: Progress | None = None,
) -> LearntWeight:
    """Learn the weight from training scans, each segmented by a method that was not trained on it.

    Args:
        everything: the training cases, with their masks if they have any; the atlases are among them.
        classical: fitted to all of them.
        atlases: fitted.
        progress: told the number of scans done and their total.

    Raises:
        DatasetError: a structure is in too few scans to hold some out.
        AtlasegError: a file is not as it must be, or no atlas could be registered.
    """
    taught = spread(atlases.atlases.names, MOST_SCANS)
    groups = [taught[n::MOST_GROUPS] for n in range(min(MOST_GROUPS, len(taught)))]

    def examples() -> Iterator[Example]:
        done = 0
        for group in groups:
            for example in _left_out(everything, classical, atlases, group):
                if progress is not None:
                    progress(done, len(taught), _WHAT)
                yield example
                done += 1
        if progress is not None:
            progress(done, len(taught), _WHAT)

    return learn_weight(
        examples(),
        CLASSICAL_WEIGHTS,
        f"{len(taught)} training scans, each segmented by a method not trained on it",
    )


def _left_out(
    everything: AtlasSet, classical: ClassicalSegmenter, atlases: MultiAtlasSegmenter, group: Sequence[str]
) -> Iterator[Example]:
    """Each case of a group, labelled by the method as it is without all of them, and by the other atlases."""
    others = [name for name in everything.names if name not in group]
    masks = everything.masks
    method = ClassicalSegmenter(
        method=classical.method, options=classical.settled_options, seed=classical.seed
    )
    try:
        method.fit(everything.dataset.subset(others), _some(masks, others))
    except DatasetError as error:
        raise DatasetError(
            f"{error}, when {', '.join(group)} are held out to learn the weight of the atlases; give a weight "
            "(and a run begun without one another folder)"
        ) from error
    for case in everything.dataset.subset(group).labelled:
        image = read_image(case.images)
        mask = None if masks is None else read_mask(masks[case.name])
        found = atlases.propagate(image, mask=mask, without=case.name)
        votes = np.asarray(atlases.fuse(found, probabilities=True, corrected=False).probabilities)

        def labels(weight: float, image: Any = image, mask: Any = mask, votes: Any = votes) -> Any:
            labelled = method.segment(image, mask=mask, votes=votes, weight=weight).label_map
            return method.labels.to_indices(labelled)

        yield Example(labels, _truth(case, everything.labels), len(everything.labels))


def _some(masks: Mapping[str, Path] | None, names: Sequence[str]) -> dict[str, Path] | None:
    return None if masks is None else {name: masks[name] for name in names}


def _truth(case: Case, table: LabelTable) -> npt.NDArray[Any]:
    label: Any = case.label  # of a labelled case
    return table.to_indices(read_label_map(label))
