"""Patch size, levels of the network and batch size, from scans, memory and device."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, cast

from atlaseg.pipeline.errors import PlanError
from atlaseg.pipeline.networks.registry import DEPTHS, NETWORKS, adapted, depth_levels, divisor
from atlaseg.pipeline.planning.memory import estimate_training_memory
from atlaseg.pipeline.planning.plan import NetworkPlan, Plan, Spacing, Triple

__all__ = ["choose_batch_size", "choose_network", "choose_patch", "choose_strides", "patch_candidates"]

Depth = Literal["context", "standard", "precision"]

#: Voxels that must be left along a halved axis at the deepest level.
BOTTOM = 4
#: Scans may be padded by this factor so that one more halving leaves ``BOTTOM`` voxels.
PADDING = 1.25
#: Voxels are comparable, and halved together, up to this ratio of their edges.
COMPARABLE = 2.0
#: Share of the budget that the estimate may fill; the rest is for patches that wait and for fragmentation.
USABLE = 0.9
#: Most channels that any level has.
MOST_CHANNELS = 320
#: Largest patch, in voxels: on a CPU more would leave too few steps in the time that people have.
_MOST_VOXELS = {"cpu": 64**3, "cuda": 160**3}
#: Batches on a GPU hold at most this share of the data set's voxels (as in nnU-Net), and so many patches.
_BATCH_SHARE, _MOST_PATCHES = 0.05, 8


def choose_strides(shape: Sequence[float], spacing: Spacing, levels: int) -> tuple[Triple, ...]:
    """Downsampling of each level: halve the axes whose voxels are comparable with the finest ones.

    The rule of nnU-Net (Isensee et al., Nature Methods 18, 2021): an axis with long voxels waits until the
    others have become as coarse; an axis that would keep fewer than 4 voxels is not halved further.

    >>> choose_strides((200, 200, 24), (0.7, 0.7, 5.0), 3)
    ((2, 2, 1), (2, 2, 1), (2, 2, 2))
    """
    size, edge = list(spacing), [n * PADDING for n in shape]
    strides: list[Triple] = []
    for _ in range(levels):
        able = [a for a in range(3) if edge[a] / 2 >= BOTTOM]
        if not able:
            break
        finest = min(size[a] for a in able)
        stride = [2 if a in able and size[a] <= COMPARABLE * finest * (1 + 1e-3) else 1 for a in range(3)]
        size = [s * f for s, f in zip(size, stride, strict=True)]
        edge = [e / f for e, f in zip(edge, stride, strict=True)]
        strides.append((stride[0], stride[1], stride[2]))
    return tuple(strides)


def choose_network(
    method: str, shape: Sequence[float], spacing: Spacing, depth: str | None, device: str
) -> tuple[NetworkPlan, str]:
    """Network of a name for scans of ``shape`` voxels, and why it has its depth.

    Raises:
        PlanError: the scans are too small for the depth that was asked for, or for any.
        OptionError: unknown method or depth.
    """
    row = NETWORKS.find(method)  # says at once when there is no such network
    first = 32 if device != "cpu" else row.first_channels
    scan = " x ".join(f"{n:.0f}" for n in shape)
    if depth is not None:
        depth_levels(depth)
        names, why = [depth], "set by the user"
    elif device != "cpu" and sum(n >= 96 for n in shape) == 3:
        names = ["context", "standard", "precision"]
        why = f"scans of {scan} voxels leave room for 4 halvings"
    else:
        names, why = ["standard", "precision"], f"3 levels down suit scans of {scan} voxels"
    for name in names:
        network = _sized(method, name, shape, spacing, first)
        if network is not None:
            shallow = name == "precision" and depth is None
            return network, f"scans of {scan} voxels are too small for 3 halvings" if shallow else why
    asked = f"depth {names[0]} halves {DEPTHS[names[0]]} times and" if depth else f"network {method}"
    advice = "choose a lower depth" if depth in {"context", "standard"} else "use scans of 16 voxels or more"
    raise PlanError(f"{asked} needs at least 4 voxels at the bottom; scans of {scan} are too small: {advice}")


def _sized(
    method: str, depth: str, shape: Sequence[float], spacing: Spacing, first: int
) -> NetworkPlan | None:
    """The network at a depth, or ``None`` where the scans are too small for it."""
    levels = depth_levels(depth)
    strides = choose_strides(shape, spacing, levels)
    if len(strides) < levels:
        return None
    channels = tuple(min(first * 2**i, MOST_CHANNELS) for i in range(levels + 1))
    network = adapted(NetworkPlan(method, cast(Depth, depth), channels, strides))
    # some networks halve every axis, whatever the strides of the plan
    if any(n * PADDING < BOTTOM * d for n, d in zip(shape, divisor(network), strict=True) if d > 1):
        return None
    return network


def patch_candidates(shape: Sequence[float], spacing: Spacing, factors: Triple) -> list[Triple]:
    """Patches from the one that covers ``shape`` to the smallest, each with the longest edge in mm shortened.

    So a patch that must be smaller than the scan becomes a cube in millimetres. Every edge is a multiple of
    its factor and at least four times it.

    >>> patch_candidates((24, 16, 9), (1.0, 1.0, 1.0), (2, 2, 2))[:3]
    [(24, 16, 10), (22, 16, 10), (20, 16, 10)]
    """
    patch = [max(math.ceil(n / f), BOTTOM if f > 1 else 1) * f for n, f in zip(shape, factors, strict=True)]
    # an axis that is never halved may shrink to as little as the bottom keeps of the others
    least = [min(p, BOTTOM * f) for p, f in zip(patch, factors, strict=True)]
    candidates = [(patch[0], patch[1], patch[2])]
    while able := [a for a in range(3) if patch[a] - factors[a] >= least[a]]:
        longest = max(able, key=lambda a: patch[a] * spacing[a])
        patch[longest] -= factors[longest]
        candidates.append((patch[0], patch[1], patch[2]))
    return candidates


def choose_patch(plan: Plan, shape: Sequence[float], device: str) -> tuple[Plan, str]:
    """The plan with the largest patch and a batch that fit the memory, and why that patch.

    Args:
        plan: everything but patch and batch is settled.
        shape: voxels on the plan's grid that a patch need not exceed.
        device: ``cpu`` or ``cuda``.

    Raises:
        PlanError: the smallest patch does not fit.
    """
    candidates = patch_candidates(shape, plan.spacing, divisor(plan.network))
    most = _MOST_VOXELS[device]
    quick = [c for c in candidates if math.prod(c) <= most] or candidates[-1:]
    for batch in (2, 1):
        trial = replace(plan, training=replace(plan.training, batch_size=batch))
        index = _first(len(quick), lambda i, t=trial: fits(replace(t, patch_size=quick[i]), device))  # type: ignore[misc]
        if index is not None:
            trial = replace(trial, patch_size=quick[index])
            why = _why_patch(trial, shape, candidates[0], most=most, short_of_memory=index > 0)
            return trial, why
    least = replace(trial, patch_size=quick[-1])
    needed = math.ceil(estimate_training_memory(least, device) / USABLE / 1e8) / 10
    raise PlanError(
        f"network {plan.network.name} needs {needed:.1f} GB for its smallest patch {_cross(quick[-1])} and "
        f"batch 1, the budget is {plan.memory_gb:g} GB; raise --memory or choose another network or depth"
    )


def fits(plan: Plan, device: str) -> bool:
    """Whether the estimate stays within the usable share of the plan's budget."""
    return estimate_training_memory(plan, device) <= USABLE * plan.memory_gb * 1e9


def _first(count: int, accept: Callable[[int], bool]) -> int | None:
    """Lowest index that is accepted, where everything after an accepted one is accepted too (bisection)."""
    if accept(0):
        return 0
    if not accept(count - 1):
        return None
    low, high = 0, count - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if accept(middle) else (middle, high)
    return high


def _why_patch(
    plan: Plan, shape: Sequence[float], largest: Triple, *, most: int, short_of_memory: bool
) -> str:
    factors = " x ".join(str(d) for d in divisor(plan.network))
    covered = f"three quarters of the scans have at most {_cross(shape)} voxels along each axis"
    multiple = f"edges are multiples of {factors} for the network"
    if plan.patch_size == largest:
        return f"covers a typical scan: {covered}; {multiple}"
    limit = (
        f"the memory of {plan.memory_gb:g} GB"
        if short_of_memory
        else f"{most} voxels, for speed on this device"
    )
    return f"the largest within {limit}, as near to a cube in mm as possible; {covered}; {multiple}"


def choose_batch_size(plan: Plan, device: str, dataset_voxels: float) -> tuple[int, str]:
    """Patches per step: more than two only on a GPU with memory to spare.

    Args:
        plan: with a patch that fits.
        device: ``cpu`` or ``cuda``.
        dataset_voxels: voxels of all labelled scans on the plan's grid.
    """
    batch = plan.training.batch_size
    if batch == 1:
        return 1, f"two patches do not fit {plan.memory_gb:g} GB"
    if device == "cpu":
        return 2, "more patches per step make a CPU slower in proportion; two steady the gradient"
    share = int(_BATCH_SHARE * dataset_voxels / math.prod(plan.patch_size))
    while batch < min(_MOST_PATCHES, share):
        if not fits(replace(plan, training=replace(plan.training, batch_size=batch + 1)), device):
            return batch, f"the most patches that fit {plan.memory_gb:g} GB"
        batch += 1
    return batch, f"the memory allows it; at most {_MOST_PATCHES} and 5 percent of the data set's voxels"


def _cross(shape: Sequence[float]) -> str:
    return "x".join(f"{n:.0f}" for n in shape)
