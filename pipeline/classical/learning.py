"""Fit each kind of classical method to labelled scans, and segment a scan with the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.classical.location_prior import LocationPrior
from atlaseg.pipeline.classical.naming import Naming, named_probabilities
from atlaseg.pipeline.classical.registry import kind_of
from atlaseg.pipeline.errors import UnreadableFileError

if TYPE_CHECKING:
    from atlaseg.pipeline.classical.classical_bundle import ClassicalSettings
    from atlaseg.pipeline.classical.scan import Scan

__all__ = ["Learnt", "label_scan", "learn"]


@dataclass(frozen=True, eq=False)
class Learnt:
    """Parameters of a fitted classical method.

    Args:
        location: where structures lie; ``None`` where an external prior says so.
        naming: what unnamed classes usually are; ``None`` for methods that need no names.
        state: arrays of a method that learns by itself.
    """

    location: LocationPrior | None = None
    naming: Naming | None = None
    state: dict[str, npt.NDArray[Any]] = field(default_factory=dict)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Everything as arrays by name, for a file."""
        content = {f"state/{name}": array for name, array in self.state.items()}
        if self.location is not None:
            content["location/lattice"] = self.location.lattice
        if self.naming is not None:
            content["naming/features"] = self.naming.features
            content["naming/votes"] = self.naming.votes
            content["naming/scale"] = self.naming.scale
            content["naming/neighbours"] = np.array(self.naming.neighbours)
        return content

    @classmethod
    def from_arrays(
        cls, arrays: dict[str, npt.NDArray[Any]], settings: ClassicalSettings, where: str
    ) -> Self:
        """The reverse of :meth:`arrays`.

        Args:
            arrays: by name.
            settings: say what arrays there must be.
            where: the file or folder, for messages.

        Raises:
            UnreadableFileError: an array is missing, not finite, or has a wrong shape.
        """
        number, values = len(settings.labels), 2 * len(settings.channels) + 1
        location = naming = None
        if settings.own_prior:
            lattice = _array(arrays, "location/lattice", (number, None, None, None), where)
            location = LocationPrior(lattice.astype(np.float32), settings.masked)
        if kind_of(settings.method) in ("unsupervised", "smoothing"):
            features = _array(arrays, "naming/features", (None, values), where)
            asked = int(_array(arrays, "naming/neighbours", (), where))
            naming = Naming(
                features.astype(np.float32),
                _array(arrays, "naming/votes", (len(features), number), where).astype(np.float32),
                _array(arrays, "naming/scale", (values,), where).astype(np.float32),
                min(max(asked, 1), len(features)),
            )
        state = {
            name.removeprefix("state/"): _array(arrays, name, None, where)
            for name in arrays
            if name.startswith("state/")
        }
        return cls(location, naming, state)


def _array(
    arrays: dict[str, npt.NDArray[Any]], name: str, shape: tuple[int | None, ...] | None, where: str
) -> npt.NDArray[Any]:
    if name not in arrays:
        raise UnreadableFileError(f"{where}: array {name} is missing; train again")
    array = arrays[name]
    if shape is not None and (
        array.ndim != len(shape)
        or any(n not in (None, m) or m < 1 for n, m in zip(shape, array.shape, strict=True))
    ):
        raise UnreadableFileError(
            f"{where}: array {name} has shape {array.shape}, which does not fit; train again"
        )
    if array.dtype.kind not in "biuf" or not np.isfinite(array).all():
        raise UnreadableFileError(
            f"{where}: array {name} holds something else than finite numbers; train again"
        )
    return array


def learn(
    method: str,
    options: Any,
    scans: Sequence[Scan],
    labels: Sequence[npt.NDArray[np.integer]],
    classes: int,
    location: LocationPrior | None,
    *,
    seed: int = 0,
) -> Learnt:
    """Learn what a method of this kind needs.

    Args:
        method: its name.
        options: of the method.
        scans: training scans.
        labels: one for each, ``(x, y, z)`` channel indices.
        classes: ``K``, background included.
        location: is kept with what is learnt.
        seed: of everything random.

    Raises:
        AtlasegError: a scan cannot be used, or the options do not suit it.
    """
    if kind_of(method) in ("supervised", "seeded"):
        return Learnt(location, None, dict(options.learn(scans, labels, classes)))
    naming = Naming.learn(options.classes, scans, labels, classes, seed=seed)
    return Learnt(location, naming)


def label_scan(
    method: str, options: Any, scan: Scan, learnt: Learnt
) -> tuple[npt.NDArray[np.integer], npt.NDArray[np.float32]]:
    """Label a scan, which brings its prior.

    Returns:
        Channel indices ``(x, y, z)``, and probabilities ``(K, x, y, z)``: of ``mrf`` before they are smoothed, of a
        method with hard results 0 and 1.

    Raises:
        AtlasegError: the options do not suit the scan.
    """
    kind = kind_of(method)
    if scan.prior is None:
        raise UnreadableFileError("the model lacks its location prior; train again")
    if kind == "seeded":
        labels = options.labels(scan, learnt.state)
        return labels, (labels[None] == np.arange(len(scan.prior))[:, None, None, None]).astype(np.float32)
    if kind == "supervised":
        chances = options.probabilities(scan, learnt.state)
    else:
        if learnt.naming is None:
            raise UnreadableFileError("the model lacks the names of its classes; train again")
        chances = named_probabilities(scan, options.classes(scan), learnt.naming, scan.prior)
    if kind == "smoothing":
        return options.smooth(chances, scan), chances
    return chances.argmax(axis=0), chances
