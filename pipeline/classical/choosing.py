"""Choose unset options by their score on held-out training scans."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.classical.location_prior import LocationPrior
from atlaseg.pipeline.classical.naming import Naming, named_probabilities
from atlaseg.pipeline.evaluation.confusion_matrix import mean_dice

if TYPE_CHECKING:
    from atlaseg.pipeline.classical.scan import Scan

__all__ = ["choose_options", "settled"]

#: Training scans that take part, at most, evenly spaced among all; and those of them that are held out.
MOST_SCANS, MOST_HELD_OUT = 8, 3


def settled(options: Any) -> Any:
    """Options with the first of its choices for each one that is open.

    >>> from atlaseg.pipeline.classical.methods.kmeans import CLUSTERS, KMeansOptions
    >>> settled(KMeansOptions()).clusters == CLUSTERS[0]
    True
    """
    first = {name: values[0] for name, values in {**_choices(options), **_smoothing(options)}.items()}
    return replace(options, **first)


def choose_options(
    options: Any,
    scans: Sequence[Scan],
    labels: Sequence[npt.NDArray[np.integer]],
    classes: int,
    *,
    masked: bool = False,
    seed: int = 0,
) -> Any:
    """Options with the best of its choices for each one that is open.

    Up to three training scans are held out, the method is taught by others (:data:`MOST_SCANS` together, so that the
    time is bounded), and what gives the best mean Dice on those held out is chosen; of equals the first. Options that
    only smooth are chosen last, on the same probabilities. With one scan, the first choice is taken.

    Args:
        options: of a method that finds classes. Its ``choices()`` are the values to try by name of each option that
            are unset; its ``smoothing_choices()`` those of options that serve its ``smooth`` only.
        scans: training scans; a location prior is learnt from those that are not held out, even if another is used
            later: one from outside may know the scans held out, and take long to work out.
        labels: one for each, ``(x, y, z)`` channel indices.
        classes: ``K``, background included.
        masked: the scans have masks.
        seed: of the naming.

    Raises:
        AtlasegError: a scan cannot be used, or the options do not suit it.
    """
    chosen = settled(options)
    if chosen == options or len(scans) < 2:
        return chosen
    trial = _Trial.split(scans, labels, classes, masked=masked, seed=seed)
    for name, values in _choices(options).items():
        # max takes the first of equals
        chosen = max((replace(chosen, **{name: value}) for value in values), key=trial.dice)
    for name, values in _smoothing(options).items():
        chosen = trial.best_smoothing([replace(chosen, **{name: value}) for value in values])
    return chosen


def _choices(options: Any) -> dict[str, tuple[Any, ...]]:
    return dict(options.choices()) if hasattr(options, "choices") else {}


def _smoothing(options: Any) -> dict[str, tuple[Any, ...]]:
    return dict(options.smoothing_choices()) if hasattr(options, "smoothing_choices") else {}


@dataclass(frozen=True, eq=False)
class _Trial:
    """Training scans, some of them held out; read whenever they are needed, so that they do not fill the memory."""

    scans: Sequence[Scan]
    labels: Sequence[npt.NDArray[np.integer]]
    teachers: tuple[int, ...]
    held_out: tuple[int, ...]
    location: LocationPrior
    classes: int
    seed: int

    @classmethod
    def split(
        cls,
        scans: Sequence[Scan],
        labels: Sequence[npt.NDArray[np.integer]],
        classes: int,
        *,
        masked: bool,
        seed: int,
    ) -> _Trial:
        used = [int(n) for n in np.linspace(0, len(scans) - 1, min(len(scans), MOST_SCANS))]
        number = min(MOST_HELD_OUT, len(used) // 2)
        held_out = used[:: len(used) // number][:number]
        teachers = [n for n in used if n not in held_out]
        location = LocationPrior.learn(
            (scans[n] for n in teachers), (labels[n] for n in teachers), classes, masked=masked
        )
        return cls(scans, labels, tuple(teachers), tuple(held_out), location, classes, seed)

    def dice(self, options: Any) -> float:
        """Mean over the scans held out, before anything is smoothed."""
        return float(
            np.mean(
                [
                    mean_dice(chances.argmax(axis=0), truth, self.classes)
                    for _, truth, chances in self._label(options)
                ]
            )
        )

    def best_smoothing(self, candidates: Sequence[Any]) -> Any:
        """Those options, which differ in smoothing only, that label best; the first of equals."""
        scores = [
            [mean_dice(options.smooth(chances, scan), truth, self.classes) for options in candidates]
            for scan, truth, chances in self._label(candidates[0])
        ]
        return candidates[int(np.mean(scores, axis=0).argmax())]

    def _label(self, options: Any) -> Iterator[tuple[Scan, npt.NDArray[np.integer], npt.NDArray[np.float32]]]:
        """Each scan held out with its labels and the probabilities that the method gives."""
        naming = Naming.learn(
            options.classes,
            (self.scans[n] for n in self.teachers),
            (self.labels[n] for n in self.teachers),
            self.classes,
            seed=self.seed,
        )
        for n in self.held_out:
            prior = self.location.on(self.scans[n])
            scan = replace(self.scans[n], prior=prior)
            yield scan, self.labels[n], named_probabilities(scan, options.classes(scan), naming, prior)
