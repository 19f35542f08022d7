"""The lens from a config: trained through, stopped, resumed and evaluated; and what configs refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from guidance.assembly.nets import build_method
from guidance.attribution import ATTRIBUTIONS
from guidance.config import Config, dump_config, parse_config
from guidance.inference import evaluate_in_detail, load_run
from guidance.results.groups.traits import traits_of
from guidance.runs.settings import agree, flatten
from tests.support.configs import DEMO, VOC
from tests.whole.joints.conftest import CPU, Go, build_trainer

GUIDED = {"classification": "cross_entropy", "localization": {"weight": 0.5}}


def test_a_run_that_is_guided_through_the_lens(go: Go, tmp_path: Path) -> None:
    attribution = {"method": "gradcam", "depth": "mid1", "lens": {"classes": "top2_lowest", "normalize": True}}
    found, lines = go(objective=GUIDED | {"attribution": attribution}, log={"probe_images": 1})
    assert found.description.startswith("gradcam + lens (top2_lowest, normalize True) at mid1, ")
    assert found.settings["attribution"] == "gradcam + lens (top2_lowest, normalize True)"
    assert "localization" in found.metrics  # the maps that evaluation looks at are those that are guided
    assert all(0 < line["train/localization"] < 1 for line in lines if "epoch" in line)
    plain = evaluate_in_detail(tmp_path / "run", "test", overrides=["evaluation.attribution.lens=none"])
    assert plain.description.startswith("gradcam at mid1, ")
    assert plain.metrics["epg"] != found.metrics["epg"]
    assert plain.metrics["accuracy"] == found.metrics["accuracy"]
    other = load_run(tmp_path / "run", overrides=["evaluation.attribution.lens.classes=[1]"])
    assert other.config.evaluated_attribution.title == "gradcam + lens (classes 1, normalize True)"
    image = found.source.records[0].path
    maps = {k: run.explain(image, "cross", against=k.split()) for run in [load_run(tmp_path / "run")]
            for k in ("", "ring", "ring triangle")}  # fmt: skip
    alone = load_run(tmp_path / "run", overrides=["evaluation.attribution.lens=none"])
    signed = alone.explain(image, "cross")
    assert all((m.abs() <= signed.abs() + 1e-6).all() for m in maps.values())
    assert not torch.equal(maps["ring"], maps["ring triangle"]) or not maps["ring"].any()
    with pytest.raises(ValueError, match="no lens lets them compete; load the run with overrides="):
        alone.explain(image, "cross", against=["ring"])


@pytest.mark.parametrize("depth", ["input", "final"])
def test_aim_is_evaluated_and_guided_through_the_lens(
    settings: Callable[..., Config], tmp_path: Path, depth: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from guidance.models import BACKBONES, Backbone
    from tests.support.runs import build_tiny

    stages = Backbone(build_tiny, "fc", {}, depths=("input", "mid1", "final"), stride=4, channels=(8, 8), first_stage=1)
    monkeypatch.setitem(BACKBONES, "tiny", stages)
    lens = {"method": "gradcam", "depth": depth, "lens": {"classes": "best_worst"}}
    config = settings(objective=GUIDED | {"mode": "aim", "attribution": lens}, aim={"stop_stage": 1, "threshold": None},
                      trainer={"epochs": 1})  # fmt: skip
    trainer = build_trainer(config, tmp_path / "run", CPU)
    assert trainer.fit()
    trainer.log.close()
    found = evaluate_in_detail(tmp_path / "run", "test")
    assert found.description.startswith(f"gradcam + lens (best_worst) at {depth}, ")
    assert 0 <= found.metrics["epg"] <= 1
    assert 0 < found.metrics["sparsity"] <= 1


def test_configs_without_a_lens_are_stored_as_before() -> None:
    config = parse_config(DEMO)
    assert config.objective.attribution.lens is None
    assert "lens" not in dump_config(config)
    assert build_method(config.evaluated_attribution) is ATTRIBUTIONS["ixg"]


def test_what_evaluation_takes_over() -> None:
    lens = {"classes": [0, 2], "inverse_temperatures": [2], "threshold": 0.1}
    for guided, own, expected in (
        (None, None, "ixg"),
        (lens, None, "ixg + lens (classes 0, 2, inverse_temperatures [2.0], threshold 0.1)"),
        (lens, {}, "ixg + lens (classes 0, 2, inverse_temperatures [2.0], threshold 0.1)"),
        (lens, "none", "ixg"),
        (lens, {"classes": "none"}, "ixg"),
        (None, "none", "ixg"),
        ("none", {"classes": "top3"}, "ixg + lens (top3)"),
        (lens, {"classes": "top3", "threshold": 0.0}, "ixg + lens (top3, inverse_temperatures [2.0])"),
        (None, {"magnitude": True}, "ixg + lens (top2, magnitude True)"),
    ):
        sections = {"objective": {"attribution": {"lens": guided}}, "evaluation": {"attribution": {"lens": own}}}
        config = parse_config(DEMO | sections)
        assert config.evaluated_attribution.title == expected
        again = parse_config(config.model_dump(mode="json"))
        assert again == config
        assert again.evaluated_attribution == config.evaluated_attribution


def test_evaluations_with_and_without_the_lens_are_told_apart() -> None:
    plain = parse_config(DEMO)
    lens = parse_config(DEMO | {"evaluation": {"attribution": {"lens": {"classes": "top2"}}}})
    flat = [flatten(config.model_dump(mode="json")) for config in (plain, lens)]
    assert agree(flat[0], flat[0])
    assert not agree(flat[0], flat[1])
    assert not agree(flat[1], flat[0])
    assert agree(flat[1], {k: v for k, v in flat[1].items() if k != "data.name"})  # of an older release

    class Evaluated:
        def __init__(self, config: dict[str, Any]) -> None:
            self.config = config

    found = [traits_of([Evaluated(config)]).evaluated for config in flat]  # type: ignore[list-item]
    assert found == [("ixg", "input"), ("ixg + lens (top2)", "input")]


@pytest.mark.parametrize(
    ("lens", "message"),
    [
        ({"classes": "tpo2"}, r"lens\.classes: unknown class set 'tpo2'; known: .* Did you mean 'top<k>'\?"),
        ({"classes": "top1"}, r"lens\.classes: in the class set 'top1' nothing competes"),
        ({"classes": []}, r"lens\.classes: List should have at least 1 item"),
        ({"classes": [-1]}, r"lens\.classes\.0: Input should be greater than or equal to 0"),
        ({"clases": "top2"}, r"lens\.clases: unknown key; .*Did you mean 'classes'\?"),
        ({"inverse_temperatures": [1, 0]}, r"lens\.inverse_temperatures\.1: Input should be greater than 0"),
        ({"threshold": 1}, r"lens\.threshold: Input should be less than 1"),
        (
            {"classes": "ground_truth"},
            r"lens\.classes: images of demo have one class, so that under ground_truth nothing",
        ),
    ],
)
@pytest.mark.parametrize("section", ["objective", "evaluation"])
def test_mistakes_are_named(section: str, lens: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"{section}\.attribution\.{message}"):
        parse_config(DEMO | {section: {"attribution": {"lens": lens}}})
    parse_config(VOC | {section: {"attribution": {"lens": {"classes": "ground_truth"}}}})


def test_what_cannot_be_trained_through_cannot_be_so_through_the_lens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ATTRIBUTIONS, "fixed", replace(ATTRIBUTIONS["ixg"], trainable=False))
    attribution = {"method": "fixed", "lens": {"classes": "top2"}}
    with pytest.raises(ValueError, match="maps of fixed cannot be trained through"):
        parse_config(DEMO | {"objective": GUIDED | {"attribution": attribution}})
    parse_config(DEMO | {"objective": GUIDED, "evaluation": {"attribution": attribution}})  # to look at only
