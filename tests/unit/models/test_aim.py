"""AIM: the paper's sizes, the masks, the pathway against slow loops, the loss by hand, the annealing, the ablations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from guidance.losses import energy
from guidance.maps import merged_mask
from guidance.models import BACKBONES, Wrapping, build_model
from guidance.models.aim import LAYOUT, AIMForm, BottomUp, MaskEstimator, TopDown, binary_mask, build_aim, stage_depths
from guidance.models.aim.blocks import TopDownBlock
from guidance.models.aim.masks import emphasize_edges, logistic
from guidance.models.aim.nets import MaskedClassifier
from guidance.models.layers.noise import sample_keys, uniform
from guidance.objectives import Objective
from guidance.objectives.aim import annealed_threshold
from tests.reference.masking import slow_merged_mask, slow_top_down
from tests.support import objectives as make
from tests.support.explaining import attribute
from tests.support.nets import tiny
from tests.unit.objectives.test_objectives import batch_of

# Alshami et al., Table 6, with the totals and multiply-adds (in units of 1e9) of FACTS 5.2 for 200 classes.
PUBLISHED = {
    ("convnext_tiny", 1): (30_694_627, 5.262),
    ("convnext_tiny", 2): (29_892_346, 4.674),
    ("resnet50", 2): (27_602_627, 5.133),
    ("resnet50", 3): (26_626_266, 4.409),
}


def aim(name: str, stop: int, classes: int = 200, **settings: object) -> MaskedClassifier:
    row = BACKBONES[name]
    return build_aim(build_model(name, num_classes=classes), row.channels, first_stage=row.first_stage, stop_stage=stop,
                     num_classes=classes, form=AIMForm(**settings))  # type: ignore[arg-type]  # fmt: skip


def small(stop: int = 1, *, masking: str = "top_down", **settings: object) -> MaskedClassifier:
    """AIM around a net of three stages (5, 2 and 2 cells a side for 6 pixels), in float64."""
    torch.manual_seed(0)
    plain = tiny(channels=3)
    return build_aim(plain, (3, 4, 3), first_stage=1, stop_stage=stop, num_classes=3,
                     form=AIMForm(masking=masking, width=6, mask_width=4, **settings)).double()  # type: ignore[arg-type]  # fmt: skip


@pytest.mark.parametrize(("name", "stop"), PUBLISHED)
def test_sizes_of_table_6(name: str, stop: int) -> None:
    parameters, multiply_adds = PUBLISHED[name, stop]
    with torch.device("meta"):
        model = aim(name, stop).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.empty(1, 3, 224, 224))
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert round(counter.get_total_flops() / 2e9, 3) == multiply_adds


def test_sizes_of_the_parts() -> None:
    """FACTS 5.2: per stage, the top-down block, the mask estimator and the classifier."""
    parts = {192: (640_000, 110_881), 384: (689_152, 166_177), 768: (787_456, 276_769),
             512: (721_920, 203_041), 1024: (852_992, 350_497), 2048: (1_115_136, 645_409)}  # fmt: skip
    for channels, (block, estimator) in parts.items():
        assert sum(p.numel() for p in TopDownBlock(channels, 256).parameters()) == block
        assert sum(p.numel() for p in MaskEstimator(channels).parameters()) == estimator
    backbone = aim("resnet50", 3, classes=2).net.backbone
    assert sum(p.numel() for p in backbone.parameters()) == 23_508_032


# ---------------------------------------------------------------------------------------------------- the binary mask


def test_masks_are_exactly_binary_and_the_gradient_passes_straight() -> None:
    logits = torch.linspace(-9, 9, 721).view(1, 1, 1, -1).requires_grad_()
    for temperature in (0.5, 1.0, 3.0):
        noise = logistic(uniform(sample_keys(0, 0, torch.tensor([1])), 0, logits.shape[1:]))
        mask = binary_mask(logits, noise, temperature=temperature)
        assert mask.unique().tolist() == [0, 1]
        assert torch.equal(mask.bool(), logits + noise >= 0)
        (gradient,) = torch.autograd.grad(mask.sum(), logits)
        soft = torch.sigmoid((logits + noise) / temperature)
        torch.testing.assert_close(gradient, soft * (1 - soft) / temperature)


def test_a_cell_is_active_with_the_probability_of_its_logit() -> None:
    """Whatever the temperature: the noise is logistic."""
    keys, logits = sample_keys(0, 0, torch.arange(200)), torch.tensor([-2.0, -0.5, 0.0, 1.0, 3.0])
    noise = logistic(uniform(keys, 0, (1000, 5)))
    for temperature in (0.5, 2.0):
        share = binary_mask(logits.expand_as(noise), noise, temperature=temperature).mean((0, 1))
        torch.testing.assert_close(share, torch.sigmoid(logits), atol=3e-3, rtol=0)


def test_masks_without_noise_are_deterministic() -> None:
    assert binary_mask(torch.tensor([-1e-6, 0.0, 1e-6])).tolist() == [0, 1, 1]
    estimator, x = MaskEstimator(3, width=4), torch.randn(2, 3, 8, 8)
    logits, mask = estimator.eval()(x)
    assert torch.equal(mask, (logits >= 0).float())
    assert torch.equal(estimator(x)[1], mask)
    estimator.train()
    drawn = [estimator(x)[1] for _ in range(4)]
    assert any(not torch.equal(drawn[0], other) for other in drawn[1:])
    estimator.noisy = False
    assert torch.equal(estimator(x)[1], mask)


def test_half_precision_does_not_reach_the_noise() -> None:
    estimator = MaskEstimator(3, width=4).train()
    with torch.autocast("cpu", torch.bfloat16):
        logits, mask = estimator(torch.randn(2, 3, 8, 8))
    assert logits.dtype == mask.dtype == torch.float32


def test_the_estimator_is_the_one_of_the_paper() -> None:
    """Its layers applied one by one, with the context of the whole map beside every cell."""
    estimator, x = MaskEstimator(3, width=4).double().eval(), torch.randn(2, 3, 5, 7, dtype=torch.float64)

    def normalized(conv: nn.Conv2d, x: Tensor) -> Tensor:
        y = functional.conv2d(x, conv.weight, conv.bias, padding=1)
        centred = y - y.mean((1, 2, 3), keepdim=True)
        return centred / (centred.square().mean((1, 2, 3), keepdim=True) + 1e-5).sqrt()

    y = normalized(estimator.stem, x).relu()
    for block in estimator.blocks:
        y = (y + normalized(block.conv2, normalized(block.conv1, y).relu())).relu()
    weight, bias = estimator.score.weight[0, :, 0, 0], estimator.score.bias
    logits = torch.einsum("bchw,c->bhw", y, weight[:4]) + (y.mean((2, 3)) @ weight[4:])[:, None, None] + bias
    torch.testing.assert_close(estimator(x)[0][:, 0], logits)


def test_edges_weigh_more_than_centres() -> None:
    conv, pointwise = nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 1)
    before, untouched = conv.weight.detach().clone(), pointwise.weight.detach().clone()
    emphasize_edges(nn.Sequential(conv, pointwise))
    corner, side, centre = math.sqrt(2) + 0.1, 1.1, 0.1
    mean = (4 * corner + 4 * side + centre) / 9
    expected = torch.tensor([[corner, side, corner], [side, centre, side], [corner, side, corner]]) / mean
    torch.testing.assert_close(conv.weight.detach() / before, expected.expand(3, 2, 3, 3))
    assert torch.equal(pointwise.weight, untouched)


# ------------------------------------------------------------------------------------------------- the top-down pathway


def stage_inputs(model: MaskedClassifier, images: Tensor) -> dict[str, Tensor]:
    """The features that each masked stage gets from the backbone, stage by stage."""
    x, features = images, {}
    for name, layers in list(model.stages.items())[:-1]:
        features[name] = x = model._run(layers, x)
    return {stage: features[depth] for stage, depth in model.masked.items()}


@pytest.mark.parametrize(("size", "estimators"), [(6, "each"), (11, "each"), (13, "one")])
def test_the_pathway_equals_slow_loops(size: int, estimators: str) -> None:
    """Also at odd sizes, where enlarging by two would not fit."""
    model = small(estimators=estimators).eval()
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
    model = small().train()
    for bias in (-1.0, 0.0):
        for estimator in model.net.masks.values():
            nn.init.constant_(estimator.score.bias, bias)
        out = model(torch.randn(4, 3, 20, 20, dtype=torch.float64))
        merged = merged_mask(out.masks)
        assert 0 < float(merged.mean()) < 1
        assert torch.equal(out.features["final"].abs().sum(1, keepdim=True) > 0, merged > 0)


def test_the_largest_mask_is_that_of_the_most_cells() -> None:
    wide, high = torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 4, 2)
    wide[..., 0, 0] = 1
    high[..., 3, 1] = 1
    merged = merged_mask({"wide": wide, "high": high})  # rows 0 and 1 of `high` lie in row 0 of `wide`
    assert merged[0, 0].tolist() == [[1, 0], [1, 0], [0, 0], [0, 1]]


def test_a_fully_masked_image_is_classified_by_the_bias() -> None:
    model = small().eval()
    for estimator in model.net.masks.values():
        nn.init.constant_(estimator.score.bias, -1e3)
    out = model(torch.randn(2, 3, 9, 9, dtype=torch.float64))
    assert merged_mask(out.masks).sum() == 0
    torch.testing.assert_close(out.logits, model.net.heads["final"].linear.bias.expand(2, -1))
    out = model.explainable(torch.randn(2, 3, 9, 9, dtype=torch.float64), "final")
    maps = attribute("gradcam", model, out, "final", torch.arange(2), torch.tensor([0, 2]), create_graph=False)
    assert maps.abs().sum() == 0


def test_size_299_works() -> None:
    model = aim("convnext_tiny", 1, classes=5).eval()
    with torch.no_grad():
        out = model(torch.randn(1, 3, 299, 299))
    assert [tuple(mask.shape[2:]) for mask in out.masks.values()] == [(37, 37), (18, 18), (9, 9)]
    assert out.features["final"].shape[2:] == (37, 37)


def test_the_parts_of_the_net_agree_with_the_whole() -> None:
    """`lower`, `upper` and `explainable` at every depth that decides the output; no other depth is offered."""
    for model in (small(2), small(1), small(2, masking="bottom_up")):
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
    assert small(1).depths == ("input", "mid1", "final")
    assert small(2).depths == ("input", "mid1", "mid2", "final")
    assert small(3).depths == ("input", "mid1", "mid2", "final"), "the last stage's own features are not the fused ones"
    with pytest.raises(ValueError, match="unknown depth 'mid2'"):
        small(1).explainable(torch.zeros(1, 3, 6, 6, dtype=torch.float64), "mid2")


def test_names_of_stages() -> None:
    depths = ("input", "mid1", "mid2", "mid3", "final")
    assert stage_depths(depths, 0) == {0: "mid1", 1: "mid2", 2: "mid3", 3: "final"}
    assert BACKBONES["resnet50"].stages == {1: "mid1", 2: "mid2", 3: "mid3", 4: "final"}
    assert list(aim("resnet18", 3, classes=2).masked.values()) == ["mid3", "final"]
    for row in (row for row in BACKBONES.values() if row.channels):
        model = aim(next(n for n, r in BACKBONES.items() if r is row), list(row.stages)[1], classes=2)
        assert model.depths == row.aim_depths(list(row.stages)[1])


def test_draws_belong_to_the_samples() -> None:
    """The whole training forward, drop-out and drop-path included, of a batch and of its parts."""
    model = aim("convnext_tiny", 2, classes=3).double().train()
    for module in model.net.backbone.modules():
        if type(module).__name__ == "DropPath":
            module.p = 0.5
    images, keys = torch.randn(4, 3, 64, 64, dtype=torch.float64), sample_keys(0, 0, torch.arange(4))
    out = model(images, keys)
    part = model(images[2:], keys[2:])
    torch.testing.assert_close(part.logits, out.logits[2:])
    for stage, mask in part.masks.items():
        assert torch.equal(mask, out.masks[stage][2:])
    assert not torch.equal(model(images, sample_keys(0, 1, torch.arange(4))).logits, out.logits)


# ------------------------------------------------------------------------------------------------------- the objective


def objective(model: MaskedClassifier | None = None, **settings: object) -> Objective:
    model = small() if model is None else model
    defaults = {"threshold": 0.35, "classification": "cross_entropy"}
    return make.masking(model, **(defaults | settings)).double()  # type: ignore[arg-type]


def test_the_loss_by_hand() -> None:
    """Equation 7 with the final classifier, label smoothing, and a threshold in the middle of its descent."""
    guided = objective(small(dropout=0.0), label_smoothing=0.05, anneal_start=2, anneal_epochs=4, seed=7).train()
    batch = batch_of(5, regions=[])
    guided.begin_epoch(3)
    step = guided(batch, guided.counts(batch))
    out = guided.model(batch.images, sample_keys(7, 3, batch.index))
    labels = batch.targets.argmax(1)
    heads = [
        functional.cross_entropy(x, labels, label_smoothing=0.05) for x in (out.logits, *out.stage_logits.values())
    ]
    threshold = 1 - 0.25 * 0.65
    area = sum((m.flatten(1).mean(1) - threshold).square().mean() for m in out.masks.values())
    torch.testing.assert_close(step.loss, sum(heads) + 6 * area)
    torch.testing.assert_close(step.terms["classification"], heads[0].detach())
    torch.testing.assert_close(step.terms["auxiliary"], sum(heads[1:]).detach())
    torch.testing.assert_close(step.terms["area"], area.detach())
    assert float(step.terms["threshold"]) == pytest.approx(threshold)
    for stage, mask in out.masks.items():
        torch.testing.assert_close(step.terms[f"active/{stage}"], mask.detach().mean())


def test_a_fully_active_mask_costs_what_the_paper_says() -> None:
    """6 x (1 - 0.35)^2 = 6 x 0.4225 for each stage."""
    model = small().eval()
    for estimator in model.net.masks.values():
        nn.init.constant_(estimator.score.bias, 1e3)
    guided, batch = objective(model), batch_of(2, regions=[])
    step = guided(batch, guided.counts(batch))
    assert float(step.terms["area"]) == pytest.approx(3 * 0.4225)
    total = step.terms["classification"] + step.terms["auxiliary"] + 6 * 3 * 0.4225
    torch.testing.assert_close(step.loss.detach(), total)


def test_the_area_of_a_batch() -> None:
    batch = batch_of(6, regions=[])
    terms = {}
    for ratio in ("sample", "batch"):
        guided = objective(area_ratio=ratio).train()
        terms[ratio] = guided(batch, guided.counts(batch)).terms
    masks = guided.model(batch.images, sample_keys(0, 0, batch.index)).masks.values()
    shares = torch.stack([m.detach().flatten(1).mean(1) for m in masks])
    torch.testing.assert_close(terms["batch"]["area"], (shares.mean(1) - 0.35).square().sum())
    torch.testing.assert_close(terms["sample"]["area"], (shares - 0.35).square().mean(1).sum())
    assert terms["batch"]["area"] < terms["sample"]["area"]


def test_annealing() -> None:
    def thresholds(final: float, start: int, epochs: int) -> list[float]:
        return [annealed_threshold(e, final=final, start=start, epochs=epochs) for e in range(6)]

    assert thresholds(0.2, 0, 4) == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0.2])
    assert thresholds(0.5, 2, 2) == pytest.approx([1, 1, 1, 0.75, 0.5, 0.5])
    assert thresholds(0.25, 0, 0) == [0.25] * 6
    assert thresholds(0.25, 2, 0) == [1, 1] + [0.25] * 4
    assert thresholds(1.0, 0, 3) == [1.0] * 6


def test_without_annealing_there_is_no_area_term() -> None:
    guided, batch = objective(threshold=None).train(), batch_of(3, regions=[])
    step = guided(batch, guided.counts(batch))
    assert not {"area", "threshold"} & set(step.terms)
    step.loss.backward()
    for stage, estimator in guided.model.net.masks.items():
        assert estimator.score.weight.grad.abs().sum() > 0, f"the loss does not reach the mask of {stage}"


def test_the_loss_reaches_every_weight() -> None:
    for settings in (
        {},
        {"auxiliary": False},
        {"estimators": "one"},
        {"masking": "bottom_up"},
        {"initialization": "edges"},
    ):
        guided, batch = objective(small(**settings)).train(), batch_of(4, regions=[])
        guided(batch, guided.counts(batch)).loss.backward()
        silent = [name for name, p in guided.named_parameters() if p.grad is None]
        assert not silent, f"{settings}: DistributedDataParallel would refuse {silent}"


def test_no_auxiliary_losses() -> None:
    model = small(auxiliary=False)
    assert list(model.net.heads) == ["final"]
    guided, batch = objective(model), batch_of(3, regions=[])
    terms = guided(batch, guided.counts(batch)).terms
    assert "auxiliary" not in terms
    assert "area" in terms


def test_one_estimator() -> None:
    model = small(estimators="one").eval()
    out = model(torch.randn(2, 3, 12, 12, dtype=torch.float64))
    assert list(model.net.masks) == list(out.mask_logits) == ["stage3"]
    for stage in ("stage1", "stage2"):
        enlarged = functional.interpolate(out.masks["stage3"], out.masks["stage2"].shape[2:])
        enlarged = enlarged if stage == "stage2" else functional.interpolate(enlarged, out.masks["stage1"].shape[2:])
        assert torch.equal(out.masks[stage], enlarged)
    guided, batch = objective(model), batch_of(3, regions=[])
    assert {n for n in guided(batch, guided.counts(batch)).terms if n.startswith("active")} == {"active/stage3"}


def test_bottom_up_masking() -> None:
    model = small(2, masking="bottom_up").train()
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


def test_noise_ends_when_it_is_told_to() -> None:
    guided = objective(noise_epochs=2)
    for epoch, noisy in ((0, True), (1, True), (2, False), (0, True)):
        guided.begin_epoch(epoch)
        assert all(estimator.noisy == noisy for estimator in guided.model.net.masks.values())


def test_mask_guidance_by_hand() -> None:
    """Energy of the soft masks in the union of an image's regions, once for each of its pairs, as a mean over stages."""
    batch = batch_of(4, regions=[(0, 0), (0, 1), (3, 2)])
    batch.regions.mask[1] = torch.arange(16) < 3  # another region of the first image
    guided = objective(localization=energy, mask_weight=0.5, reduction="mean", threshold=None).train()
    step = guided(batch, guided.counts(batch))
    out = guided.model(batch.images, sample_keys(0, 0, batch.index))
    union = batch.regions.mask.clone()
    union[:2] = batch.regions.mask[0] | batch.regions.mask[1]
    soft = [torch.sigmoid(x[:, 0]) for x in out.mask_logits.values()]
    expected = sum(energy(maps[batch.regions.image], union).mean() for maps in soft) / 3
    torch.testing.assert_close(step.terms["mask_localization"], expected.detach())
    index, losses = step.samples["mask_localization"]
    assert torch.equal(index, batch.index[batch.regions.image])
    torch.testing.assert_close(losses, sum(energy(maps[batch.regions.image], union) for maps in soft).detach() / 3)
    unguided = step.terms["classification"] + step.terms["auxiliary"]
    torch.testing.assert_close(step.loss.detach(), unguided + 0.5 * expected.detach())
    nothing = batch_of(4, regions=[])
    assert "mask_localization" not in guided(nothing, guided.counts(nothing)).terms


def test_guided_aim_follows_its_gradient() -> None:
    """A loss on the attribution of the fused map and on soft masks, against central differences of the soft parts.

    The masks are held fixed by logits far from zero, because a step function has no gradient to compare with.
    """
    model = small(dropout=0.0).eval()
    for estimator in model.net.masks.values():
        nn.init.constant_(estimator.score.bias, 3.0)
    batch = batch_of(3, regions=[(0, 0), (2, 1)])
    guided = objective(model, localization=energy, weight=0.7, reduction="mean", attribution="ixg", depth="final",
                       threshold=None).eval()  # fmt: skip
    weight = model.net.blocks["stage2"].refine.weight

    def loss() -> Tensor:
        step = guided(batch, guided.counts(batch))
        assert "localization" in step.terms
        return step.loss

    (gradient,) = torch.autograd.grad(loss(), weight)
    for place in [(0, 0, 1, 1), (3, 2, 0, 2), (5, 5, 2, 1)]:
        values = []
        for step in (1, -2, 1):
            weight.data[place] += step * 1e-6
            values.append(float(loss().detach()))
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(float(gradient[place]), rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("depth", ["input", "mid1", "final"])
@pytest.mark.parametrize("method", ["ixg", "gradcam", "intgrad", "guided_backprop", "guided_gradcam"])
def test_an_aim_net_can_be_guided_at_its_depths(method: str, depth: str) -> None:
    guided = objective(localization=energy, weight=0.5, attribution=method, depth=depth).train()
    batch = batch_of(4)
    step = guided(batch, guided.counts(batch))
    step.loss.backward()
    assert {"localization", "area", "auxiliary"} <= set(step.terms)
    assert all(torch.isfinite(p.grad).all() for p in guided.parameters())


def test_the_maps_that_are_guided_are_those_that_are_evaluated() -> None:
    """A mask is a constant of an attribution, also in training, where a gradient for the losses passes through it."""
    model = small(dropout=0.0)
    model.set_noise(False)
    images, pairs = torch.randn(2, 3, 12, 12, dtype=torch.float64), (torch.arange(2), torch.tensor([0, 2]))
    for depth in model.depths:
        maps = {}
        for training in (True, False):
            out = model.train(training)(images.clone().requires_grad_())
            maps[training] = attribute("ixg", model, out, depth, *pairs, create_graph=training)
        torch.testing.assert_close(maps[True], maps[False])
        (gradient,) = torch.autograd.grad(
            maps[True].square().sum(), model.net.masks["stage1"].score.weight, retain_graph=True
        )
        assert gradient.abs().sum() > 0, "a loss on the map trains the masks all the same"


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
            objective(threshold=threshold)
    with pytest.raises(ValueError, match="area_ratio must be 'sample' or 'batch'"):
        objective(area_ratio="image")
    with pytest.raises(ValueError, match="has no stage 0 that can be masked; it has 1, 2, 3"):
        small(0)
    with pytest.raises(ValueError, match="has no stage 4"):
        small(4)
    for name, value in (("masking", "sideways"), ("estimators", "two"), ("initialization", "edge")):
        with pytest.raises(ValueError, match=f"aim.{name} must be .* not '{value}'"):
            small(**{name: value})
    with pytest.raises(ValueError, match="this net has no masks"):
        merged_mask({})


def test_weights_of_backbone_and_of_the_whole(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Pretrained weights of the bare net fill the backbone; those of an AIM run everything but classifiers that do not fit."""
    bare = build_model("resnet18", num_classes=1000)
    torch.save(bare.net.state_dict(), tmp_path / "bare.pt")
    row = BACKBONES["resnet18"]

    def wrap(plain):  # type: ignore[no-untyped-def]
        return build_aim(plain, row.channels, first_stage=1, stop_stage=3, num_classes=4, form=AIMForm(width=8))

    model = build_model("resnet18", num_classes=4, weights=tmp_path / "bare.pt", wrapping=Wrapping(wrap, LAYOUT))
    assert isinstance(model, TopDown)
    assert torch.equal(model.net.backbone.layer4[0].conv1.weight, bare.net.layer4[0].conv1.weight)
    torch.save({"model": model.state_dict()}, tmp_path / "aim.pt")
    again = build_model("resnet18", num_classes=4, weights=tmp_path / "aim.pt", wrapping=Wrapping(wrap, LAYOUT))
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name

    def wrap_two(plain):  # type: ignore[no-untyped-def]
        return build_aim(plain, row.channels, first_stage=1, stop_stage=3, num_classes=2, form=AIMForm(width=8))

    other = build_model("resnet18", num_classes=2, weights=tmp_path / "aim.pt", wrapping=Wrapping(wrap_two, LAYOUT))
    assert torch.equal(other.net.blocks["stage3"].align.weight, model.net.blocks["stage3"].align.weight)
    assert other.net.heads["final"].linear.weight.shape == (2, 8)
    with pytest.raises(ValueError, match=r"objective\.mode: aim"):
        build_model("resnet18", num_classes=4, weights=tmp_path / "aim.pt", layouts=[LAYOUT])

    def wrap_bottom_up(plain):  # type: ignore[no-untyped-def]
        return build_aim(plain, row.channels, first_stage=1, stop_stage=3, num_classes=2, form=AIMForm("bottom_up"))

    with pytest.raises(ValueError, match=r"are aim\.stop_stage and aim\.masking its own"):
        build_model("resnet18", num_classes=2, weights=tmp_path / "aim.pt", wrapping=Wrapping(wrap_bottom_up, LAYOUT))
    bottom_up = build_model("resnet18", num_classes=2, wrapping=Wrapping(wrap_bottom_up, LAYOUT))
    state = {name: value for name, value in bottom_up.state_dict().items() if "fc." not in name}
    state |= {f"net.backbone.fc.{name}": torch.zeros(7, *shape) for name, shape in (("weight", (512,)), ("bias", ()))}
    torch.save({"model": state}, tmp_path / "bottom_up.pt")
    again = build_model(
        "resnet18", num_classes=2, weights=tmp_path / "bottom_up.pt", wrapping=Wrapping(wrap_bottom_up, LAYOUT)
    )
    assert torch.equal(again.net.masks["stage3"].stem.weight, bottom_up.net.masks["stage3"].stem.weight)
    assert again.net.backbone.fc.weight.shape == (2, 512)
