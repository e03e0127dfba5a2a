"""The plan of a run: every choice between a data set and a trained network, as readable, checked data.

The dataclasses below are the schema of ``plan.yaml``; ``atlaseg.pipeline.planning.plan_file`` reads and writes it.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from atlaseg.pipeline.case import LabelTable
from atlaseg.pipeline.errors import PlanError
from atlaseg.pipeline.schema import Range, shortened
from atlaseg.pipeline.training.learning_rate import LEARNING_RATE, WARMUP

__all__ = [
    "Augmentation",
    "InferencePlan",
    "NetworkPlan",
    "Normalisation",
    "Plan",
    "PriorPlan",
    "TrainingPlan",
]

Triple = tuple[int, int, int]
Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Normalisation:
    """Normalisation of intensities for the network.

    Args:
        kind: ``zscore`` (MRI: each channel to mean 0 and standard deviation 1) or ``clip-scale`` (CT: clip to
            ``[lower, upper]`` and scale to ``[0, 1]``).
        nonzero: for ``zscore``: statistics and result over non-zero voxels only (skull-stripped scans).
        lower: for ``clip-scale``: lower bound in the scan's unit (HU).
        upper: for ``clip-scale``: upper bound in the scan's unit (HU).
    """

    kind: Literal["zscore", "clip-scale"] = "zscore"
    nonzero: bool = False
    lower: float = 0.0
    upper: float = 1.0


@dataclass(frozen=True)
class NetworkPlan:
    """Architecture and size of the network.

    Args:
        name: a name of the table in ``atlaseg.pipeline.networks.registry``.
        depth: ``context``, ``standard`` or ``precision``: 4, 3 or 2 levels down.
        channels: feature channels at each resolution, finest first; one more than there are levels down.
        strides: downsampling factor per axis of each level down.
        residual_units: convolutions of each residual unit (where the network has them).
        dropout: dropout probability.
    """

    name: str = "unet"
    depth: Literal["context", "standard", "precision"] = "standard"
    channels: tuple[int, ...] = (32, 64, 128, 256)
    strides: tuple[Triple, ...] = ((2, 2, 2), (2, 2, 2), (2, 2, 2))
    residual_units: int = 2
    dropout: float = 0.0


@dataclass(frozen=True)
class Augmentation:
    """Random changes of training patches; each ``*_probability`` is per patch.

    Args:
        spatial_probability: of rotation, scaling and elastic deformation together (one resampling).
        rotation_degrees: largest rotation about each axis.
        scaling: largest relative change of size, 0.2 for 0.8 to 1.2.
        elastic_mm: standard deviation of the random displacement at the coarse grid's points, in mm.
        elastic_grid_mm: spacing of the coarse displacement grid, in mm.
        flip_axes: axes of the array that are mirrored at random (half of the patches each).
        noise_probability: of Gaussian noise.
        noise_std: its largest standard deviation, in units of the normalised intensities.
        blur_probability: of Gaussian blur.
        bias_field_probability: of a smooth multiplicative field.
        gamma_probability: of a gamma change of contrast.
        low_resolution_probability: of resampling to a lower resolution and back.
        intensity_probability: of a random scale and shift of the intensities.
        anatomical_probability: that the patch comes from its training scan as warped onto another one, by a
            deformation registered between the two; 0 where no scan was warped.
    """

    spatial_probability: float = 0.8
    rotation_degrees: float = 15.0
    scaling: float = 0.15
    elastic_mm: float = 1.5
    elastic_grid_mm: float = 12.0
    flip_axes: tuple[int, ...] = ()
    noise_probability: float = 0.15
    noise_std: float = 0.1
    blur_probability: float = 0.1
    bias_field_probability: float = 0.1
    gamma_probability: float = 0.2
    low_resolution_probability: float = 0.1
    intensity_probability: float = 0.3
    anatomical_probability: float = 0.0


@dataclass(frozen=True)
class PriorPlan:
    """Prior probabilities of the labels as further input channels of the network.

    Args:
        source: ``none``, or ``atlases``: the label probabilities of fused atlases are further input channels, one for
            each label, on the scale from 0 to 1.
        dropout: share of training patches whose prior is all zero, so that the network also works without one.
    """

    source: Literal["none", "atlases"] = "none"
    dropout: float = 0.1


@dataclass(frozen=True)
class TrainingPlan:
    """Settings of training.

    Args:
        epochs: number of epochs; ``None`` where ``minutes`` is the budget. Exactly one of the two is given.
        minutes: wall-clock budget of the training loop; the learning-rate schedule follows it.
        iterations_per_epoch: optimizer steps between two entries of the log.
        batch_size: patches per step.
        foreground_fraction: share of patches that are centred on a labelled voxel.
        unlabelled_share: share of patches from scans whose labels are by atlases, where there are any.
        loss: a name of the table in ``atlaseg.pipeline.training.losses``.
        optimizer: a name of the table in ``atlaseg.pipeline.training.optimizers``.
        learning_rate: the highest of the schedule.
        weight_decay: decoupled weight decay.
        schedule: a name of the table in ``atlaseg.pipeline.training.learning_rate``; it begins after the warm-up.
        warmup: share of the budget in which the learning rate rises linearly from near zero.
        gradient_clip: largest norm of the gradient, ``None`` for no clipping.
        ema: decay of the exponential moving average of the weights, ``None`` for none.
        precision: ``bf16``, ``fp16`` or ``fp32`` arithmetic of the network.
        validate_every: epochs between validations.
        validation_cases: cases scored during training, at most (the first by name).
        early_stopping: stop after so many validations without a better Dice; ``None`` never stops early.
        cache: ``memory`` or ``disk``: where preprocessed cases are kept.
        seed: of everything random.
    """

    epochs: int | None = 100
    minutes: float | None = None
    iterations_per_epoch: int = 50
    batch_size: int = 2
    foreground_fraction: float = 0.5
    unlabelled_share: float = 0.5
    loss: str = "dice-ce"
    optimizer: str = "adamw"
    learning_rate: float = LEARNING_RATE
    weight_decay: float = 1e-2
    schedule: str = "poly"
    warmup: float = WARMUP
    gradient_clip: float | None = 12.0
    ema: float | None = 0.999
    precision: Literal["bf16", "fp16", "fp32"] = "fp32"
    validate_every: int = 10
    validation_cases: int = 20
    early_stopping: int | None = None
    cache: Literal["memory", "disk"] = "memory"
    seed: int = 0


@dataclass(frozen=True)
class InferencePlan:
    """Settings of inference.

    Args:
        overlap: share by which neighbouring windows overlap, per axis.
        tta: test-time augmentation: average over mirrored and shifted copies of each window.
        tta_passes: forward passes of each window that it takes; what mirroring leaves of them goes to shifts.
        mirror_axes: axes of the array that it mirrors, in all combinations: those mirrored in training.
        window_batch: windows per forward pass.
    """

    overlap: float = 0.5
    tta: bool = False
    tta_passes: int = 8
    mirror_axes: tuple[int, ...] = ()
    window_batch: int = 1


@dataclass(frozen=True)
class Plan:
    """Everything a run needs to know, chosen from the data and open to the user.

    Args:
        dataset: name of the data set.
        channels: names of the input channels.
        labels: label values and names, in the order of the network's output channels.
        orientation: axes of the network's grid, such as ``RAS``.
        spacing: voxel size of the network's grid in mm.
        normalisation: of the intensities.
        foreground_threshold: crop to the box of voxels above it (any channel); ``None`` does not crop.
        patch_size: in voxels of the network's grid.
        network: name and size of the network.
        prior: prior probabilities of the labels as network input.
        training: how it is trained.
        augmentation: random changes of training patches.
        inference: how scans are labelled.
        memory_gb: the stated memory budget of training.
        reasons: for each choice, why it was made.
    """

    dataset: str
    channels: tuple[str, ...]
    labels: LabelTable
    orientation: str = "RAS"
    spacing: Spacing = (1.0, 1.0, 1.0)
    normalisation: Normalisation = field(default_factory=Normalisation)
    foreground_threshold: float | None = None
    patch_size: Triple = (64, 64, 64)
    network: NetworkPlan = field(default_factory=NetworkPlan)
    prior: PriorPlan = field(default_factory=PriorPlan)
    training: TrainingPlan = field(default_factory=TrainingPlan)
    augmentation: Augmentation = field(default_factory=Augmentation)
    inference: InferencePlan = field(default_factory=InferencePlan)
    memory_gb: float = 8.0
    reasons: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_values(self)

    @property
    def prior_channels(self) -> int:
        """Input channels that hold the prior: one for each label, or none."""
        return 0 if self.prior.source == "none" else len(self.labels)

    @property
    def inputs(self) -> int:
        """Input channels of the network: those of the scan, then those of the prior."""
        return len(self.channels) + self.prior_channels


_SHARE = Range(at_least=0, at_most=1)
_COUNT = Range(at_least=1, at_most=10_000)

#: What numbers of a plan must keep to. Upper limits are far from all that is of use: what lies beyond them is a slip
#: of the keyboard, and ends in memory that no machine has or in integers that no library takes.
_RANGES: dict[str, Range] = {
    "spacing": Range(at_least=1e-3, at_most=1e3),
    "patch_size": _COUNT,
    "foreground_threshold": Range(),
    "memory_gb": Range(above=0, at_most=1e6),
    "normalisation.lower": Range(),
    "normalisation.upper": Range(),
    "network.channels": _COUNT,
    "network.strides": Range(at_least=1, at_most=16),
    "network.residual_units": Range(at_least=0, at_most=16),
    "network.dropout": Range(at_least=0, below=1),
    "prior.dropout": _SHARE,
    "training.epochs": Range(at_least=1, at_most=1e9),
    "training.minutes": Range(above=0, at_most=1e6),
    "training.iterations_per_epoch": Range(at_least=1, at_most=1e9),
    "training.batch_size": _COUNT,
    "training.foreground_fraction": _SHARE,
    "training.unlabelled_share": _SHARE,
    "training.learning_rate": Range(above=0),
    "training.weight_decay": Range(at_least=0),
    "training.warmup": _SHARE,
    "training.gradient_clip": Range(above=0),
    "training.ema": Range(at_least=0, below=1),
    "training.validate_every": Range(at_least=1, at_most=1e9),
    "training.validation_cases": Range(at_least=1, at_most=1e9),
    "training.early_stopping": Range(at_least=1, at_most=1e9),
    "training.seed": Range(at_least=0, at_most=2**32 - 1),
    "inference.overlap": Range(at_least=0, below=1),
    "inference.tta_passes": _COUNT,
    "inference.window_batch": _COUNT,
    "augmentation.rotation_degrees": Range(at_least=0, at_most=180),
    "augmentation.scaling": Range(at_least=0, below=1),
    "augmentation.elastic_mm": Range(at_least=0, at_most=1e3),
    "augmentation.elastic_grid_mm": Range(at_least=1e-3, at_most=1e6),
    "augmentation.noise_std": Range(at_least=0, at_most=1e6),
    **{
        f"augmentation.{entry.name}": _SHARE
        for entry in dataclasses.fields(Augmentation)
        if entry.name.endswith("_probability")
    },
}


def _numbers(value: Any) -> Iterator[float]:
    """The numbers of an entry: itself, or those of a list; none where it is not set."""
    if isinstance(value, tuple):
        for item in value:
            yield from _numbers(item)
    elif value is not None:
        yield value


def _check_values(plan: Plan) -> None:
    """Conditions between values that types cannot state."""
    training, network = plan.training, plan.network
    if (training.epochs is None) == (training.minutes is None):
        raise PlanError("training: give either epochs or minutes, and set the other to null")
    if len(network.channels) != len(network.strides) + 1:
        raise PlanError(
            f"network: {len(network.channels)} channels need {len(network.channels) - 1} strides, "
            f"found {len(network.strides)}"
        )
    if sorted(plan.orientation.upper()) not in [sorted(a + b + c) for a in "LR" for b in "AP" for c in "IS"]:
        raise PlanError(
            f"orientation {plan.orientation!r}: give one letter each of L/R, A/P and I/S, such as RAS"
        )
    if not plan.channels:
        raise PlanError("channels: name at least one input channel, such as [T1]")
    if len(plan.labels) < 2:
        raise PlanError("labels: name at least one structure besides the background, such as {liver: 1}")
    for name, limits in _RANGES.items():
        for value in _numbers(operator.attrgetter(name)(plan)):
            if not limits.holds(value):
                raise PlanError(f"{name} must be {limits}, found {shortened(value)}")
    axes = {
        "augmentation.flip_axes": plan.augmentation.flip_axes,
        "inference.mirror_axes": plan.inference.mirror_axes,
    }
    if wrong := [name for name, value in axes.items() if not set(value) <= {0, 1, 2}]:
        raise PlanError(f"{wrong[0]}: the axes are 0, 1 and 2, found {list(axes[wrong[0]])}")
    if plan.normalisation.kind == "clip-scale" and not plan.normalisation.lower < plan.normalisation.upper:
        raise PlanError("normalisation: clip-scale needs lower < upper")
