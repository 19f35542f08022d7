"""Numbers of the host travel on the GPU in a group that has NCCL alone, as other loops may make it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from guidance import distributed


@pytest.mark.parametrize(("backends", "device"), [("cuda:nccl", "cuda"), ("cpu:gloo,cuda:nccl", "cpu")])
def test_counts_travel_where_the_group_can(monkeypatch: pytest.MonkeyPatch, backends: str, device: str) -> None:
    asked: list[str] = []
    make = torch.tensor

    def tensor(values: Any, *, dtype: torch.dtype, device: str) -> Tensor:
        asked.append(device)
        return make(values, dtype=dtype)

    def all_reduce(values: Tensor, op: Any) -> None:
        values.mul_(2)

    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed.dist, "get_backend_config", lambda: backends)
    monkeypatch.setattr(distributed.dist, "all_reduce", all_reduce)
    monkeypatch.setattr(torch, "tensor", tensor)
    assert distributed.sum_numbers([1, 2]) == [2.0, 4.0]
    assert asked == [device]
