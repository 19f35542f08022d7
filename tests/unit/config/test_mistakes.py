"""Mistakes are found early and named."""

from __future__ import annotations

import pytest

from guidance.assembly import build_classifier, build_objective
from guidance.assembly.objectives import build_guidance
from guidance.config import check_processes, parse_config
from guidance.config.fields import Fraction, Section
from tests.support.configs import DEMO, SOURCE, VOC


def test_defaults_are_checked_like_settings() -> None:
    class Wrong(Section):
        share: Fraction = 1.5

    with pytest.raises(ValueError, match=r"share\n.*less than or equal to 1"):
        Wrong()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimiser": {}}, r"optimiser: unknown key; known here: .*optimizer.* Did you mean 'optimizer'\?"),
        ({"optimizer": {"lrr": 1}}, r"optimizer.lrr: unknown key.* Did you mean 'lr'"),
        ({"data": {"name": "demo", "image_sise": 3}}, r"data.image_sise: unknown key.* Did you mean 'image_size'"),
        ({"optimizer": {"lr": "fast"}}, r"optimizer.lr: Input should be a valid number.*'fast'"),
        ({"optimizer": {"lr": -1}}, r"optimizer.lr: Input should be greater than 0 \(given: -1\)"),
        ({"optimizer": {"lr": float("nan")}}, r"optimizer.lr"),
        ({"optimizer": {"name": "lion"}}, r"optimizer.name: .*'adam', 'adamw' or 'sgd' \(given: 'lion'\)"),
        ({"data": {"name": "imagenet"}}, r"data: .*'imagenet'.*'voc'"),
        ({"model": {"name": "resnet51"}}, r"unknown model.name 'resnet51'.*Did you mean 'resnet50'"),
        ({"objective": {"localization": {"loss": "enrgy"}}}, r"unknown objective.localization.loss 'enrgy'.*'energy'"),
        ({"objective": {"attribution": {"method": "limes"}}}, r"unknown objective.attribution.method 'limes'.*'lime'"),
        ({"objective": {"attribution": {"method": "bcos"}}}, r"resnet50 cannot give 'bcos', .* it gives ixg"),
        ({"objective": {"attribution": {"depth": "mid7"}}}, r"attribution.depth: resnet50 has no depth 'mid7'; it has input"),
        ({"evaluation": {"attribution": {"depth": "last"}}}, r"evaluation.attribution.depth: .*'last'"),
        ({"pareto": {"metrics": ["epgs"]}}, r"unknown metric \(pareto.metrics\[0\]\) 'epgs'.*Did you mean 'epg'"),
        ({"trainer": {"early_stop": {"metric": "epgg"}}}, r"trainer.early_stop.metric"),
        ({"trainer": {"batch_size": 0}}, r"trainer.batch_size: .*greater than or equal to 1"),
        ({"data": {"name": "demo", "image_size": 16}}, r"data.image_size: 16 is smaller than one cell of resnet50 \(32\)"),
        (
            {"data": {"name": "demo", "annotated_fraction": 0}, "objective": {"localization": {"weight": 1}}},
            r"guidance needs annotated images",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_config(DEMO | change)


def test_methods_that_only_evaluate_say_why() -> None:
    guides = {"localization": {"weight": 1}}
    with pytest.raises(
        ValueError, match=r"maps of shapley cannot be trained through \(it compares .*\); set evaluation\.attribution"
    ):
        parse_config(DEMO | {"objective": guides | {"attribution": {"method": "shapley"}}})
    with pytest.raises(ValueError, match=r"maps of lrp cannot be trained through \(its rules replace the gradient"):
        parse_config(DEMO | {"objective": guides | {"attribution": {"method": "lrp"}}})
    final = {"objective": guides | {"attribution": {"method": "gradcam", "depth": "final"}}}
    with pytest.raises(
        ValueError,
        match=r"objective\.attribution\.depth: occlusion has no map at 'final': it explains depth input alone; set "
        r"evaluation\.attribution\.depth to input",
    ):
        parse_config(DEMO | final | {"evaluation": {"attribution": {"method": "occlusion"}}})
    parse_config(DEMO | final | {"evaluation": {"attribution": {"method": "occlusion", "depth": "input"}}})
    parse_config(DEMO | final | {"evaluation": {"attribution": {"method": "lrp"}}})
    with pytest.raises(
        ValueError, match=r"convnext_tiny cannot give 'lrp', which needs a net all of whose layers have a rule of LRP"
    ):
        parse_config(DEMO | {"model": {"name": "convnext_tiny"}, "evaluation": {"attribution": {"method": "lrp"}}})


@pytest.mark.parametrize("method", ["gradient", "guided_backprop", "guided_gradcam"])
def test_maps_that_would_be_zero_are_refused(method: str) -> None:
    """At the depths of nets whose LayerNorms make the sum of a gradient over channels zero."""
    deep = {"evaluation": {"attribution": {"method": method, "depth": "mid2"}}}
    with pytest.raises(ValueError, match=r"has no map at 'mid2': a LayerNorm above .*; set .*depth to input"):
        parse_config(DEMO | {"model": {"name": "convnext_tiny"}} | deep)
    parse_config(DEMO | {"model": {"name": "convnext_tiny"}, "evaluation": {"attribution": {"method": method}}})
    parse_config(DEMO | {"model": {"name": "resnet18"}} | deep)


def test_fields_that_contradict_the_data_set() -> None:
    with pytest.raises(ValueError, match="images of voc have several labels"):
        parse_config(VOC | {"objective": {"classification": "cross_entropy"}})
    with pytest.raises(ValueError, match="worst_group_accuracy needs groups, which voc does not have"):
        parse_config(VOC | {"pareto": {"metrics": ["worst_group_accuracy"]}})
    with pytest.raises(ValueError, match="adjusted_accuracy needs groups, which voc does not have"):
        parse_config(VOC | {"trainer": {"early_stop": {"metric": "adjusted_accuracy"}}})
    with pytest.raises(ValueError, match="seg_epg needs segmentations, which imagewoof does not have"):
        parse_config({"data": {"name": "imagewoof", "root": "x"}, "pareto": {"metrics": ["f1", "seg_epg"]}})
    with pytest.raises(ValueError, match="a metric is named twice in f1, f1"):
        parse_config(VOC | {"pareto": {"metrics": ["f1", "f1"]}})
    with pytest.raises(ValueError, match="worst_group_images says nothing about how good a net is"):
        parse_config(DEMO | {"pareto": {"metrics": ["worst_group_images"]}})
    assert parse_config(VOC | {"pareto": {"metrics": ["f1", "zero_maps"]}}).pareto.metrics == ["f1", "zero_maps"]
    with pytest.raises(ValueError, match=r"data.root: Field required"):
        parse_config({"data": {"name": "voc"}})
    with pytest.raises(ValueError, match=r"data"):
        parse_config({})


def test_several_mistakes_are_all_reported() -> None:
    with pytest.raises(ValueError, match=r"(?s)optimizer.lrr.*trainer.epocs"):
        parse_config(DEMO | {"optimizer": {"lrr": 1}, "trainer": {"epocs": 1}})


def test_processes_must_divide_the_batch() -> None:
    config = parse_config(DEMO | {"trainer": {"batch_size": 50, "accumulate": 2}})
    check_processes(config, 5)
    with pytest.raises(ValueError, match=r"50 images cannot be shared equally by 8 process\(es\).* use 48 or 64"):
        check_processes(config, 8)


def test_a_depth_that_nothing_uses_does_no_harm() -> None:
    left = {"mode": "aim", "classification": "cross_entropy", "attribution": {"method": "ixg", "depth": "mid3"}}
    aim = DEMO | {"model": {"name": "resnet18"}, "aim": {"stop_stage": 2}}
    evaluated = {"evaluation": {"attribution": {"method": "gradcam", "depth": "final"}}}
    config = parse_config(aim | {"objective": left} | evaluated)
    made = build_objective(config, build_classifier(config, 3, pretrained=False), SOURCE)
    assert "localization" not in {term.name for term in made.terms}
    assert build_guidance(config).depth == "mid3"
    with pytest.raises(ValueError, match=r"objective.attribution.depth: resnet18\+AIM\[2\] has no depth 'mid3'"):
        parse_config(aim | {"objective": left | {"localization": {"weight": 1}}} | evaluated)
    with pytest.raises(ValueError, match=r"objective.attribution.depth: resnet18\+AIM\[2\] has no depth 'mid3'"):
        parse_config(aim | {"objective": left, "evaluation": {"attribution": {"method": "gradcam"}}})


@pytest.mark.parametrize("seed", [-1, 2**63, 10**22, "x", 1.5])
def test_seeds_are_what_generators_take(seed: object) -> None:
    for change in (DEMO | {"seed": seed}, {"data": DEMO["data"] | {"seed": seed}}, {
        "data": {"name": "coco", "root": "x", "split_seed": seed}
    }):  # fmt: skip
        with pytest.raises(ValueError, match=r"seed: Input should be"):
            parse_config(change)
