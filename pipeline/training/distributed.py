"""Distributed training: join and leave the process group that torchrun started."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from atlaseg.pipeline.errors import OptionError

__all__ = ["Group", "first_rank_value", "join", "share"]


@dataclass(frozen=True)
class Group:
    """Rank of this process in the group that trains together.

    Args:
        rank: its number.
        world_size: how many there are.
        device: its own GPU, or the CPU.
    """

    rank: int
    world_size: int
    device: torch.device

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network with gradients averaged over all processes."""
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=devices)

    def leave(self) -> None:
        """Leave the group."""
        if dist.is_initialized():
            dist.destroy_process_group()


def join() -> Group:
    """Join the processes that torchrun started; NCCL on GPUs, gloo on CPUs.

    Raises:
        OptionError: not started by torchrun.
    """
    if "LOCAL_RANK" not in os.environ:
        raise OptionError(
            "training on several GPUs is started with torchrun --nproc_per_node=N -m monai.bundle run ..."
        )
    cuda = torch.cuda.is_available()
    if not dist.is_initialized():
        dist.init_process_group("nccl" if cuda else "gloo")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    return Group(dist.get_rank(), dist.get_world_size(), device)


def first_rank_value(value: float) -> float:
    """The value that the first process has, in all of them; a process on its own keeps its value."""
    if not (dist.is_available() and dist.is_initialized()):
        return value
    device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else None
    shared = torch.tensor(value, dtype=torch.float64, device=device)
    dist.broadcast(shared, src=0)
    return float(shared)


def share(cases: Sequence[Any], rank: int, world_size: int) -> list[Any]:
    """The cases that one of several processes scores; all of them where there are too few to go round.

    MONAI's metrics gather the scores of all processes before they average them, which weighs each case alike
    both ways.

    >>> share(["a", "b", "c"], 0, 2), share(["a", "b", "c"], 1, 2), share(["a"], 1, 2)
    (['a', 'c'], ['b'], ['a'])
    """
    return list(cases[rank::world_size] if len(cases) >= world_size else cases)
