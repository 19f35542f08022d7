"""A mode with one new term is added by a row, without touching the package."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from guidance.assembly import build_trainer
from guidance.config import Config, dump_config, load_config
from guidance.config.fields import NotNegative, Section
from guidance.config.modes import MODES, Mode
from guidance.models import Classifier
from guidance.objectives import (
    Classification,
    ClassificationTerm,
    Counts,
    Localization,
    Losses,
    Objective,
    Term,
    localization_terms,
)
from guidance.types import Batch, Forward
from tests.whole.joints.conftest import Go

CPU = torch.device("cpu")


class CalmSettings(Section):
    weight: NotNegative = 0.5  # of the confidence of decisions


def confidence(out: Forward, batch: Batch, counts: Counts) -> Losses:
    """ln K less the entropy of the predicted classes [B], in [0, ln K]."""
    log = out.logits.log_softmax(1)
    losses = math.log(log.shape[1]) + (log.exp() * log).sum(1)
    return Losses(losses, {"surest": log.exp().detach().amax()})


def calm_objective(
    config: Config, model: Classifier, classification: Classification, localization: Localization
) -> Objective:
    weight = config.calm.weight  # type: ignore[attr-defined]  # the section of this mode
    classify = ClassificationTerm(classification).term()
    return Objective(
        model, [classify, Term("confidence", confidence, weight), *localization_terms(model, localization)]
    )


def check_calm(config: Config, backbone: object) -> None:
    if config.objective.classification != "cross_entropy":
        raise ValueError("objective.classification: calm decisions are those of cross_entropy")


CALM = Mode(calm_objective, section=CalmSettings, check=check_calm)


@pytest.fixture(autouse=True)
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODES, "calm", CALM)


def test_it_is_trained_logged_resumed_and_evaluated(go: Go) -> None:
    found, lines = go(
        objective={"mode": "calm", "classification": "cross_entropy", "localization": {"weight": 0.1}},
        calm={"weight": 0.25},
    )
    assert found.settings["config"]["calm.weight"] == 0.25
    epochs = [line for line in lines if "epoch" in line]
    assert len(epochs) == 2
    for line in epochs:
        assert 0 <= line["train/confidence"] <= math.log(3)
        assert {"train/classification", "train/localization", "train/surest"} <= line.keys()


def test_its_term_has_its_weight(settings: Callable[..., Config], tmp_path: Path) -> None:
    """The loss is the sum of the terms, each with its weight."""
    objective = {
        "mode": "calm",
        "classification": "cross_entropy",
        "reduction": "mean",
        "localization": {"weight": 0.5},
    }
    config = settings(objective=objective, calm={"weight": 0.25}, data={"annotated_fraction": 1.0})
    trainer = build_trainer(config, tmp_path / "run", CPU)
    batch = next(iter(trainer.loader)).to("cpu")
    step = trainer.objective(batch, trainer.objective.counts(batch))
    terms = {name: float(value) for name, value in step.terms.items()}
    expected = terms["classification"] + 0.25 * terms["confidence"] + 0.5 * terms["localization"]
    assert float(step.loss.detach()) == pytest.approx(expected, rel=1e-6)
    assert torch.equal(step.samples["confidence"][0], batch.index)


def test_its_section_is_one_of_the_config(settings: Callable[..., Config], tmp_path: Path) -> None:
    own = {"mode": "calm", "classification": "cross_entropy"}
    config = settings(objective=own, calm={"weight": 0.125})
    (tmp_path / "config.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "config.yaml", ["calm.weight=0.75"]).model_dump()["calm"] == {"weight": 0.75}
    assert "calm" not in settings().model_dump()
    with pytest.raises(ValueError, match=r"calm\.weigth: unknown key; known here: weight\. Did you mean 'weight'\?"):
        settings(objective=own, calm={"weigth": 1})
    with pytest.raises(ValueError, match="calm decisions are those of cross_entropy"):
        settings(objective={"mode": "calm", "classification": "bce"})
    with pytest.raises(ValueError, match=r"calm: these settings need objective\.mode: calm"):
        settings(calm={"weight": 0.125})


def test_without_the_row_its_name_is_unknown(settings: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(MODES, "calm")
    with pytest.raises(ValueError, match=r"unknown training mode \(objective.mode\) 'calm'; known: aim, guided"):
        settings(objective={"mode": "calm", "classification": "cross_entropy"})
    with pytest.raises(ValueError, match="calm: unknown key"):
        settings(calm={"weight": 0.125})
