"""Fingerprint and memory budget -> plan: the rules, each with a reason in plain words.

Where nnU-Net (Isensee et al., Nature Methods 18, 203-211, 2021) has a rule that proved itself over many data
sets, this follows it: target spacing, strides of anisotropic data, normalisation by modality.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import replace

import numpy as np

from atlaseg.pipeline.case import Dataset
from atlaseg.pipeline.errors import PlanError
from atlaseg.pipeline.expressions import without_expressions
from atlaseg.pipeline.planning.augmentation import choose_augmentation, choose_mirroring
from atlaseg.pipeline.planning.fingerprint import Fingerprint, compute_fingerprint
from atlaseg.pipeline.planning.memory import estimate_training_memory
from atlaseg.pipeline.planning.patch_size import (
    MOST_CHANNELS,
    USABLE,
    choose_batch_size,
    choose_network,
    choose_patch,
)
from atlaseg.pipeline.planning.plan import (
    Augmentation,
    InferencePlan,
    NetworkPlan,
    Plan,
    PriorPlan,
    TrainingPlan,
)
from atlaseg.pipeline.planning.plan_file import override_plan, plan_from_dict, plan_to_dict
from atlaseg.pipeline.planning.preprocessing import choose_normalisation, choose_spacing, resampled
from atlaseg.pipeline.system.hardware import bf16_is_fast
from atlaseg.pipeline.training.learning_rate import SCHEDULES

__all__ = ["check_plan", "make_plan", "plan_for"]

_Reasons = dict[str, str]


def plan_for(
    dataset: Dataset,
    *,
    method: str = NetworkPlan.name,
    memory_gb: float = 8.0,
    device: str = "cpu",
    minutes: float | None = None,
    epochs: int | None = None,
    depth: str | None = None,
    seed: int = 0,
    overrides: Sequence[str] = (),
    executor: Executor | None = None,
    prior: bool = False,
    versions: int = 0,
) -> Plan:
    """Plan for a data set: fingerprint, rules, then what the user wants otherwise.

    Overrides come last and change nothing but what they name. Other arguments as for :func:`make_plan`.

    Args:
        dataset: at least one case must have labels.
        method: name of the network.
        memory_gb: budget of training.
        device: ``cpu`` or ``cuda``.
        minutes: wall-clock budget of the training loop, instead of epochs.
        epochs: number of epochs.
        depth: ``context``, ``standard`` or ``precision``; chosen from the scans where ``None``.
        seed: of everything random.
        overrides: texts such as ``training.learning_rate=0.01``.
        executor: reads the scans in parallel.
        prior: whether label probabilities of fused atlases are further input channels.
        versions: training scans that are warped onto others, to be trained with.

    Raises:
        PlanError: the budget is too small, or an override does not fit the schema, the network or the memory.
        DatasetError, GeometryError, LabelError, UnreadableFileError: see :func:`compute_fingerprint`.
        OptionError: unknown method or depth.
    """
    fingerprint = compute_fingerprint(dataset, executor=executor, seed=seed)
    plan = make_plan(
        fingerprint,
        method=method,
        memory_gb=memory_gb,
        device=device,
        minutes=minutes,
        epochs=epochs,
        depth=depth,
        seed=seed,
        prior=prior,
        versions=versions,
    )
    if overrides:
        plan = override_plan(plan, overrides)
        check_plan(plan, device)
        plan = replace(plan, reasons=plan.reasons | {"memory_gb": _why_memory(plan, device)})
    return plan


def make_plan(
    fingerprint: Fingerprint,
    *,
    method: str = NetworkPlan.name,
    memory_gb: float = 8.0,
    device: str = "cpu",
    minutes: float | None = None,
    epochs: int | None = None,
    depth: str | None = None,
    seed: int = 0,
    bf16: bool | None = None,
    cache_gb: float | None = None,
    prior: bool = False,
    versions: int = 0,
) -> Plan:
    """The plan that suits a fingerprint.

    Args:
        fingerprint: of the labelled scans.
        method: name of the network.
        memory_gb: budget of training in GB (1e9 bytes): of the process on a CPU, of the card on a GPU.
        device: ``cpu`` or ``cuda``.
        minutes: wall-clock budget of the training loop, instead of epochs.
        epochs: number of epochs.
        depth: ``context``, ``standard`` or ``precision``; chosen from the scans where ``None``.
        seed: of everything random.
        bf16: whether the device multiplies bfloat16 numbers; looked up where ``None``.
        cache_gb: memory for preprocessed cases; what the budget leaves on a CPU, half of what the machine has
            free on a GPU, where ``None``.
        prior: whether label probabilities of fused atlases are further input channels.
        versions: training scans that are warped onto others, to be trained with.

    Raises:
        PlanError: too little memory, scans that are too small, channels of CT and of MRI together.
        OptionError: unknown method or depth.
    """
    if memory_gb <= 0:
        raise PlanError(f"a memory budget of {memory_gb:g} GB: give more than 0")
    why = "; ".join((fingerprint.modality_reason, *fingerprint.modality_doubts))
    reasons: _Reasons = {"channels": f"treated as {fingerprint.modality}: {why}"}
    spacing = choose_spacing(fingerprint, reasons)
    normalisation, threshold = choose_normalisation(fingerprint, reasons)
    shapes = resampled(fingerprint, spacing, cropped=threshold is not None)
    typical = [float(n) for n in np.ceil(np.percentile(shapes, 75, axis=0) - 1e-3)]
    network, reasons["network.depth"] = choose_network(method, typical, spacing, depth, device)
    plan = Plan(
        dataset=without_expressions(fingerprint.dataset),
        channels=fingerprint.channels,
        labels=fingerprint.labels,
        spacing=spacing,
        normalisation=normalisation,
        foreground_threshold=threshold,
        network=network,
        prior=_choose_prior(reasons, prior=prior),
        training=_choose_training(
            fingerprint, device, reasons, minutes=minutes, epochs=epochs, seed=seed, bf16=bf16
        ),
        augmentation=_with_versions(choose_augmentation(fingerprint, spacing, reasons), versions, reasons),
        inference=_choose_inference(fingerprint, reasons),
        memory_gb=memory_gb,
    )
    voxels = float(shapes.prod(axis=1).sum()) * (1 + versions / max(1, fingerprint.cases))
    plan, reasons["patch_size"] = choose_patch(plan, typical, device)
    batch_size, reasons["training.batch_size"] = choose_batch_size(plan, device, voxels)
    plan = replace(plan, training=replace(plan.training, batch_size=batch_size))
    plan = _choose_cache(plan, voxels, device, cache_gb, reasons)
    _explain_the_rest(plan, fingerprint, device, reasons)
    # what could not be read back must not be written: names of structures may hold forbidden characters
    return plan_from_dict(plan_to_dict(replace(plan, reasons=reasons)))


def check_plan(plan: Plan, device: str = "cpu") -> None:
    """Refuse a plan whose network cannot be built, does not suit its patch or needs too much memory.

    Raises:
        PlanError: see above, with what to change.
        OptionError: unknown network, loss, optimizer or schedule.
    """
    SCHEDULES.find(plan.training.schedule)  # the estimate asks for the other names
    needed = estimate_training_memory(plan, device)
    if needed > plan.memory_gb * 1e9:
        raise PlanError(
            f"patch {_cross(plan.patch_size)} and batch {plan.training.batch_size} need about "
            f"{needed / 1e9:.1f} GB, memory_gb is {plan.memory_gb:g}; choose a smaller patch "
            "or batch, or raise the budget"
        )


def _choose_training(
    fingerprint: Fingerprint,
    device: str,
    reasons: _Reasons,
    *,
    minutes: float | None,
    epochs: int | None,
    seed: int,
    bf16: bool | None,
) -> TrainingPlan:
    if minutes is not None and epochs is not None:
        raise PlanError("training: give either epochs or minutes, not both")
    if minutes is None and epochs is None:
        epochs = 100 if device == "cpu" else 200
        reasons["training.epochs"] = f"the default on {device}; give minutes for a budget of time"
    elif epochs is not None:
        reasons["training.epochs"] = "set by the user"
    else:
        reasons["training.epochs"] = "minutes are the budget"
    reasons["training.minutes"] = "epochs are the budget" if minutes is None else "set by the user"
    fast = bf16_is_fast(device) if bf16 is None else bf16
    reasons["training.precision"] = (
        f"the {device} multiplies bfloat16 numbers in hardware: half the memory and about half the time"
        if fast
        else f"the {device} has no fast bfloat16 instructions"
    )
    share = fingerprint.foreground_share
    fraction = 0.5 if share >= 0.01 else 0.67
    reasons["training.foreground_fraction"] = (
        f"{100 * share:.2g} percent of a typical scan's voxels are labelled"
        + ("" if share >= 0.01 else "; random patches would miss so few voxels")
    )
    return TrainingPlan(
        epochs=epochs,
        minutes=minutes,
        iterations_per_epoch=50 if device == "cpu" else 250,
        foreground_fraction=fraction,
        precision="bf16" if fast else "fp32",
        seed=seed,
    )


def _choose_prior(reasons: _Reasons, *, prior: bool) -> PriorPlan:
    if not prior:
        reasons["prior"] = "no atlases: a network alone"
        return PriorPlan()
    reasons["prior"] = (
        "atlases are registered to every scan, and their votes are input of the network; of training scans, without "
        "the scan's own label"
    )
    return PriorPlan("atlases")


def _with_versions(augmentation: Augmentation, versions: int, reasons: _Reasons) -> Augmentation:
    """Half of the patches from warped scans, where there are any."""
    if not versions:
        reasons["augmentation.anatomical_probability"] = "no training scan was warped onto another"
        return augmentation
    reasons["augmentation.anatomical_probability"] = (
        f"{versions} warped scans add shapes, the original scans have no interpolation"
    )
    return replace(augmentation, anatomical_probability=0.5)


def _choose_inference(fingerprint: Fingerprint, reasons: _Reasons) -> InferencePlan:
    axes, _ = choose_mirroring(fingerprint)
    reasons["inference"] = (
        "windows overlap by half, so that every voxel is seen away from an edge; test-time augmentation takes "
        "eight times as long and is left to the user"
    )
    reasons["inference.mirror_axes"] = (
        "as in training; the other passes of test-time augmentation are shifted"
    )
    return InferencePlan(mirror_axes=axes)


def _choose_cache(plan: Plan, voxels: float, device: str, cache_gb: float | None, reasons: _Reasons) -> Plan:
    """Keep preprocessed cases (float32 channels, 2 bytes of label) in memory where there is room."""
    size = voxels * (4 * plan.inputs + 2) / 1e9
    if cache_gb is None and device == "cpu":
        cache_gb = USABLE * plan.memory_gb - estimate_training_memory(plan, device) / 1e9
    elif cache_gb is None:
        import psutil

        cache_gb = psutil.virtual_memory().available / 2e9
    reasons["training.cache"] = (
        f"preprocessed cases take {_gigabytes(size)}, and {_gigabytes(max(cache_gb, 0))} are free for them"
    )
    return replace(plan, training=replace(plan.training, cache="memory" if size <= cache_gb else "disk"))


def _explain_the_rest(plan: Plan, fingerprint: Fingerprint, device: str, reasons: _Reasons) -> None:
    """Reasons of everything that was not decided from the data."""
    stored = ", ".join(f"{n} scans {name}" for name, n in fingerprint.orientations.items())
    reasons["orientation"] = f"every scan is turned to right, anterior, superior first (stored: {stored})"
    factors = "; ".join("x".join(str(f) for f in stride) for stride in plan.network.strides)
    reasons["network.name"] = "set by the user" if plan.network.name != NetworkPlan.name else "the default"
    first = plan.network.channels[0]
    reasons["network.channels"] = (
        f"{first} features at the finest level, doubled at each level down, at most {MOST_CHANNELS}"
        + ("" if first == 32 else "; with more features at full resolution a CPU does too few steps")
    )
    reasons["network.strides"] = (
        f"{factors}: an axis is halved once its voxels are comparable (within 2 times) with the finest, and "
        "as long as 4 voxels remain"
    )
    reasons["network.residual_units"] = "two convolutions around each shortcut, where the network has them"
    reasons["network.dropout"] = "augmentation regularises enough; try 0.1 for fewer than ten cases"
    reasons["training.iterations_per_epoch"] = f"the usual length of an epoch on {device}"
    reasons["training"] = "defaults that suit most data sets"
    reasons["training.ema"] = "averaged weights are better than the last ones, especially early in training"
    reasons["training.learning_rate"] = "AdamW's usual rate for a U-Net with instance normalisation"
    reasons["training.loss"] = "Dice for the overlap of small structures, cross-entropy for stable gradients"
    reasons["memory_gb"] = _why_memory(plan, device)


def _why_memory(plan: Plan, device: str) -> str:
    estimate = estimate_training_memory(plan, device) / 1e9
    return f"the stated budget; training takes about {_gigabytes(estimate)} on {device} without the cache"


def _gigabytes(size: float) -> str:
    return f"{size:.1f} GB" if size >= 1 else f"{math.ceil(size * 1000)} MB"


def _cross(shape: Sequence[int]) -> str:
    return "x".join(str(n) for n in shape)
