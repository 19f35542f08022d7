"""Compiled runs, from the config on: what cannot be compiled, resume, several processes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from guidance.assembly import build_trainer, compiling
from guidance.attribution import CompiledNet, compiled
from guidance.attribution.compiled import TRACEABLE
from guidance.data import generate_demo
from guidance.inference import evaluate_in_detail
from guidance.models import BACKBONES, Backbone
from tests.support.processes import run_processes
from tests.support.runs import CPU, Make, assert_same, resume, rows, snapshot
from tests.support.scenarios import small_net, train_epoch

pytestmark = pytest.mark.skipif(not TRACEABLE, reason="torch 2.6 cannot trace how a net is explained")
PREPARED = partial(CompiledNet, backend="aot_eager")


@pytest.fixture(autouse=True)
def prepared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Without C++ to be compiled, and with a net whose layers all have pullbacks."""
    monkeypatch.setattr(compiling, "CompiledNet", PREPARED)
    monkeypatch.setitem(BACKBONES, "small", Backbone(small_net, "fc", {}, depths=("input", "mid1", "final"), stride=4))
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def small(settings: Make, **sections: dict[str, Any]) -> Any:
    model = {"name": "small", "batchnorm": "frozen"} | sections.pop("model", {})
    return settings(model=model, **{"trainer": {"epochs": 2, "compile": True}} | sections)


@pytest.mark.parametrize(("sections", "message"), [
    ({"model": {"batchnorm": "sync"}}, "statistics that are synchronised between processes"),
    ({"model": {"batchnorm": "local"}}, "no pullback to depth 'input', and a double backward cannot be compiled"),
    ({"objective": {"localization": {"weight": 0.1}, "attribution": {"method": "gradcam", "depth": "mid1"}}},
     "GradCAM takes more than one gradient"),
    ({"objective": {"localization": {"weight": 0.1}, "attribution": {"lens": {"classes": "top2"}}}},
     "the lens compares classes that are only known after the forward pass"),
])  # fmt: skip
def test_what_cannot_be_compiled(settings: Make, tmp_path: Path, sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_trainer(small(settings, **sections), tmp_path / "run", CPU)
    assert not (tmp_path / "run/config.yaml").exists()


def test_a_torch_that_cannot_trace_it(settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "TRACEABLE", False)
    with pytest.raises(ValueError, match=r"torch .* cannot trace how a net is explained; install a newer one"):
        build_trainer(small(settings), tmp_path / "run", CPU)


def test_nothing_explained_needs_no_pullback(settings: Make, tmp_path: Path) -> None:
    trainer = build_trainer(
        small(settings, model={"batchnorm": "local"}, objective={"localization": {"weight": 0.0}}), tmp_path, CPU
    )
    assert trainer.fit()
    assert trainer.objective.compiled is not None
    assert trainer.objective.compiled.graphs == 1


@pytest.mark.long
def test_resume(
    settings: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """A compiled run that was stopped equals one that was not, and the time that compiling takes is told."""
    caplog.set_level(logging.INFO)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert build_trainer(small(settings), whole, CPU).fit()
    assert "compiled the net for batches of 6 images" in caplog.text
    assert "what guidance takes is a part of the compiled net" in capsys.readouterr().out
    sections: dict[str, Any] = {"model": {"name": "small", "batchnorm": "frozen"}, "schedule": {"name": "cosine"}}
    first = build_trainer(small(settings), parts, CPU)
    first.epochs = 1
    assert first.fit()
    resume(settings, parts, trainer={"epochs": 2, "compile": True}, **sections)
    assert_same(rows(parts), rows(whole))
    assert_same(snapshot(parts)["last"]["model"], snapshot(whole)["last"]["model"])


def compiled_epoch(root: Path, scenario: str) -> dict[str, Any]:
    """As `train_epoch`, compiled."""
    from tests.support import scenarios

    plain = scenarios.guided

    def guided(*args: Any) -> Any:
        objective, *rest = plain(*args)
        objective.compiled = PREPARED(objective.model)
        return objective, *rest

    scenarios.guided = guided
    try:
        return train_epoch(root, scenario)
    finally:
        scenarios.guided = plain


def test_processes(tmp_path: Path) -> None:
    """Two processes, each with graphs of its own under DistributedDataParallel, equal one that compiles nothing."""
    generate_demo(tmp_path / "demo", num_train=40, num_val=9, num_test=10, image_size=32)
    scenario = "frozen sum, two chunks"
    alone = train_epoch(tmp_path / "demo", scenario)
    for process in run_processes(2, tmp_path / "two", compiled_epoch, tmp_path / "demo", scenario):
        for expected, found in zip(alone["losses"], process["losses"], strict=True):
            assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
        torch.testing.assert_close(process["weights"], alone["weights"], rtol=1e-8, atol=1e-11)


def test_a_checkpoint_is_evaluated_by_a_compiled_net_where_that_is_asked_for(
    settings: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(model={"name": "resnet8"}, trainer={"epochs": 1})
    assert build_trainer(config, tmp_path / "run", CPU).fit()
    made: list[CompiledNet] = []
    monkeypatch.setattr(compiling, "CompiledNet", lambda model: made.append(PREPARED(model)) or made[-1])
    plain, found = (evaluate_in_detail(tmp_path / "run", "test", compiled=asked) for asked in (False, True))
    assert [net.graphs > 0 for net in made] == [True]
    assert found.metrics == pytest.approx(plain.metrics, rel=1e-5, nan_ok=True)
    assert found.settings == plain.settings
    with pytest.raises(ValueError, match=r"trainer\.compile: GradCAM takes more than one gradient"):
        evaluate_in_detail(
            tmp_path / "run", "test", compiled=True,
            overrides=["evaluation.attribution.method=gradcam", "evaluation.attribution.depth=final"],
        )  # fmt: skip
