"""Allocator, workers, and the choice between beginning, going on and doing nothing."""

from __future__ import annotations

import dataclasses
import logging
import platform
from types import SimpleNamespace

import pytest
import torch

from atlaseg.pipeline.planning.plan import Augmentation
from atlaseg.pipeline.training import resources
from atlaseg.pipeline.training.resources import (
    attached,
    augmentation,
    patch_workers,
    resume_or_start,
    tune_allocator,
)


def test_allocator() -> None:
    assert tune_allocator() == (platform.libc_ver()[0] == "glibc")


def test_no_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not tune_allocator()


def test_augmentation_from_plain_data() -> None:
    given = Augmentation(flip_axes=(0, 2), elastic_mm=3.0)
    plain = dataclasses.asdict(given) | {"flip_axes": [0, 2]}
    assert augmentation(plain) == given


def test_attached() -> None:
    handler = object()
    assert attached(handler) is handler


@pytest.mark.parametrize(
    ("cores", "device", "workers"),
    [(1, "cpu", 0), (2, "cpu", 1), (64, "cpu", 2), (1, "cuda", 0), (64, "cuda", 4)],
)
def test_workers(monkeypatch: pytest.MonkeyPatch, cores: int, device: str, workers: int) -> None:
    monkeypatch.setattr(resources.os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert patch_workers(torch.device(device)) == patch_workers(device) == workers


@pytest.mark.parametrize("finished", [False, True])
def test_a_finished_run_is_left_alone(finished: bool, caplog: pytest.LogCaptureFixture) -> None:
    ran = []
    trainer = SimpleNamespace(run=lambda: ran.append(1))
    checkpoint = SimpleNamespace(restore=lambda *_: 7)
    with caplog.at_level(logging.INFO):
        resume_or_start(trainer, checkpoint, SimpleNamespace(finished=finished), None)  # type: ignore[arg-type]
    assert bool(ran) != finished
    assert ("already finished after epoch 7" in caplog.text) == finished
