"""Set up training: threads, memory allocator, start and resumption."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
from collections.abc import Mapping
from typing import Any

import torch

from atlaseg.pipeline.planning.plan import Augmentation
from atlaseg.pipeline.training.checkpoint import Checkpoint
from atlaseg.pipeline.training.kept_checkpoint import ModelKeeper
from atlaseg.pipeline.training.patch_sampling import PatchBatches

__all__ = ["attached", "augmentation", "patch_workers", "resume_or_start", "tune_allocator"]

logger = logging.getLogger(__name__)

# glibc's <malloc.h>
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def tune_allocator() -> bool:
    """Let glibc keep freed memory instead of giving it back to the kernel and faulting it in again each step.

    Training allocates and frees the same activations in every step; with glibc's defaults each comes from a new
    ``mmap`` whose pages are zeroed by the kernel. Returns whether glibc accepted the settings (man 3 mallopt).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    limits = {_M_MMAP_THRESHOLD: 1 << 30, _M_TRIM_THRESHOLD: (1 << 31) - 1, _M_TOP_PAD: 256 << 20}
    accepted = [mallopt(name, value) == 1 for name, value in limits.items()]
    return all(accepted)


def augmentation(content: Mapping[str, Any]) -> Augmentation:
    """The plan's section as its dataclass; the config hands it on as plain data."""
    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
    return Augmentation(**plain)


def attached(handler: Any) -> Any:
    """The handler itself: lets a config list a handler that other parts refer to by its id."""
    return handler


def patch_workers(device: torch.device | str) -> int:
    """Threads that prepare patches: none on one core, else a few beside the network."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores == 1:
        return 0
    return min(4, cores - 1) if torch.device(device).type == "cuda" else min(2, cores // 2)


def resume_or_start(trainer: Any, checkpoint: Checkpoint, keeper: ModelKeeper, batches: PatchBatches) -> None:
    """Train from the checkpoint where there is one, from the start otherwise, not at all when it is finished."""
    done = checkpoint.restore(trainer, batches)
    if keeper.finished:
        logger.info("Training had already finished after epoch %d; nothing to do.", done)
        return
    trainer.run()
