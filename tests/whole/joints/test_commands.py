"""Rows of one's own reach the commands: `--import` names the module that adds them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from guidance.config import Config, dump_config, load_config
from guidance.evaluation.metrics import METRICS
from guidance.losses import LOCALIZATION_LOSSES
from guidance.models import BACKBONES
from launch import evaluate, train
from tools import select_pareto

MODULE = """
import torch
from guidance.evaluation.metrics import METRICS, Metric
from guidance.evaluation.statistics import mean
from guidance.losses import LOCALIZATION_LOSSES, Loss, energy
from guidance.models import BACKBONES, Backbone, Classifier

def mild(attribution, mask, *, factor=1.0):
    return factor * energy(attribution, mask)

def doubt(rows):
    return 1 / mean(rows.logits.softmax(1).amax(1).tolist())


def build_own(num_classes):
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 4), torch.nn.Flatten(), torch.nn.Linear(256, num_classes))
    return Classifier(net, {"final": ["0"], "logits": ["1", "2"]})

BACKBONES["own"] = Backbone(build_own, "2", {}, depths=("input", "final"), stride=4)
LOCALIZATION_LOSSES["mild"] = Loss(mild, looks="outside", options={"factor": 1.0})
METRICS["doubt"] = Metric(doubt, "doubt", higher_is_better=False, range=(1.0, float("inf")))
"""


@pytest.fixture
def own_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module `own_rows` in the current folder."""
    (tmp_path / "own_rows.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    forget()


def forget() -> None:
    """As in a process that has not imported the module."""
    sys.modules.pop("own_rows", None)
    BACKBONES.pop("own", None)
    LOCALIZATION_LOSSES.pop("mild", None)
    METRICS.pop("doubt", None)


def test_a_module_is_imported_by_every_command(
    settings: Callable[..., Config], own_rows: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = dump_config(settings(trainer={"epochs": 2}, objective={"classification": "cross_entropy"}))
    (tmp_path / "config.yaml").write_text(config)
    own = ["objective.localization.loss=mild", "objective.localization.options.factor=0.5", "pareto.metrics=[f1,doubt]"]
    arguments = ["--config", "config.yaml", "--output", "run", "--set", "objective.localization.weight=0.1", *own]
    assert train.main(arguments) == 2
    assert "unknown objective.localization.loss 'mild'" in capsys.readouterr().err
    assert train.main(["--import", "own_rows", *arguments]) == 0
    forget()
    assert evaluate.main(["--checkpoint", "run", "--split", "val"]) == 0  # the run knows what was imported
    assert "doubt" in capsys.readouterr().out
    forget()
    assert select_pareto.main(["run"]) == 0
    printed = capsys.readouterr()
    assert "hypervolume over f1 from 0: " in printed.out
    assert "(without doubt, which has no bounds)" in printed.out
    assert not printed.err
    METRICS.pop("doubt")  # as where nothing is recorded
    assert select_pareto.main(["run"]) == 0
    assert "doubt: no table knows which way it is better, so higher counts as better" in capsys.readouterr().err


def test_a_net_of_ones_own_is_found_again_from_the_run(
    settings: Callable[..., Config], own_rows: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The resolved config names the module, and whatever reads it, imports it; nothing else is stored of it."""
    (tmp_path / "config.yaml").write_text(dump_config(settings(trainer={"epochs": 1})))
    own = ["--set", "model.name=own", "objective.attribution.depth=final"]
    assert train.main(["--import", "own_rows", "--config", "config.yaml", "--output", "run", *own]) == 0
    assert load_config(tmp_path / "run/config.yaml").imports == ["own_rows"]
    forget()
    assert evaluate.main(["--checkpoint", "run", "--split", "val"]) == 0
    assert train.main(["--resume", "--output", "run"]) == 0
    forget()
    (tmp_path / "own_rows.py").unlink()
    capsys.readouterr()
    assert evaluate.main(["--checkpoint", "run", "--split", "val"]) == 2
    message = "run needs the module own_rows, which adds rows of its own to the tables: No module named 'own_rows'"
    assert message in capsys.readouterr().err


def test_a_module_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train.main(["--import", "no_such_rows", "--config", "x.yaml"])
    assert "--import no_such_rows: No module named 'no_such_rows'" in capsys.readouterr().err
