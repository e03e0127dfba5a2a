"""Checkpoints: whole or not there, exact, and nothing in them is run."""

from __future__ import annotations

import logging
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from atlaseg.pipeline.errors import MissingFileError, UnreadableFileError, UnsafeModelError
from atlaseg.pipeline.training import checkpoint as module
from atlaseg.pipeline.training.checkpoint import (
    Checkpoint,
    load_weights,
    read_torch_file,
    save_torch_file,
    seed_everything,
)


class Malicious:
    """Runs a command where it is unpickled carelessly."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.proof}",)


def one_line(error: pytest.ExceptionInfo[Exception], path: Path) -> None:
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(path))


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.pt"
    save_torch_file(path, {"a": torch.arange(3), "b": [1, "x", None]})
    content = read_torch_file(path)
    assert torch.equal(content["a"], torch.arange(3))
    assert content["b"] == [1, "x", None]


def test_error_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    save_torch_file(path, {"a": 1})

    class Full:
        def __reduce__(self) -> Any:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_torch_file(path, {"a": torch.zeros(1000), "b": Full()})
    assert read_torch_file(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["file.pt"]


@pytest.mark.parametrize("legacy", [False, True])
def test_malicious_pickle_is_not_run(tmp_path: Path, legacy: bool) -> None:
    path, proof = tmp_path / "model.pt", tmp_path / "proof"
    torch.save({"weight": Malicious(proof)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UnsafeModelError, match="could run code") as error:
        read_torch_file(path)
    one_line(error, path)
    assert not proof.exists()
    torch.load(path, weights_only=False)  # the trap does work
    assert proof.exists()


@pytest.mark.parametrize("kept", [0, 10, 200, 0.5, 0.95])
def test_truncated(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "model.pt"
    torch.save(nn.Linear(50, 50).state_dict(), path)
    data = path.read_bytes()
    path.write_bytes(data[: kept if isinstance(kept, int) else int(kept * len(data))])
    with pytest.raises(UnreadableFileError, match="truncated") as error:
        read_torch_file(path)
    one_line(error, path)


def noise(first: int) -> bytes:
    """Bytes that are no file of torch's; each first byte takes the reader another way (all 256 pickle opcodes)."""
    return bytes([first]) + random.Random(first).randbytes(300)


@pytest.mark.parametrize(
    "content", [b"hello", b"\x80\x02}q\x00.", *(pytest.param(noise(n), id=f"noise{n}") for n in range(256))]
)
def test_something_else(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises((UnreadableFileError, UnsafeModelError)) as error:
        load_weights(nn.Linear(2, 2), path)
    one_line(error, path)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no such file"):
        read_torch_file(tmp_path / "model.pt")


@pytest.mark.parametrize(
    "content",
    [
        nn.Linear(3, 3).state_dict(),
        nn.Conv3d(1, 1, 1).state_dict(),
        {},
        [torch.zeros(3)],
        {"weight": "words", "bias": 3},
        {1: torch.zeros(2)},
    ],
    ids=["other-size", "other-layer", "empty", "list", "no-tensors", "no-names"],
)
def test_weights_of_another_network(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path)
    with pytest.raises(UnreadableFileError) as error:
        load_weights(nn.Linear(2, 2), path)
    one_line(error, path)


def test_weights_of_the_network(tmp_path: Path) -> None:
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    torch.save(one.state_dict(), tmp_path / "model.pt")
    load_weights(other, tmp_path / "model.pt")
    assert torch.equal(one.weight, other.weight)


class Batches:
    next_batch = 0


def training(path: Path, seconds: float = 0.0) -> tuple[Engine, nn.Module, torch.optim.Optimizer, Checkpoint]:
    """Noise regression with momentum and dropout, of which every step takes random numbers of torch's."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    checkpoint = Checkpoint(path, {"network": network, "optimizer": optimizer}, seconds)

    def step(_engine: Engine, _batch: object) -> None:
        optimizer.zero_grad()
        network(torch.randn(5, 4)).square().mean().backward()
        optimizer.step()

    engine = Engine(step)
    engine.state.max_epochs = 6
    engine.state.epoch_length = 3
    checkpoint.attach(engine)
    return engine, network, optimizer, checkpoint


def test_restored_training_ends_with_the_same_weights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine, whole, _, _ = training(tmp_path / "whole.pt")
    engine.run(range(3))

    class Killed(BaseException):
        pass

    engine, _, _, _ = training(tmp_path / "cut.pt")

    def kill(engine: Engine) -> None:
        if engine.state.iteration == 8:  # in the middle of the third epoch
            raise Killed

    engine.add_event_handler(Events.ITERATION_COMPLETED, kill)
    with pytest.raises(Killed):
        engine.run(range(3))
    engine, resumed, optimizer, checkpoint = training(tmp_path / "cut.pt")
    torch.manual_seed(99)
    batches = Batches()
    with caplog.at_level(logging.INFO):
        assert checkpoint.restore(engine, batches) == 2
    assert "Resuming after epoch 2" in caplog.text
    assert batches.next_batch == engine.state.iteration == 6
    engine.run(range(3))
    assert engine.state.iteration == 18
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
    assert optimizer.state_dict()["state"][0]["step"] == 18


def test_nothing_to_restore(tmp_path: Path) -> None:
    engine, _, _, checkpoint = training(tmp_path / "none.pt")
    assert checkpoint.restore(engine, Batches()) == 0


def test_writes_seldom_but_always_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    monkeypatch.setattr(module, "save_torch_file", lambda _path, state: written.append(state["epoch"]))
    engine, _, _, _ = training(tmp_path / "x.pt", seconds=3600)
    engine.run(range(3))
    assert written == [1, 6]


def test_malicious_checkpoint(tmp_path: Path) -> None:
    torch.save({"parts": Malicious(tmp_path / "proof")}, tmp_path / "checkpoint.pt")
    engine, _, _, checkpoint = training(tmp_path / "checkpoint.pt")
    with pytest.raises(UnsafeModelError):
        checkpoint.restore(engine, Batches())
    assert not (tmp_path / "proof").exists()


def test_seed_everything() -> None:
    def draw() -> tuple[float, float, float]:
        seed_everything(3)
        return float(torch.rand(1)), float(np.random.rand()), random.random()

    first = draw()
    assert draw() == first
    seed_everything(4)
    assert (float(torch.rand(1)), float(np.random.rand()), random.random()) != pytest.approx(first)
    seed_everything(2**40)  # larger than NumPy takes
