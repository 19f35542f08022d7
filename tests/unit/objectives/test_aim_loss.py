"""The objective of AIM: its loss by hand, the area, the annealing, the noise, and the ablations."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from guidance.models.layers.noise import sample_keys
from guidance.objectives.aim import annealed_threshold
from tests.reference.masking import slow_area
from tests.support import objectives as make
from tests.support.nets import tiny_aim
from tests.support.objectives import batch_of


def test_the_loss_by_hand() -> None:
    """Equation 7 with the final classifier, label smoothing, and a threshold in the middle of its descent."""
    guided = make.tiny_masking(
        tiny_aim(dropout=0.0), label_smoothing=0.05, anneal_start=2, anneal_epochs=4, seed=7
    ).train()
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
    model = tiny_aim().eval()
    for estimator in model.net.masks.values():
        nn.init.constant_(estimator.score.bias, 1e3)
    guided, batch = make.tiny_masking(model), batch_of(2, regions=[])
    step = guided(batch, guided.counts(batch))
    assert float(step.terms["area"]) == pytest.approx(3 * 0.4225)
    total = step.terms["classification"] + step.terms["auxiliary"] + 6 * 3 * 0.4225
    torch.testing.assert_close(step.loss.detach(), total)


def test_the_area_of_a_batch() -> None:
    batch = batch_of(6, regions=[])
    terms = {}
    for ratio in ("sample", "batch"):
        guided = make.tiny_masking(area_ratio=ratio).train()
        terms[ratio] = guided(batch, guided.counts(batch)).terms
    masks = guided.model(batch.images, sample_keys(0, 0, batch.index)).masks.values()
    shares = torch.stack([m.detach().flatten(1).mean(1) for m in masks])
    torch.testing.assert_close(terms["batch"]["area"], (shares.mean(1) - 0.35).square().sum())
    torch.testing.assert_close(terms["sample"]["area"], (shares - 0.35).square().mean(1).sum())
    assert terms["batch"]["area"] < terms["sample"]["area"]


@pytest.mark.parametrize("ratio", ["sample", "batch"])
def test_each_stage_falls_to_its_own_threshold(ratio: str) -> None:
    """Equation 6 with a threshold for each stage, in whatever order they are given, against a slow reference."""
    finals = {"stage3": 0.2, "stage1": 0.9, "stage2": 0.5}
    guided = make.tiny_masking(
        tiny_aim(dropout=0.0), threshold=finals, area_ratio=ratio, anneal_start=1, anneal_epochs=4, area_weight=2.5
    ).train()
    batch = batch_of(5, regions=[])
    for epoch, done in ((0, 0.0), (2, 0.25), (5, 1.0), (9, 1.0)):
        guided.begin_epoch(epoch)
        step = guided(batch, guided.counts(batch))
        masks = guided.model(batch.images, sample_keys(0, epoch, batch.index)).masks
        thresholds = {stage: 1 - done * (1 - final) for stage, final in finals.items()}
        area = slow_area(masks, thresholds, of_batch=ratio == "batch")
        assert float(step.terms["area"]) == pytest.approx(area, rel=1e-12)
        total = step.terms["classification"] + step.terms["auxiliary"] + 2.5 * area
        torch.testing.assert_close(step.loss.detach(), total, rtol=1e-12, atol=0)
        logged = {name: float(value) for name, value in step.terms.items() if name.startswith("threshold")}
        assert logged == pytest.approx({f"threshold/{stage}": value for stage, value in thresholds.items()})


@pytest.mark.parametrize("ratio", ["sample", "batch"])
def test_one_number_is_the_same_number_for_each_stage(ratio: str) -> None:
    batch, steps, gradients = batch_of(4, regions=[]), [], []
    for threshold in (0.35, dict.fromkeys(["stage1", "stage2", "stage3"], 0.35)):
        guided = make.tiny_masking(threshold=threshold, area_ratio=ratio).train()
        steps.append(guided(batch, guided.counts(batch)))
        steps[-1].loss.backward()
        gradients.append([p.grad for p in guided.parameters()])
    assert torch.equal(steps[0].loss, steps[1].loss)
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_thresholds_name_the_stages_that_have_an_estimator() -> None:
    with pytest.raises(
        ValueError, match=r"given for stage1, but the stages .* are stage1, stage2, stage3: name exactly"
    ):
        make.tiny_masking(threshold={"stage1": 0.3})
    with pytest.raises(ValueError, match="given for no stage"):
        make.tiny_masking(threshold={})
    with pytest.raises(ValueError, match=r"threshold of stage2 must lie in \(0, 1\], .* not 1.5"):
        make.tiny_masking(threshold={"stage1": 0.3, "stage2": 1.5, "stage3": 0.3})
    one, batch = make.tiny_masking(tiny_aim(estimators="one"), threshold={"stage3": 0.3}), batch_of(3, regions=[])
    assert {n for n in one(batch, one.counts(batch)).terms if "threshold" in n} == {"threshold/stage3"}
    with pytest.raises(ValueError, match="have a mask estimator are stage3"):
        make.tiny_masking(tiny_aim(estimators="one"), threshold={"stage2": 0.3, "stage3": 0.3})


def test_annealing() -> None:
    def thresholds(final: float, start: int, epochs: int) -> list[float]:
        return [annealed_threshold(e, final=final, start=start, epochs=epochs) for e in range(6)]

    assert thresholds(0.2, 0, 4) == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0.2])
    assert thresholds(0.5, 2, 2) == pytest.approx([1, 1, 1, 0.75, 0.5, 0.5])
    assert thresholds(0.25, 0, 0) == [0.25] * 6
    assert thresholds(0.25, 2, 0) == [1, 1] + [0.25] * 4
    assert thresholds(1.0, 0, 3) == [1.0] * 6


def test_without_annealing_there_is_no_area_term() -> None:
    guided, batch = make.tiny_masking(threshold=None).train(), batch_of(3, regions=[])
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
        guided, batch = make.tiny_masking(tiny_aim(**settings)).train(), batch_of(4, regions=[])
        guided(batch, guided.counts(batch)).loss.backward()
        silent = [name for name, p in guided.named_parameters() if p.grad is None]
        assert not silent, f"{settings}: DistributedDataParallel would refuse {silent}"


def test_no_auxiliary_losses() -> None:
    model = tiny_aim(auxiliary=False)
    assert list(model.net.heads) == ["final"]
    guided, batch = make.tiny_masking(model), batch_of(3, regions=[])
    terms = guided(batch, guided.counts(batch)).terms
    assert "auxiliary" not in terms
    assert "area" in terms


def test_one_estimator() -> None:
    model = tiny_aim(estimators="one").eval()
    out = model(torch.randn(2, 3, 12, 12, dtype=torch.float64))
    assert list(model.net.masks) == list(out.mask_logits) == ["stage3"]
    for stage in ("stage1", "stage2"):
        enlarged = functional.interpolate(out.masks["stage3"], out.masks["stage2"].shape[2:])
        enlarged = enlarged if stage == "stage2" else functional.interpolate(enlarged, out.masks["stage1"].shape[2:])
        assert torch.equal(out.masks[stage], enlarged)
    guided, batch = make.tiny_masking(model), batch_of(3, regions=[])
    assert {n for n in guided(batch, guided.counts(batch)).terms if n.startswith("active")} == {"active/stage3"}


def test_noise_ends_when_it_is_told_to() -> None:
    guided = make.tiny_masking(noise_epochs=2)
    for epoch, noisy in ((0, True), (1, True), (2, False), (0, True)):
        guided.begin_epoch(epoch)
        assert all(estimator.noisy == noisy for estimator in guided.model.net.masks.values())
