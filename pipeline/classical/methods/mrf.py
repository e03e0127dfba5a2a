"""Markov random field: labels that agree with their probabilities and with their neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt

from atlaseg.pipeline.classical.fields.graph_cut import alpha_expansion, two_labels
from atlaseg.pipeline.classical.fields.potts import PottsEnergy, iterated_conditional_modes
from atlaseg.pipeline.classical.methods.gmm import GmmOptions
from atlaseg.pipeline.classical.scan import Classes, Scan
from atlaseg.pipeline.errors import GeometryError, OptionError

__all__ = ["STRENGTHS", "MrfOptions", "smooth"]

Solver = Literal["graph-cut", "icm"]

#: Strengths that training tries where none is set.
STRENGTHS = (0.0, 0.1, 0.3, 0.7, 1.5)


def smooth(
    probabilities: npt.NDArray[np.floating],
    image: npt.NDArray[np.floating] | None = None,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    *,
    mask: npt.NDArray[np.bool_] | None = None,
    prior: npt.NDArray[np.floating] | None = None,
    strength: float = 1.0,
    contrast: float = 0.0,
    solver: Solver = "graph-cut",
    max_cycles: int = 10,
) -> npt.NDArray[np.int32]:
    """The labels that are most probable together, where neighbours tend to be alike (Potts' model).

    Minimises the sum of ``-log(probability of the label)`` over voxels and of ``strength`` over faces between voxels
    of different labels, which :class:`atlaseg.pipeline.classical.fields.potts.PottsEnergy` writes down. Geman and
    Geman, IEEE Transactions on Pattern Analysis and Machine Intelligence 6(6):721-741 (1984),
    https://doi.org/10.1109/TPAMI.1984.4767596.

    Args:
        probabilities: ``(K, x, y, z)``, of any method; need not sum to one.
        image: ``(C, x, y, z)``, for ``contrast``.
        spacing: voxel size in mm.
        mask: ``(x, y, z)``, where to label; elsewhere 0.
        prior: ``(K, x, y, z)``, an atlas' label probabilities, if ``probabilities`` are likelihoods without it.
        strength: what a face between two labels costs, in units of log-probability.
        contrast: make borders cheaper where the image changes; 0 does not.
        solver: ``graph-cut`` is exact for two labels and close for more; ``icm`` stops at the first labelling that no
            single voxel can improve, and is quick.
        max_cycles: of alpha expansion over the labels, or twice as many sweeps of ICM.

    Returns:
        ``(x, y, z)`` int32, 0 to ``K - 1``.

    Raises:
        OptionError: an option is out of range.
        GeometryError: shapes do not fit.
        DatasetError: no voxel to label, or a probability or voxel that is not finite.

    >>> foreground = np.array([0.1, 0.2, 0.6, 0.3, 0.1]).reshape(5, 1, 1)
    >>> smooth(np.stack([1 - foreground, foreground]), strength=0.5).ravel().tolist()
    [0, 0, 0, 0, 0]
    """
    if solver not in get_args(Solver):
        raise OptionError(f"mrf has no solver {solver!r}; choose one of {', '.join(get_args(Solver))}")
    if max_cycles < 1:
        raise OptionError(f"mrf: max_cycles must be at least 1, found {max_cycles}")
    joint = probabilities if prior is None else _with_prior(probabilities, prior)
    energy = PottsEnergy.of(joint, image, spacing=spacing, mask=mask, strength=strength, contrast=contrast)
    if solver == "icm":
        labels = iterated_conditional_modes(energy, energy.cheapest(), max_sweeps=2 * max_cycles)
    elif energy.classes == 2:
        labels = two_labels(energy)
    else:
        labels = alpha_expansion(energy, max_cycles=max_cycles)
    return energy.volume(labels)


@dataclass(frozen=True)
class MrfOptions:
    """A Gaussian mixture whose named probabilities are smoothed by a Markov random field (:func:`smooth`).

    Without ``contrast`` every face of a border costs the same, and thin structures, whose border is long for what they
    hold, shrink: on hippocampi a strength of 0.7 takes 0.03 of Dice away, and with ``contrast`` adds 0.005 to 0.01.

    Args:
        strength: what a face between two labels costs, in units of log-probability; ``None``: training chooses among
            :data:`STRENGTHS`, without any it is the first of them, which smooths nothing.
        contrast: make borders cheaper where the image changes; 0 does not.
        solver: ``graph-cut`` or ``icm``.
        components: of the mixture (:class:`atlaseg.pipeline.classical.methods.gmm.GmmOptions`, like those below).
        use_prior: let a scan's prior take the place of the classes' shares of the volume.
        bias_order: highest degree of the polynomials of a bias field; 0 is none.
        max_samples: voxels that the mixture is fitted to, at most.
        max_iterations: of expectation maximisation.
        seed: of the mixture.
    """

    name: ClassVar[str] = "mrf"

    strength: float | None = None
    contrast: float = 1.0
    solver: Solver = "graph-cut"
    components: int | None = None
    use_prior: bool = False
    bias_order: int = 0
    max_samples: int = GmmOptions.max_samples
    max_iterations: int = GmmOptions.max_iterations
    seed: int = 0

    @property
    def mixture(self) -> GmmOptions:
        """The options of the mixture."""
        return GmmOptions(
            self.components,
            use_prior=self.use_prior,
            bias_order=self.bias_order,
            max_samples=self.max_samples,
            max_iterations=self.max_iterations,
            seed=self.seed,
        )

    def choices(self) -> dict[str, tuple[int, ...]]:
        """Candidate values of each unset option of the mixture."""
        return self.mixture.choices()

    def smoothing_choices(self) -> dict[str, tuple[float, ...]]:
        """Candidate values of the strength, if it is unset."""
        return {"strength": STRENGTHS} if self.strength is None else {}

    def classes(self, scan: Scan) -> Classes:
        """The mixture's classes, which are named before they are smoothed."""
        return self.mixture.classes(scan)

    def smooth(self, probabilities: npt.NDArray[np.floating], scan: Scan) -> npt.NDArray[np.int32]:
        """Labels ``(x, y, z)`` from probabilities ``(K, x, y, z)`` of a scan."""
        return smooth(
            probabilities,
            scan.voxels,
            scan.spacing,
            mask=scan.mask,
            strength=STRENGTHS[0] if self.strength is None else self.strength,
            contrast=self.contrast,
            solver=self.solver,
        )


def _with_prior(
    likelihoods: npt.NDArray[np.floating], prior: npt.NDArray[np.floating]
) -> npt.NDArray[np.floating[Any]]:
    if prior.shape != likelihoods.shape:
        raise GeometryError(f"the prior has shape {prior.shape}, the probabilities {likelihoods.shape}")
    joint: npt.NDArray[np.floating[Any]] = likelihoods * prior
    total = joint.sum(axis=0)
    return joint / np.where(total > 0, total, 1)
