"""Rows of one's own reach the commands: `--import` names the module that adds them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from guidance.config import Config, dump_config
from guidance.evaluation.metrics import METRICS
from guidance.losses import LOCALIZATION_LOSSES
from launch import evaluate, train
from tools import select_pareto

MODULE = """
from guidance.evaluation.metrics import METRICS, Metric
from guidance.evaluation.statistics import mean
from guidance.losses import LOCALIZATION_LOSSES, Loss, energy

def mild(attribution, mask, *, factor=1.0):
    return factor * energy(attribution, mask)

def doubt(rows):
    return 1 / mean(rows.logits.softmax(1).amax(1).tolist())

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
    sys.modules.pop("own_rows", None)
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
    assert evaluate.main(["--import", "own_rows", "--checkpoint", "run", "--split", "val"]) == 0
    assert "doubt" in capsys.readouterr().out
    assert select_pareto.main(["--import", "own_rows", "run"]) == 0
    printed = capsys.readouterr()
    assert "hypervolume over f1 from 0: " in printed.out
    assert "(without doubt, which has no bounds)" in printed.out
    assert not printed.err
    METRICS.pop("doubt")  # as in a command that does not import the module
    assert select_pareto.main(["run"]) == 0
    assert "doubt: no table knows which way it is better, so higher counts as better" in capsys.readouterr().err


def test_a_module_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train.main(["--import", "no_such_rows", "--config", "x.yaml"])
    assert "--import no_such_rows: No module named 'no_such_rows'" in capsys.readouterr().err
