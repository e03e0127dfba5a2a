"""One process among several: torchrun itself is in test_train.py of the workflows."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from atlaseg.pipeline.errors import OptionError
from atlaseg.pipeline.training.distributed import Group, first_rank_value, join, share


def test_only_under_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(OptionError, match="torchrun"):
        join()


def test_a_process_on_its_own_keeps_its_value() -> None:
    assert first_rank_value(3.25) == 3.25


def test_a_group_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    group = join()
    try:
        assert group == Group(0, 1, torch.device("cpu"))
        assert first_rank_value(1e-3 / 3) == 1e-3 / 3  # float64 all the way
        network = nn.Linear(2, 1)
        group.wrap(network)(torch.ones(1, 2)).sum().backward()
        assert network.weight.grad is not None
    finally:
        group.leave()
    assert not dist.is_initialized()
    group.leave()  # twice does no harm


@pytest.mark.parametrize(("count", "world_size"), [(7, 2), (4, 4), (9, 3), (1, 1)])
def test_shares_are_a_partition(count: int, world_size: int) -> None:
    shares = [share(list(range(count)), rank, world_size) for rank in range(world_size)]
    assert sorted(chain(*shares)) == list(range(count))


def test_too_few_to_share() -> None:
    assert [share(["a", "b"], rank, 3) for rank in range(3)] == [["a", "b"]] * 3
