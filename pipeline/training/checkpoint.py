"""Checkpoints of training, written atomically and loaded without running any code."""

from __future__ import annotations

import logging
import math
import pickle
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from ignite.engine import Engine, Events
from torch import nn

from atlaseg.pipeline.errors import MissingFileError, UnreadableFileError, UnsafeModelError
from atlaseg.pipeline.io.files import replacing, taking_apart

__all__ = ["Checkpoint", "load_weights", "read_torch_file", "save_torch_file"]

logger = logging.getLogger(__name__)


class Stateful(Protocol):
    """Anything with torch's state protocol."""

    def state_dict(self) -> Any:
        """State as plain data and tensors."""
        ...

    def load_state_dict(self, state: Any) -> Any:
        """Restore that state."""
        ...


def save_torch_file(path: Path, content: Any) -> None:
    """``torch.save``, whole or not at all."""
    with replacing(path) as temporary:
        torch.save(content, temporary)


def read_torch_file(path: Path) -> Any:
    """``torch.load`` of data only, onto the CPU.

    Raises:
        MissingFileError: there is no such file.
        UnsafeModelError: the pickle inside holds something else than tensors and plain data.
        UnreadableFileError: it is not a file of torch's, or truncated.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file; has this run been trained?")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Weights only load failed" in str(error):
            raise UnsafeModelError(
                f"{path}: holds more than weights and could run code; not opened"
            ) from error
        raise UnreadableFileError(f"{path}: not a file of weights (is it truncated?)") from error
    except MemoryError:
        raise
    except Exception as error:  # bytes that are no pickle make torch's reader fail in any way at all
        raise UnreadableFileError(f"{path}: not a file of weights (is it truncated?)") from error


def load_weights(network: nn.Module, path: Path) -> None:
    """Put the weights of a file into a network.

    Raises:
        UnreadableFileError: the weights do not suit the network; and what :func:`read_torch_file` raises.
    """
    weights = read_torch_file(path)
    if not isinstance(weights, Mapping) or not all(isinstance(name, str) for name in weights):
        raise UnreadableFileError(f"{path}: expected named weights, found another {type(weights).__name__}")
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UnreadableFileError(f"{path}: the weights do not suit the plan's network ({first})") from error


class Checkpoint:
    """Handler that saves the complete state of training to one file and resumes from it.

    Args:
        path: of the checkpoint.
        parts: named objects with ``state_dict`` and ``load_state_dict``: network, optimizer, schedule, ...
        seconds: shortest time between two checkpoints; the last epoch is always kept.
    """

    def __init__(self, path: str | Path, parts: Mapping[str, Stateful], seconds: float = 30.0) -> None:
        self.path = Path(path)
        self.parts = dict(parts)
        self.seconds = seconds
        self._written = -math.inf

    def attach(self, engine: Engine) -> None:
        """Write after epochs and at the end."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write_when_due)
        engine.add_event_handler(Events.COMPLETED, self.write)

    def _write_when_due(self, engine: Engine) -> None:
        if engine.should_terminate or engine.state.epoch == engine.state.max_epochs:
            # The end follows at once and is kept there. A checkpoint without it would leave an engine with no
            # epoch to go, which ignite begins anew.
            return
        if time.monotonic() - self._written >= self.seconds:
            self.write(engine)

    def write(self, engine: Engine) -> None:
        """Write the current state."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        scaler = getattr(engine, "scaler", None)
        save_torch_file(
            self.path,
            {
                "epoch": engine.state.epoch,
                "iteration": engine.state.iteration,
                "parts": {name: part.state_dict() for name, part in self.parts.items()},
                "scaler": None if scaler is None else scaler.state_dict(),
                "rng": {"torch": torch.get_rng_state(), "cuda": cuda},
            },
        )
        self._written = time.monotonic()

    def restore(self, engine: Engine, batches: Any) -> int:
        """Resume from the file; returns the number of completed epochs (0 without a file).

        Args:
            engine: trainer that has not run yet.
            batches: stream of batches with ``next_batch``.
        """
        if not self.path.is_file():
            return 0
        state = read_torch_file(self.path)
        with taking_apart(self.path, "the state of this training (remove the file to start again)"):
            for name, part in self.parts.items():
                part.load_state_dict(state["parts"][name])
            engine.state.epoch = int(state["epoch"])
            engine.state.iteration = int(state["iteration"])
            batches.next_batch = engine.state.iteration
            torch.set_rng_state(state["rng"]["torch"])
            state["rng"]["cuda"], state["scaler"]
        if torch.cuda.is_available() and len(state["rng"]["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["rng"]["cuda"])
        if state["scaler"] is not None:

            @engine.on(Events.STARTED)
            def _restore_scaler(engine: Engine) -> None:
                # MONAI makes the gradient scaler when the run begins
                scaler = getattr(engine, "scaler", None)
                if scaler is not None:
                    scaler.load_state_dict(state["scaler"])

        logger.info("Resuming after epoch %d (%s).", state["epoch"], self.path.name)
        return int(state["epoch"])


def seed_everything(seed: int) -> None:
    """Seed torch, numpy and Python, for network initialisation and dropout."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
