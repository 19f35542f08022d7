"""The guided objective: equation 1 with both reductions, weights, chunks, and the degenerate batches."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from guidance.losses import LOCALIZATION_LOSSES, energy
from guidance.objectives import Objective
from guidance.types import Batch
from tests.support import objectives as make
from tests.support.objectives import batch_of
from tests.support.scenarios import small_net


def objective(**settings: object) -> Objective:
    model = small_net(3).double().eval()
    return make.guided(model, **{"localization": energy, "weight": 0.5} | settings)  # type: ignore[arg-type]


def test_classification_losses_by_hand() -> None:
    logits = torch.tensor([[0.5, -1.0, 2.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    targets = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    weights = torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64)

    def bce(z: float, t: float) -> float:
        p = 1 / (1 + math.exp(-z))
        return -(t * math.log(p) + (1 - t) * math.log(1 - p))

    terms = [[bce(float(z), float(t)) for z, t in zip(*row, strict=True)] for row in zip(logits, targets, strict=True)]
    plain = make.classification_loss(logits, targets, kind="bce", weights=None, weighting="sample")
    assert plain.tolist() == pytest.approx([sum(row) / 3 for row in terms])
    by_sample = make.classification_loss(logits, targets, kind="bce", weights=weights, weighting="sample")
    assert by_sample.tolist() == pytest.approx([sum(terms[0]) / 3 * (1 + 0.25) / 2, sum(terms[1]) / 3])
    by_class = make.classification_loss(logits, targets, kind="bce", weights=weights, weighting="class")
    expected = [sum(w * t for w, t in zip(weights.tolist(), row, strict=True)) / 3 for row in terms]
    assert by_class.tolist() == pytest.approx(expected)


def test_cross_entropy_equals_torch() -> None:
    logits, labels = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 2, 1, 1, 0])
    targets = torch.nn.functional.one_hot(labels, 3).double()
    weights = torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64)
    for weighting in ("sample", "class"):
        ours = make.classification_loss(logits, targets, kind="cross_entropy", weights=weights, weighting=weighting)
        expected = torch.nn.functional.cross_entropy(logits, labels, weight=weights, reduction="none")
        torch.testing.assert_close(ours, expected)


def test_label_smoothing_equals_torch() -> None:
    logits, labels = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 2, 1, 1, 0])
    targets = torch.nn.functional.one_hot(labels, 3).double()
    weights = torch.tensor([1.0, 0.5, 0.25], dtype=torch.float64)
    smoothed = partial(make.classification_loss, logits, targets, kind="cross_entropy", label_smoothing=0.1)
    expected = partial(torch.nn.functional.cross_entropy, logits, labels, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(smoothed(weights=None, weighting="sample"), expected())
    torch.testing.assert_close(smoothed(weights=weights, weighting="class"), expected(weight=weights))
    # By sample, the weight of an image is that of its class, however its target is smoothed.
    torch.testing.assert_close(smoothed(weights=weights, weighting="sample"), weights[labels] * expected())
    with pytest.raises(ValueError, match="label_smoothing needs classification 'cross_entropy'"):
        objective(label_smoothing=0.1)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("depth", ["input", "mid1", "final"])
def test_total_is_classification_plus_weighted_localisation(reduction: str, depth: str) -> None:
    batch, guided = batch_of(), objective(reduction=reduction, depth=depth)
    step = guided(batch, guided.counts(batch))
    factor = 3 if reduction == "sum" else 1
    expected = step.terms["classification"] + 0.5 * factor * step.terms["localization"]
    torch.testing.assert_close(step.loss.detach(), expected)
    per_region = step.samples["localization"]
    assert per_region[0].tolist() == [100, 102, 103]
    torch.testing.assert_close(step.terms["localization"], per_region[1].mean())
    torch.testing.assert_close(step.terms["classification"], step.samples["classification"][1].mean())


def gradients(guided: Objective, parts: list[Batch], whole: Batch) -> list[Tensor]:
    guided.zero_grad()
    counts = guided.counts(whole)
    for part in parts:
        guided(part, counts).loss.backward()
    return [p.grad.clone() for p in guided.parameters() if p.grad is not None]


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_chunks_accumulate_to_the_whole_batch(reduction: str) -> None:
    """Chunks with 2, 1 and 0 regions, in eval mode, where no statistic links images."""
    batch, guided = batch_of(6, [(0, 0), (1, 1), (2, 2), (0, 2)]), objective(reduction=reduction)
    chunks = batch.chunk(3)
    assert [len(c.regions.image) for c in chunks] == [3, 1, 0]
    assert torch.cat([c.index[c.regions.image] for c in chunks]).tolist() == [100, 101, 100, 102]
    torch.testing.assert_close(gradients(guided, chunks, batch), gradients(guided, [batch], batch))


@pytest.mark.parametrize("loss", LOCALIZATION_LOSSES)
@pytest.mark.parametrize("regions", [[], [(0, 0)], [(1, 0), (1, 1), (1, 2)]])
def test_any_number_of_regions_gives_finite_gradients(loss: str, regions: list[tuple[int, int]]) -> None:
    batch = batch_of(3, regions)
    guided = objective(localization=LOCALIZATION_LOSSES[loss].function)
    step = guided(batch, guided.counts(batch))
    assert ("localization" in step.terms) == bool(regions)
    step.loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in guided.parameters())


def test_image_without_labels_and_zero_net() -> None:
    batch = batch_of()
    batch.targets[0] = 0
    guided = objective(class_weights=torch.ones(3).double(), weight=1.0)
    with torch.no_grad():
        for p in guided.parameters():
            p.zero_()
    step = guided(batch, guided.counts(batch))
    step.loss.backward()
    assert step.terms["localization"] == 1  # no positive evidence anywhere
    assert step.terms["zero_maps"] == 1
    assert all(torch.isfinite(p.grad).all() for p in guided.parameters() if p.grad is not None)


def test_guidance_moves_evidence_into_the_mask() -> None:
    """A few steps of the localisation loss alone raise the energy inside."""
    batch, guided = batch_of(), objective(weight=100.0)
    counts, optimizer = guided.counts(batch), torch.optim.Adam(guided.parameters(), 0.01)
    values = []
    for _ in range(15):
        optimizer.zero_grad()
        step = guided(batch, counts)
        step.loss.backward()
        optimizer.step()
        values.append(float(step.terms["localization"]))
    assert values[-1] < values[0] - 0.1


def test_weight_zero_skips_the_map() -> None:
    batch, guided = batch_of(), objective(weight=0.0, attribution="this would be an error")
    assert set(guided(batch, guided.counts(batch)).terms) == {"classification"}


def test_wrong_settings_are_clear() -> None:
    with pytest.raises(ValueError, match="no depth 'mid9'; it has input, mid1, final"):
        objective(depth="mid9")
    for name, value in (("classification", "mse"), ("weighting", "group"), ("reduction", "max")):
        with pytest.raises(ValueError, match=f"{name} must be .* not '{value}'"):
            objective(**{name: value})
