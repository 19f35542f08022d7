"""AIM: the top-down pathway against slow loops, masking bottom-up, and the depths and names of a net."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from guidance.maps import merged_mask
from guidance.models import BACKBONES
from guidance.models.aim import AIMForm, BottomUp, build_aim, stage_depths
from guidance.models.aim.nets import MaskedClassifier
from guidance.models.layers.noise import sample_keys
from tests.reference.masking import slow_merged_mask, slow_top_down
from tests.support import objectives as make
from tests.support.explaining import attribute
from tests.support.nets import aim_of, tiny, tiny_aim


def stage_inputs(model: MaskedClassifier, images: Tensor) -> dict[str, Tensor]:
    """The features that each masked stage gets from the backbone, stage by stage."""
    x, features = images, {}
    for name, layers in list(model.stages.items())[:-1]:
        features[name] = x = model._run(layers, x)
    return {stage: features[depth] for stage, depth in model.masked.items()}


@pytest.mark.parametrize(("size", "estimators"), [(6, "each"), (11, "each"), (13, "one")])
def test_the_pathway_equals_slow_loops(size: int, estimators: str) -> None:
    """Also at odd sizes, where enlarging by two would not fit."""
    model = tiny_aim(estimators=estimators).eval()
    images = torch.randn(2, 3, size, size, dtype=torch.float64)
    out = model(images)
    inputs = stage_inputs(model, images)
    tables = {
        stage: (model.net.blocks[stage](x), model.net.masks[stage](x)[1] if stage in model.net.masks else None)
        for stage, x in inputs.items()
    }
    fused, masks = slow_top_down(tables)
    torch.testing.assert_close(out.features["final"], fused, rtol=0, atol=1e-12)
    assert list(out.masks) == ["stage1", "stage2", "stage3"]
    for stage, mask in masks.items():
        assert torch.equal(out.masks[stage], mask)
    linear = model.net.heads["final"].linear
    torch.testing.assert_close(out.logits, fused.mean((2, 3)) @ linear.weight.T + linear.bias)
    for stage, logits in out.stage_logits.items():
        linear = model.net.heads[stage].linear
        masked = tables[stage][0] * out.masks[stage]
        torch.testing.assert_close(logits, masked.mean((2, 3)) @ linear.weight.T + linear.bias)
    assert torch.equal(merged_mask(out.masks), slow_merged_mask(masks))


def test_the_fused_features_are_zero_exactly_where_the_merged_mask_is() -> None:
    model = tiny_aim().train()
    for bias in (-1.0, 0.0):
        for estimator in model.net.masks.values():
            nn.init.constant_(estimator.score.bias, bias)
        out = model(torch.randn(4, 3, 20, 20, dtype=torch.float64))
        merged = merged_mask(out.masks)
        assert 0 < float(merged.mean()) < 1
        assert torch.equal(out.features["final"].abs().sum(1, keepdim=True) > 0, merged > 0)


def test_a_fully_masked_image_is_classified_by_the_bias() -> None:
    model = tiny_aim().eval()
    for estimator in model.net.masks.values():
        nn.init.constant_(estimator.score.bias, -1e3)
    out = model(torch.randn(2, 3, 9, 9, dtype=torch.float64))
    assert merged_mask(out.masks).sum() == 0
    torch.testing.assert_close(out.logits, model.net.heads["final"].linear.bias.expand(2, -1))
    out = model.explainable(torch.randn(2, 3, 9, 9, dtype=torch.float64), "final")
    maps = attribute("gradcam", model, out, "final", torch.arange(2), torch.tensor([0, 2]), create_graph=False)
    assert maps.abs().sum() == 0


def test_the_parts_of_the_net_agree_with_the_whole() -> None:
    """`lower`, `upper` and `explainable` at every depth that decides the output; no other depth is offered."""
    for model in (tiny_aim(2), tiny_aim(1), tiny_aim(2, masking="bottom_up")):
        model.eval()
        images = torch.randn(2, 3, 12, 12, dtype=torch.float64)
        out = model(images)
        assert tuple(out.features) == model.depths
        for depth in model.depths:
            torch.testing.assert_close(model.lower(images, depth), out.features[depth])
            torch.testing.assert_close(model.upper(out.features[depth], depth).logits, out.logits)
            explainable = model.explainable(images, depth)
            torch.testing.assert_close(explainable.logits, out.logits)
            assert explainable.features[depth].requires_grad
            assert {s: m.shape for s, m in explainable.masks.items()} == {s: m.shape for s, m in out.masks.items()}
            for stage, mask in out.masks.items():
                assert torch.equal(explainable.masks[stage], mask)
    assert tiny_aim(1).depths == ("input", "mid1", "final")
    assert tiny_aim(2).depths == ("input", "mid1", "mid2", "final")
    assert tiny_aim(3).depths == ("input", "mid1", "mid2", "final"), (
        "the last stage's own features are not the fused ones"
    )
    with pytest.raises(ValueError, match="unknown depth 'mid2'"):
        tiny_aim(1).explainable(torch.zeros(1, 3, 6, 6, dtype=torch.float64), "mid2")


def test_names_of_stages() -> None:
    depths = ("input", "mid1", "mid2", "mid3", "final")
    assert stage_depths(depths, 0) == {0: "mid1", 1: "mid2", 2: "mid3", 3: "final"}
    assert BACKBONES["resnet50"].stages == {1: "mid1", 2: "mid2", 3: "mid3", 4: "final"}
    assert list(aim_of("resnet18", 3, classes=2).masked.values()) == ["mid3", "final"]
    for row in (row for row in BACKBONES.values() if row.channels):
        with torch.device("meta"):
            model = aim_of(next(n for n, r in BACKBONES.items() if r is row), list(row.stages)[1], classes=2)
        assert model.depths == row.aim_depths(list(row.stages)[1])


def test_bottom_up_masking() -> None:
    model = tiny_aim(2, masking="bottom_up").train()
    assert isinstance(model, BottomUp)
    images, keys = torch.randn(3, 3, 20, 20, dtype=torch.float64), sample_keys(0, 0, torch.arange(3))
    out = model(images, keys)
    assert list(out.masks) == ["stage2", "stage3"]
    for stage, depth in model.masked.items():
        assert torch.equal(out.features[depth].abs().sum(1, keepdim=True) > 0, out.masks[stage] > 0)
    # The next stage sees nothing but what the mask left, and the backbone's own classifier ends the net.
    below = model._run(model.stages["mid1"], images)
    masked = model._run(model.stages["mid2"], below) * out.masks["stage2"]
    torch.testing.assert_close(out.features["mid2"], masked)
    last = model._run(model.stages["final"], masked) * out.masks["stage3"]
    torch.testing.assert_close(out.logits, model._run(model.stages["logits"], last))
    assert not out.stage_logits


def test_a_classifier_with_a_dotted_name_is_dropped() -> None:
    plain = tiny(channels=3)
    plain.net.body = nn.Module()
    plain.net.body.fc = plain.net.fc
    del plain.net.fc
    plain.stages["logits"] = (plain.stages["logits"][0], "body.fc")
    model = build_aim(plain, (3, 4, 3), first_stage=1, stop_stage=2, num_classes=3, form=AIMForm(width=6))
    assert not any("body" in name for name, _ in model.named_parameters())


def test_wrong_options_are_named() -> None:
    for threshold in (0.0, -0.1, 1.01, 25.0):
        with pytest.raises(ValueError, match=r"threshold must lie in \(0, 1\]"):
            make.tiny_masking(threshold=threshold)
    with pytest.raises(ValueError, match="area_ratio must be 'sample' or 'batch'"):
        make.tiny_masking(area_ratio="image")
    with pytest.raises(ValueError, match="has no stage 0 that can be masked; it has 1, 2, 3"):
        tiny_aim(0)
    with pytest.raises(ValueError, match="has no stage 4"):
        tiny_aim(4)
    for name, value in (("masking", "sideways"), ("estimators", "two"), ("initialization", "edge")):
        with pytest.raises(ValueError, match=f"aim.{name} must be .* not '{value}'"):
            tiny_aim(**{name: value})
    with pytest.raises(ValueError, match="this net has no masks"):
        merged_mask({})
