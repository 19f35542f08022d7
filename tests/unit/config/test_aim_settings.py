"""The settings of AIM: each arrives, and those that do not fit are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from guidance.assembly import build_classifier, build_objective
from guidance.assembly.objectives import build_guidance
from guidance.attribution import ATTRIBUTIONS
from guidance.config import dump_config, load_config, override_config, parse_config
from guidance.config.modes.aim import section as aim_section
from guidance.data import Source
from guidance.losses import LOCALIZATION_LOSSES
from guidance.models.layers.noise import DropPath
from tests.support.configs import DEMO, SOURCE, VOC

AIM = {"objective": {"mode": "aim", "classification": "cross_entropy"}}


def test_every_aim_setting_arrives() -> None:
    """Each key away from its default, from the config to the net and the objective."""
    config = parse_config({
        "seed": 5, "data": {"name": "demo"}, "model": {"name": "resnet18"}, "trainer": {"epochs": 20},
        "objective": {"mode": "aim", "classification": "cross_entropy", "label_smoothing": 0.1, "reduction": "mean",
                      "class_weights": [1, 2, 3], "weighting": "class",
                      "localization": {"loss": "rrr", "weight": 0.3},
                      "attribution": {"method": "gradcam", "depth": "final"}},
        "aim": {"stop_stage": 3, "estimators": "one", "auxiliary": False, "width": 24, "mask_width": 5, "dropout": 0.1,
                "temperature": 2.0, "noise_until": 0.5, "threshold": 0.4, "anneal_start": 3, "anneal_epochs": 7,
                "area_weight": 2.5, "area_ratio": "batch", "mask_weight": 0.2},
    })  # fmt: skip
    model = build_classifier(config, 3, pretrained=False)
    made = build_objective(config, model, Source("x", "train", tuple("abc"), (), True))
    masking = made.behaviour.settings
    assert (masking.threshold, masking.anneal_start, masking.anneal_epochs, masking.noise_epochs) == (0.4, 3, 7, 10)
    assert (masking.area_weight, masking.area_ratio, masking.mask_weight, masking.seed) == (2.5, "batch", 0.2, 5)
    terms = {term.name: term for term in made.terms}
    assert list(terms) == ["classification", "auxiliary", "active", "area", "mask_localization", "localization"]
    shares = [(terms[name].weight, terms[name].items, terms[name].reduction) for name in list(terms)[3:]]
    assert shares == [(2.5, "batch", "mean"), (0.2, "regions", "mean"), (0.3, "regions", "mean")]
    classification = terms["classification"].losses.settings
    assert (classification.label_smoothing, classification.weighting) == (0.1, "class")
    assert classification.weights.tolist() == [1, 2, 3]
    localization = build_guidance(config)
    assert localization.loss is LOCALIZATION_LOSSES["rrr"].function
    assert (localization.attribution, localization.depth) == (ATTRIBUTIONS["gradcam"], "final")
    net = made.model.net
    assert list(made.model.masked) == ["stage3", "stage4"]
    assert (list(net.masks), list(net.heads)) == (["stage4"], ["final"])
    assert net.heads["final"].dropout.p == 0.1
    assert net.heads["final"].linear.in_features == 24
    estimator = net.masks["stage4"]
    assert (estimator.temperature, estimator.stem.out_channels) == (2.0, 5)
    half = parse_config(DEMO | {"objective": {"mode": "aim", "classification": "cross_entropy"}})
    made = build_objective(half, build_classifier(half, 3, pretrained=False), SOURCE)
    assert made.behaviour.settings.anneal_epochs == 25
    torch.manual_seed(0)
    plain = build_classifier(half, 3, pretrained=False)
    torch.manual_seed(0)
    edges = build_classifier(
        parse_config(half.model_dump() | {"aim": {"initialization": "edges"}}), 3, pretrained=False
    )
    first, second = (m.net.masks["stage4"].stem.weight.detach() for m in (plain, edges))
    assert float((second / first)[..., 1, 1].mean()) < 0.2 < 1 < float((second / first)[..., 0, 0].mean())


def test_skips_and_drop_out_of_bottom_up_arrive() -> None:
    bottom_up = {"masking": "bottom_up", "stop_stage": 3}
    config = parse_config(DEMO | AIM | {"aim": bottom_up | {"skip": True, "classifier_dropout": 0.3}})
    model = build_classifier(config, 3, pretrained=False)
    assert (model.skip, model.net.dropout.p) == (True, 0.3)
    # What runs of before have stored: the drop-out of the top-down pathway, which they never had.
    old = build_classifier(parse_config(DEMO | AIM | {"aim": bottom_up | {"dropout": 0.3}}), 3, pretrained=False)
    assert (old.skip, old.net.dropout) == (False, None)


def test_thresholds_of_stages_arrive_and_are_read_back(tmp_path: Path) -> None:
    """From YAML, from --set and from the plain types of a checkpoint, whose keys are texts; in the order given."""
    text = dump_config(parse_config(DEMO | AIM | {"data": {"name": "demo", "root": "x"}}))
    (tmp_path / "one.yaml").write_text(text)
    changes = [f"aim.threshold.{stage}={share}" for stage, share in ((4, 0.3), (2, 0.4), (3, 1))]
    config = load_config(tmp_path / "one.yaml", changes)
    assert list(aim_section(config).threshold.items()) == [(4, 0.3), (2, 0.4), (3, 1.0)]
    (tmp_path / "stages.yaml").write_text(dump_config(config))
    (tmp_path / "plain.yaml").write_text(text.replace("  threshold: 0.25", "  threshold: {4: 0.3, 2: 0.4, 3: 1}"))
    stored = json.loads(json.dumps(config.model_dump(mode="json")))
    for again in (load_config(tmp_path / "stages.yaml"), load_config(tmp_path / "plain.yaml"), parse_config(stored)):
        assert again == config
        assert list(aim_section(again).threshold) == [4, 2, 3]
    for same in (
        load_config(tmp_path / "plain.yaml", ["aim.threshold.3=0.7"]),
        override_config(config, ["aim.threshold.3=0.7"]),
    ):
        assert aim_section(same).threshold == {4: 0.3, 2: 0.4, 3: 0.7}
    assert aim_section(override_config(config, ["aim.threshold={stage2: 0.4, stage3: 0.7, 4: 0.3}"])).threshold == {
        2: 0.4,
        3: 0.7,
        4: 0.3,
    }
    model = build_classifier(config, 3, pretrained=False)
    made = build_objective(config, model, SOURCE)
    assert made.behaviour.settings.threshold == {"stage4": 0.3, "stage2": 0.4, "stage3": 1.0}
    assert aim_section(override_config(config, ["aim.threshold=0.2"])).threshold == 0.2


def test_thresholds_of_stages_that_do_not_fit() -> None:
    for aim, message in (
        ({"threshold": {2: 0.3}}, r"aim.threshold: it names 2, but .* are 2, 3, 4; give each of these its share, or one"),
        ({"threshold": {1: 0.3, 2: 0.3, 3: 0.3, 4: 0.3}}, r"it names 1, 2, 3, 4, but .* aim.stop_stage: 2 .* are 2, 3, 4;"),
        ({"threshold": {}}, r"it names no stage, but"),
        ({"threshold": {2: 0.3, 3: 0.3, 4: 0.3}, "estimators": "one"}, r"aim.estimators: one .* mask estimator are 4;"),
        ({"threshold": {4: 0.3}, "estimators": "one"}, None),
        ({"threshold": {3: 0.3, 4: 0.4}, "masking": "bottom_up", "stop_stage": 3}, None),
        ({"threshold": {"2": 0.3, "3": 0.3, "4": 0}}, r"aim.threshold.4: .*greater than 0 \(given: 0\)$"),
        ({"threshold": {"two": 0.3}}, r"aim.threshold: .*valid integer \(given: 'two'\)$"),
        ({"threshold": [0.3]}, r"aim.threshold: .*valid number \(given: \[0.3\]\)$"),
        ({"threshold": {2: 0.3, 3: 0.35, 4: 1}, "anneal_epochs": 50},
         r"would reach 0.3 \(stage 2\), 0.35 \(stage 3\), 1 \(stage 4\) in epoch 51 of 50"),
    ):  # fmt: skip
        if message is None:
            parse_config(DEMO | AIM | {"aim": aim})
            continue
        with pytest.raises(ValueError, match=message):
            parse_config(DEMO | AIM | {"aim": aim})


def test_bottom_up_drops_paths_by_sample() -> None:
    config = parse_config(DEMO | {
        "model": {"name": "convnext_tiny", "drop_path": 0.3},
        "objective": {"mode": "aim", "classification": "cross_entropy"}, "aim": {"masking": "bottom_up"},
    })  # fmt: skip
    rates = [m.p for m in build_classifier(config, 3, pretrained=False).modules() if isinstance(m, DropPath)]
    assert len(rates) == 18
    assert max(rates) == pytest.approx(0.3)


def test_aim_settings_that_do_not_fit() -> None:
    for change, message in (
        ({"aim": {"stop_stage": 2}, "objective": {}}, None),
        ({"aim": {"stop_stage": 3}, "objective": {}}, "aim: these settings need objective.mode: aim"),
        ({"aim": {"stop_stage": 0}}, r"aim.stop_stage: resnet50 has no stage 0 that can be masked; it has 1, 2, 3, 4"),
        ({"aim": {"stop_stage": 4}, "model": {"name": "convnext_tiny"}}, r"no stage 4 .* it has 0, 1, 2, 3"),
        ({"aim": {"threshold": 0}}, r"aim.threshold: .*greater than 0"),
        ({"aim": {"threshold": 1.5}}, r"aim.threshold: .*less than or equal to 1"),
        ({"aim": {"masking": "sideways"}}, r"aim.masking: .*'top_down' or 'bottom_up'"),
        ({"aim": {"stop_stag": 1}}, r"Did you mean 'stop_stage'"),
        ({"model": {"name": "bcos_resnet50"}}, r"aim cannot mask .* of bcos_resnet50; it can those of resnet8, resnet18"),
        ({"objective": {"mode": "aim"}}, r"objective.classification: AIM is trained with cross_entropy"),
        ({"aim": {"anneal_epochs": 50}}, r"the threshold would reach 0.25 in epoch 51 of 50; shorten them"),
        ({"aim": {"anneal_start": 60}}, r"would reach 0.25 in epoch 61 of 50"),
        ({"aim": {"anneal_epochs": 5}, "trainer": {"epochs": 1}}, None),  # a single epoch is a trial
        ({"aim": {"masking": "bottom_up", "estimators": "one"}}, r"aim.estimators: it belongs to aim.masking: top_down"),
        ({"aim": {"masking": "bottom_up", "dropout": 0.1}}, r"aim.dropout: it belongs to aim.masking: top_down"),
        ({"aim": {"skip": True}}, r"aim.skip: it belongs to aim.masking: bottom_up"),
        ({"aim": {"classifier_dropout": 0.3}}, r"aim.classifier_dropout: it belongs to aim.masking: bottom_up"),
        ({"aim": {"masking": "bottom_up", "classifier_dropout": 1}}, r"aim.classifier_dropout: .*less than 1"),
        ({"aim": {"area_ratio": "batch"}, "trainer": {"accumulate": 2}}, r"area_ratio: batch needs trainer.accumulate: 1"),
        (
            {"objective": {"mode": "aim", "classification": "cross_entropy", "attribution": {"depth": "mid3"}}},
            r"objective.attribution.depth: resnet50\+AIM\[2\] has no depth 'mid3'; it has input, mid1, mid2, final",
        ),
        ({"objective": {"label_smoothing": 0.1}}, r"label_smoothing: it belongs to .*cross_entropy"),
        (VOC | {"aim": {"mask_weight": 1}, "objective": {"mode": "aim"}}, r"classes_per_image: all"),
        ({"data": {"name": "demo", "annotated_fraction": 0}, "aim": {"mask_weight": 1}}, r"guidance needs annotated images"),
        ({"trainer": {"early_stop": {"metric": "sparsity"}}}, "more sparsity is not better, so there is no minimum"),
    ):  # fmt: skip
        if message is None:
            parse_config(DEMO | AIM | change)
            continue
        with pytest.raises(ValueError, match=message):
            parse_config(DEMO | AIM | change)
