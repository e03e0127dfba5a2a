"""Memory of training: an estimate that takes a fraction of a second, and a measurement to hold it against.

The estimate runs the network and the loss once on torch's ``meta`` device, which computes shapes and no
values, and adds up what autograd keeps for the backward pass. Only the overheads on top of that (copies in
the layout of the convolution library, fragmentation) are figures from measurements; ``docs/explanation/planning.md``
holds the comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

from atlaseg.pipeline.networks.registry import build_network
from atlaseg.pipeline.planning.plan import NetworkPlan, Plan
from atlaseg.pipeline.system.peak_memory import peak_resident_bytes
from atlaseg.pipeline.system.worker_processes import worker_pool
from atlaseg.pipeline.training.losses.registry import build_loss
from atlaseg.pipeline.training.optimizers import OPTIMIZERS, build_optimizer

__all__ = ["MemoryEstimate", "estimate_training_memory", "measure_training_memory", "training_memory"]


@dataclass(frozen=True)
class _Overheads:
    """Measured factors of one kind of device.

    Args:
        baseline: bytes of the process (on a GPU: of the context and the libraries) before there is a network.
        activations: peak of a step per byte that the network keeps for its backward pass.
        loss: peak of the loss per byte that the loss keeps for its backward pass.
    """

    baseline: int
    activations: float
    loss: float


_OVERHEADS = {
    "cpu": _Overheads(baseline=660_000_000, activations=2.0, loss=2.2),
    # Not yet held against a measurement: CUDA caches blocks of equal size and cuDNN reorders nothing.
    "cuda": _Overheads(baseline=700_000_000, activations=1.5, loss=1.5),
}

_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}


@dataclass(frozen=True)
class MemoryEstimate:
    """Parts of the memory that training needs, in bytes.

    Args:
        baseline: Python, torch and MONAI, or the context of the GPU.
        parameters: weights, gradients and the optimizer's state.
        activations: what the network keeps and needs for the backward pass.
        loss: the same for the loss, which is always computed in float32.
    """

    baseline: int
    parameters: int
    activations: int
    loss: int

    @property
    def total(self) -> int:
        """All together."""
        return self.baseline + self.parameters + self.activations + self.loss


def estimate_training_memory(plan: Plan, device: str = "cpu") -> int:
    """Estimated peak memory in bytes of training by a plan, without cached cases.

    On a CPU this is the resident memory of the process, on a GPU the memory that the process takes there.
    """
    return training_memory(plan, device).total


def training_memory(plan: Plan, device: str = "cpu") -> MemoryEstimate:
    """The estimate by its parts, see :func:`estimate_training_memory`."""
    overheads = _OVERHEADS["cpu" if device == "cpu" else "cuda"]
    weights, kept_by_network, kept_by_loss = _step(
        plan.network,
        plan.inputs,
        len(plan.labels),
        tuple(plan.patch_size),
        plan.training.batch_size,
        plan.training.loss,
    )
    states = OPTIMIZERS.find(plan.training.optimizer).states
    # weight and gradient in float32, the optimizer's states, their copies in 16 bit, and an average if any
    per_weight = 4 * (2 + states + (plan.training.ema is not None)) + (
        0 if plan.training.precision == "fp32" else 2
    )
    size = _BYTES[plan.training.precision]
    return MemoryEstimate(
        baseline=overheads.baseline,
        parameters=weights * per_weight,
        activations=int(overheads.activations * kept_by_network * size / 4),
        loss=int(overheads.loss * kept_by_loss),
    )


@lru_cache(maxsize=256)  # rules ask for the same plan several times
def _step(
    network: NetworkPlan, inputs: int, classes: int, patch_size: tuple[int, ...], batch_size: int, loss: str
) -> tuple[int, int, int]:
    """Number of weights, and bytes that network and loss keep for the backward pass of one step."""
    with torch.device("meta"):
        built = _network(network, inputs, classes, patch_size)
        scan = torch.empty(batch_size, inputs, *patch_size)
        truth = torch.empty(batch_size, 1, *patch_size)
    logits, kept_by_network = _kept_for_backward(lambda: built(scan), built)
    logits = logits.detach().requires_grad_()
    _, kept_by_loss = _kept_for_backward(lambda: build_loss(loss)(logits, truth), built)
    return sum(p.numel() for p in built.parameters()), kept_by_network, kept_by_loss


def _network(network: NetworkPlan, inputs: int, classes: int, patch_size: Sequence[int]) -> torch.nn.Module:
    return build_network(
        network, spatial_dims=3, in_channels=inputs, out_channels=classes, patch_size=patch_size
    )


def _kept_for_backward(
    forward: Callable[[], torch.Tensor], network: torch.nn.Module
) -> tuple[torch.Tensor, int]:
    """Result of a forward pass, and the bytes of distinct storage that autograd keeps for the backward pass.

    Weights are left out: they are counted by themselves.
    """
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage  # holding on to the storage keeps its address from being used again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = forward()
    own = {p.untyped_storage()._cdata for p in network.parameters()}
    return result, sum(storage.nbytes() for key, storage in kept.items() if key not in own)


def measure_training_memory(plan: Plan, *, device: str = "cpu", steps: int = 3, threads: int = 1) -> int:
    """Measured peak memory in bytes of a few training steps on random data, in a fresh process.

    Args:
        plan: says network, patch, batch, loss, optimizer and precision.
        device: ``cpu`` (peak of resident memory) or ``cuda`` (peak that torch holds there).
        steps: optimizer steps; the second needs more than the first, which has no optimizer state yet.
        threads: of torch in the new process.
    """
    # A forked process would count the parent's memory as its own.
    with worker_pool(1) as executor:
        return executor.submit(_peak_of_training, plan, device, steps, threads).result()


def _peak_of_training(plan: Plan, device: str, steps: int, threads: int) -> int:
    """Run in the new process: train on noise, return the peak."""
    from atlaseg.pipeline.training.autocast import AutocastInferer
    from atlaseg.pipeline.training.resources import tune_allocator

    tune_allocator()  # as training does; freed memory then stays with the process
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    training = plan.training
    network = _network(plan.network, plan.inputs, len(plan.labels), plan.patch_size).to(device).train()
    optimizer = build_optimizer(network, training.optimizer, training.learning_rate, training.weight_decay)
    loss, inferer = build_loss(training.loss), AutocastInferer(training.precision)
    scan = torch.randn(training.batch_size, plan.inputs, *plan.patch_size, device=device)
    truth = torch.randint(len(plan.labels), (training.batch_size, 1, *plan.patch_size), device=device)
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        loss(inferer(scan, network), truth).backward()
        optimizer.step()
    if device == "cpu":
        return peak_resident_bytes()
    return torch.cuda.max_memory_reserved()
