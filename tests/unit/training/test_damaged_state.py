"""A checkpoint that is damaged, or of another run, is named by what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.runs import Make, resume


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Rewrite a checkpoint without the checks of `save`."""
    state = torch.load(path, weights_only=True)
    edit(state)
    torch.save(state, path)


def pop(*keys: Any) -> Callable[[dict[str, Any]], object]:
    def edit(state: dict[str, Any]) -> None:
        for key in keys[:-1]:
            state = state[key]
        del state[keys[-1]]

    return edit


def put(value: Any, *keys: Any) -> Callable[[dict[str, Any]], object]:
    def edit(state: dict[str, Any]) -> None:
        for key in keys[:-1]:
            state = state[key]
        state[keys[-1]] = value

    return edit


COMPLETE, STATE, FIT = (
    "is not a complete checkpoint",
    "cannot be resumed: of its training state, ",
    "do not fit the net",
)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (pop("classes"), f"{COMPLETE}: the key 'classes' is missing"),
        (put(["a", 1], "classes"), f"{COMPLETE}: the key 'classes' holds something else than names"),
        (put({"f1": "good"}, "metrics"), f"{COMPLETE}: the key 'metrics' holds something else than numbers"),
        (put({}, "model"), f"{COMPLETE}: the key 'model' holds something else than tensors"),
        (put(1.5, "model", "net.fc.bias"), f"{COMPLETE}: the key 'model' holds something else than tensors"),
        (put(0.5, "front"), f"{COMPLETE}: the key 'front' holds something else than names"),
        (put(-1, "step"), f"{COMPLETE}: its epoch or step is below 0"),
        (pop("model", "net.fc.bias"), rf"{FIT}.* Keys missing: net\.fc\.bias"),
        (put(torch.zeros(1), "model", "net.new"), rf"{FIT}.* Keys unexpected: net\.new"),
        (
            put(torch.zeros(4), "model", "net.fc.bias"),
            rf"{FIT}.*of another shape: net\.fc\.bias \(4,\) instead of \(3,\)",
        ),
        (put(torch.zeros(3).long(), "model", "net.fc.bias"), rf"{FIT}.*of another type: net\.fc\.bias torch\.int64"),
        (
            put(torch.tensor([0, torch.nan, 0]), "model", "net.fc.bias"),
            rf"{FIT}.*with values that are not finite: net\.fc\.bias",
        ),
        (put({"data": {}}, "config"), "is not a valid config"),
        (pop("trainer", "rng"), f"{STATE}rng is missing"),
        (pop("trainer", "optimizer"), f"{STATE}optimizer is missing, damaged, or does not fit this run"),
        (pop("trainer", "optimizer", "state", 0, "exp_avg"), f"{STATE}optimizer"),
        (put(torch.zeros(7), "trainer", "optimizer", "state", 0, "exp_avg"), f"{STATE}optimizer"),
        (put([0.0], "trainer", "optimizer", "state", 0, "exp_avg"), f"{STATE}optimizer"),
        (put(torch.tensor(0.0), "trainer", "optimizer", "state", 0, "exp_avg"), f"{STATE}optimizer"),
        (pop("trainer", "optimizer", "param_groups", 0, "betas"), f"{STATE}optimizer"),
        (put("x", "trainer", "optimizer", "param_groups", 0, "lr"), f"{STATE}optimizer"),
        (pop("trainer", "schedule", "lr_lambdas"), f"{STATE}schedule"),
        (put(None, "trainer", "schedule", "last_epoch"), f"{STATE}schedule"),
        (put("x", "trainer", "position"), f"{STATE}epoch, position and step"),
        (put(99, "trainer", "position"), f"{STATE}epoch, position and step"),
        (put({"f1": "x"}, "trainer", "best"), f"{STATE}best and metrics"),
        (put([{"sums": {"x": 1}, "counts": {"x": 1}}], "trainer", "window"), f"{STATE}window"),
        (put(torch.zeros(3), "trainer", "rng", 0, "torch"), f"{STATE}rng"),
        (put([], "trainer", "tally"), f"{STATE}tally"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_checkpoint_that_does_not_fit_is_named(
    settings: Make, stopped: Path, edit: Callable[[dict[str, Any]], object], message: str
) -> None:
    """By what is wrong with it, in words of ours: no traceback, and no sentence of torch."""
    change(stopped / "checkpoints/last.pt", edit)
    with pytest.raises(ValueError, match=rf"last\.pt.*{message}") as raised:
        resume(settings, stopped)
    assert "state_dict" not in str(raised.value)
    assert len(str(raised.value)) < 500
