"""Several processes that train one network: torchrun's environment, joined and left."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.errors import OptionError

__all__ = ["Group", "join"]


@dataclass(frozen=True)
class Group:
    """This process's place among those that train together.

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
