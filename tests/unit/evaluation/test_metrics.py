"""Scores of maps and metrics of a split: exact values, slow references, torchmetrics, undefined cases, merging."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor
from torchmetrics.functional import classification

from guidance.evaluation.metrics import METRICS, fit_iou_threshold, per_class, summarize
from guidance.evaluation.rows import IOU_THRESHOLDS, Rows, collect, merge
from guidance.evaluation.scores import epg, has_energy, iou, seg_epg, x_seg_epg
from guidance.maps import upsample
from guidance.types import Batch, Regions
from tests.reference import formulas as reference

MAP = torch.tensor([[4.0, -2.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, 2.0]])
BOX = torch.zeros(4, 4, dtype=torch.bool)
BOX[:2, :2] = True
CORNER = torch.zeros(4, 4, dtype=torch.bool)
CORNER[0, 0] = True


def make_rows(logits: Sequence[Sequence[float]], targets: Sequence[Sequence[float]], **settings: object) -> Rows:
    """Rows of samples without regions."""
    n = len(logits)
    none = torch.zeros(0)
    rows = Rows(
        index=torch.arange(n),
        logits=torch.tensor(logits, dtype=torch.float64).reshape(n, -1),
        targets=torch.tensor(targets).reshape(n, -1) > 0,
        groups=torch.full((n,), -1), active=torch.zeros(n, 0).double(),
        region_index=none.long(), region_target=none.long(), kind=none.long(), area=none.double(),
        pixels=none.double(), never_energy=none.double(), has_never=none.bool(), energy=none.bool(), epg=none.double(),
        iou=none.double().reshape(0, len(IOU_THRESHOLDS)), seg_epg=none.double(), x_seg_epg=none.double(),
        has_segment=none.bool(),
    )  # fmt: skip
    return replace(rows, **settings)


def random_batch(size: int, *, classes: int = 3, start: int = 0, segments: bool = True) -> tuple[Batch, Tensor, Tensor]:
    """A batch whose every positive class has a region; its logits and its raw maps [M, 3, 3]."""
    targets = (torch.rand(size, classes) > 0.5).float()
    image, target = targets.nonzero(as_tuple=True)
    mask = torch.rand(len(image), 6, 6) > 0.6
    segment = mask & (torch.rand(mask.shape) > 0.5) & (torch.rand(len(image), 1, 1) > 0.3)
    rounds = int(targets.sum(1).max())
    regions = Regions(image, target, mask, segment if segments else None, rounds)
    groups = torch.randint(0, 3, (size,))
    batch = Batch(torch.zeros(size, 3, 6, 6), targets, regions, groups, torch.arange(start, start + size))
    return batch, torch.randn(size, classes), torch.randn(len(image), 3, 3)


def assert_same(rows: Rows, other: Rows) -> None:
    for field in fields(Rows):
        a, b = getattr(rows, field.name), getattr(other, field.name)
        assert torch.equal(a, b) if isinstance(a, Tensor) else a == b, field.name


# Scores of maps


def test_scores_of_a_known_map() -> None:
    assert epg(MAP[None], BOX[None]).tolist() == [6 / 8]
    assert seg_epg(MAP[None], BOX[None], CORNER[None]).item() == pytest.approx(4 / 6)
    assert x_seg_epg(MAP[None], CORNER[None]).item() == pytest.approx(4 / 8)
    # Normalised: 1, 0.5 and 0.5; active above 0.25: three pixels, two in the box; above 0.5: the corner.
    assert iou(MAP[None], BOX[None], [0.25, 0.5, 1.0]).tolist()[0] == pytest.approx([2 / 5, 1 / 4, 0])


def test_iou_scales_a_positive_map_by_its_smallest_and_largest_value() -> None:
    """1, 2.75, 4.5, 8 become 0, 1/4, 1/2, 1; without the subtraction 2.75 would be 0.34."""
    maps, mask = torch.tensor([[[1.0, 2.75], [4.5, 8.0]]]), torch.tensor([[[False, False], [True, True]]])
    assert iou(maps, mask, [0.0, 0.25, 0.3, 0.5]).tolist()[0] == pytest.approx([2 / 3, 1, 1, 1 / 2])


@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e25])
def test_scores_equal_the_slow_reference_at_any_scale(scale: float) -> None:
    maps = upsample(torch.randn(8, 3, 4), (7, 6)) - torch.linspace(-1, 0.5, 8)[:, None, None]
    mask, segment = torch.rand(8, 7, 6) > 0.5, torch.rand(8, 7, 6) > 0.7
    thresholds = [0.0, 0.1, 0.5, 0.9]
    scaled = maps * scale
    exact = maps.double()
    close = {"rel": 1e-5, "abs": 1e-6}
    pairs = list(zip(exact, mask, segment, strict=True))
    assert epg(scaled, mask).tolist() == pytest.approx([reference.epg(a, m) for a, m, _ in pairs], **close)
    assert x_seg_epg(scaled, segment).tolist() == pytest.approx(
        [reference.x_seg_epg(a, s) for a, _, s in pairs], **close
    )
    expected = [reference.seg_epg(a, m, s) for a, m, s in pairs]
    assert seg_epg(scaled, mask, segment).tolist() == pytest.approx(expected, **close)
    for row, (a, m, _) in zip(iou(scaled, mask, thresholds).tolist(), pairs, strict=True):
        assert row == pytest.approx([reference.iou(a, m, t) for t in thresholds], **close)
    assert has_energy(scaled).tolist() == [reference.has_energy(a) for a in exact]


def test_upsampling_equals_the_slow_reference() -> None:
    raw = torch.randn(2, 3, 5, dtype=torch.float64)
    for size in [(7, 9), (3, 5), (2, 2), (12, 5)]:
        expected = torch.tensor([reference.upsample(a, *size) for a in raw], dtype=torch.float64)
        torch.testing.assert_close(upsample(raw, size), expected)


def test_energy_inside_scores_one_and_outside_zero() -> None:
    inside = torch.where(BOX, torch.rand(4, 4) + 0.1, -torch.rand(4, 4))[None]
    assert epg(inside, BOX[None]).item() == 1
    assert epg(inside, ~BOX[None]).item() == 0


def test_a_constant_positive_map_covers_everything() -> None:
    for value in (0.1, 1e-20, 7.3):
        # Upsampling a constant leaves rounding noise, which must not be stretched to [0, 1].
        maps = upsample(torch.full((1, 3, 3), value), (7, 7))
        mask = torch.zeros(1, 7, 7, dtype=torch.bool)
        mask[0, 2:4, :3] = True
        torch.testing.assert_close(iou(maps, mask, [0.0, 0.5, 0.95]), torch.full((1, 3), 6 / 49))


def test_quadrants() -> None:
    """IoU 1/4 for a map that is active everywhere, and 1/5 for one that is active in half of each quadrant."""
    quadrant = torch.zeros(1, 4, 4, dtype=torch.bool)
    quadrant[0, :2, :2] = True
    checkerboard = (torch.arange(4)[:, None] + torch.arange(4)[None]) % 2
    assert iou(torch.ones(1, 4, 4), quadrant, [0.5]).item() == 0.25
    assert iou(checkerboard[None].float(), quadrant, [0.5]).item() == pytest.approx(2 / (8 + 2))


@pytest.mark.parametrize("maps", [torch.zeros(1, 4, 4), -torch.rand(1, 4, 4) - 0.1])
@pytest.mark.parametrize("mask", [BOX, torch.zeros_like(BOX), torch.ones_like(BOX)])
def test_maps_without_positive_energy_score_zero(maps: Tensor, mask: Tensor) -> None:
    assert not has_energy(maps).any()
    assert epg(maps, mask[None]).item() == 0
    assert x_seg_epg(maps, mask[None]).item() == 0
    assert seg_epg(maps, mask[None], mask[None]).item() == 0
    assert not iou(maps, mask[None], [0.0, 0.5]).any()


def test_empty_masks_score_zero() -> None:
    empty = torch.zeros(1, 4, 4, dtype=torch.bool)
    assert epg(MAP[None], empty).item() == 0
    assert seg_epg(MAP[None], empty, BOX[None]).item() == 0
    assert seg_epg(MAP[None], BOX[None], empty).item() == 0
    assert not iou(MAP[None], empty, [0.0, 1.0]).any()


def test_seg_epg_disregards_what_lies_outside_the_box() -> None:
    everything = torch.ones(1, 4, 4, dtype=torch.bool)
    assert seg_epg(MAP[None], BOX[None], everything).item() == 1


def test_scores_of_no_maps() -> None:
    maps, mask = torch.zeros(0, 4, 4), torch.zeros(0, 4, 4, dtype=torch.bool)
    assert epg(maps, mask).shape == seg_epg(maps, mask, mask).shape == has_energy(maps).shape == (0,)
    assert iou(maps, mask, [0.1, 0.5]).shape == (0, 2)


# Classification


LOGITS = [[2.0, -1.0, 0.0], [-0.5, 3.0, -2.0], [1.0, 0.5, -1.0], [-3.0, -0.1, -0.2]]
TARGETS = [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]


def test_micro_f1_by_hand() -> None:
    """Predicted (a logit of 0 counts): 0 and 2; 1; 0 and 1; none. Hits: 3 of 5 predicted, 5 positive."""
    metrics = summarize(make_rows(LOGITS, TARGETS))
    assert metrics["f1"] == 6 / 10
    assert metrics["precision"] == 3 / 5
    assert metrics["recall"] == 3 / 5
    assert metrics["accuracy"] == pytest.approx(8 / 12)


def test_argmax_decisions_by_hand() -> None:
    """Largest logits: 0, 1, 0, 1; targets 0, 1, 1, 2."""
    targets = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    metrics = summarize(make_rows(LOGITS, targets, decision="argmax", single_label=True))
    assert metrics["accuracy"] == metrics["f1"] == metrics["precision"] == metrics["recall"] == 0.5
    thresholded = summarize(make_rows(LOGITS, targets, single_label=True))
    assert thresholded["accuracy"] == 0.5
    assert thresholded["f1"] == 2 * 3 / (5 + 4)


def test_average_precision_by_hand() -> None:
    """Class 0 ranks +, -, +: 1/2 * 1 + 1/2 * 2/3. Class 1 has a tie of + and -: 1/2. Class 2 has no positive: left out."""
    logits = [[3.0, 1.0, 0.0], [2.0, 1.0, 1.0], [1.0, -1.0, 2.0]]
    targets = [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    assert summarize(make_rows(logits, targets))["map"] == pytest.approx((5 / 6 + 1 / 2) / 2)


@pytest.mark.parametrize("decision", ["threshold", "argmax"])
@pytest.mark.parametrize("single_label", [False, True])
def test_classification_equals_the_slow_reference(decision: str, single_label: bool) -> None:
    logits = (torch.randn(30, 4) * 2).round(decimals=1).double()  # with ties
    label = torch.nn.functional.one_hot(torch.randint(0, 4, (30,)), 4).double()
    targets = label if single_label else (torch.rand(30, 4) > 0.6).double()
    got = summarize(make_rows(logits.tolist(), targets.tolist(), decision=decision, single_label=single_label))
    lists = (logits.tolist(), targets.tolist(), decision)
    expected = reference.micro(*lists) | {"map": reference.mean_average_precision(*lists)}
    correct = reference.correct(*lists, single_label)
    expected["accuracy"] = sum(correct) / len(correct)
    assert {name: got[name] for name in expected} == pytest.approx(expected, rel=1e-12)


def test_classification_equals_torchmetrics() -> None:
    logits, targets = torch.randn(60, 5).double(), (torch.rand(60, 5) > 0.7).long()
    rows = make_rows(logits.tolist(), targets.tolist())
    ours = summarize(rows)
    probabilities = logits.sigmoid()
    options = {"num_labels": 5, "average": "micro"}
    assert ours["f1"] == pytest.approx(classification.multilabel_f1_score(probabilities, targets, **options).item())
    assert ours["precision"] == pytest.approx(
        classification.multilabel_precision(probabilities, targets, **options).item()
    )
    assert ours["recall"] == pytest.approx(classification.multilabel_recall(probabilities, targets, **options).item())
    assert ours["accuracy"] == pytest.approx(
        classification.multilabel_accuracy(probabilities, targets, **options).item()
    )
    expected = classification.multilabel_average_precision(probabilities, targets, num_labels=5).item()
    assert ours["map"] == pytest.approx(expected, rel=1e-5)

    label = torch.randint(0, 5, (60,))
    one_hot = torch.nn.functional.one_hot(label, 5)
    ours = summarize(make_rows(logits.tolist(), one_hot.tolist(), decision="argmax", single_label=True))
    expected = classification.multiclass_average_precision(logits.softmax(1), label, num_classes=5).item()
    assert ours["map"] == pytest.approx(expected, rel=1e-5)
    accuracy = classification.multiclass_accuracy(logits, label, num_classes=5, average="micro").item()
    assert ours["accuracy"] == pytest.approx(accuracy)


def test_large_logits_are_ranked_although_their_sigmoid_is_one() -> None:
    rows = make_rows([[60.0], [50.0], [40.0]], [[1.0], [1.0], [0.0]])
    assert METRICS["map"](rows) == 1


# Groups


def grouped(groups: list[int], correct: list[bool], **settings: object) -> Rows:
    logits = [[1.0, 0.0] if c else [0.0, 1.0] for c in correct]
    names = ("land/land", "land/water", "water/land", "water/water")
    rows = make_rows(logits, [[1.0, 0.0]] * len(correct), single_label=True, group_names=names, **settings)
    return replace(rows, groups=torch.tensor(groups))


def test_group_accuracies_by_hand() -> None:
    rows = grouped([0, 0, 0, 0, 1, 1, 2, 3], [True, True, True, False, True, False, True, True],
                   training_groups=(60, 20, 5, 15))  # fmt: skip
    metrics = summarize(rows)
    assert metrics["accuracy_group/land/land"] == 0.75
    assert metrics["accuracy_group/land/water"] == 0.5
    assert metrics["worst_group_accuracy"] == 0.5
    assert metrics["accuracy"] == 6 / 8
    assert metrics["mean_group_accuracy"] == pytest.approx((0.75 + 0.5 + 1 + 1) / 4)
    assert metrics["adjusted_accuracy"] == pytest.approx(0.6 * 0.75 + 0.2 * 0.5 + 0.05 + 0.15)


def test_empty_groups_and_samples_without_a_group() -> None:
    rows = grouped([0, 0, 3, -1], [True, False, True, False], training_groups=(3, 0, 0, 1))
    metrics = summarize(rows)
    assert math.isnan(metrics["accuracy_group/land/water"])
    assert metrics["worst_group_accuracy"] == 0.5
    assert metrics["mean_group_accuracy"] == 0.75
    assert metrics["adjusted_accuracy"] == pytest.approx(0.75 * 0.5 + 0.25)
    # Also where the first group is the empty one: NaN is no minimum.
    assert summarize(grouped([1, 1, 3], [True, False, True]))["worst_group_accuracy"] == 0.5
    missing = summarize(replace(rows, training_groups=(3, 1, 0, 1)))
    assert math.isnan(missing["adjusted_accuracy"])


def test_the_worst_group_and_how_many_samples_it_has() -> None:
    """Group 0 is empty and comes first; 1 and 3 are equally bad, and the smaller counts."""
    logits = [[1, 0]] * 7
    targets = [[1, 0], [0, 1], [1, 0], [1, 0], [0, 1], [1, 0], [0, 1]]
    groups = torch.tensor([1, 1, 2, 3, 3, 3, 3])
    rows = make_rows(
        logits, targets, groups=groups, group_names=("a", "b", "c", "d"), single_label=True, decision="argmax"
    )
    metrics = summarize(rows)
    assert (metrics["worst_group_accuracy"], metrics["worst_group_images"]) == (0.5, 2.0)
    assert metrics["mean_group_accuracy"] == pytest.approx((0.5 + 1 + 0.5) / 3)
    assert math.isnan(metrics["accuracy_group/a"])
    assert math.isnan(summarize(make_rows(logits, targets))["worst_group_images"])


def test_scores_of_each_class() -> None:
    logits = [[3.0, 1.0, -9.0], [0.0, 2.0, -9.0], [1.0, 2.0, -9.0], [-1.0, 0.5, -9.0]]
    targets = [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]]
    single = make_rows(logits, targets, single_label=True)
    found = per_class(single, ("a", "b", "c"))
    assert list(found) == ["accuracy_class/a", "accuracy_class/b", "ap_class/a", "ap_class/b"]  # nothing shows c
    assert (found["accuracy_class/a"], found["accuracy_class/b"]) == (0.5, 1.0)
    # a: ranked 3 (yes), 1, 0 (yes), -1. b: 2 and 2 tie (one yes), 1, 0.5 (yes).
    assert (found["ap_class/a"], found["ap_class/b"]) == pytest.approx(((1 + 2 / 3) / 2, (1 / 2 + 2 / 4) / 2))
    several = make_rows(logits, [[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]])
    found = per_class(several, ("a", "b", "c"))
    # Above 0: a in samples 0, 1, 2; b in all four.
    assert (found["f1_class/a"], found["f1_class/b"]) == pytest.approx((2 * 2 / (2 + 3), 2 * 3 / (3 + 4)))
    assert summarize(several)["map"] == pytest.approx((found["ap_class/a"] + found["ap_class/b"]) / 2)


def test_without_groups_their_metrics_are_undefined() -> None:
    metrics = summarize(make_rows(LOGITS, TARGETS))
    for name in ("worst_group_accuracy", "mean_group_accuracy", "adjusted_accuracy"):
        assert math.isnan(metrics[name])
    assert not [name for name in metrics if name.startswith("accuracy_group")]


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match="'softmax'"):
        make_rows(LOGITS, TARGETS, decision="softmax")
    with pytest.raises(ValueError, match="2 counts for 1"):
        make_rows(LOGITS, TARGETS, group_names=("a",), training_groups=(1, 2))


# Rows


def test_collected_rows_hold_the_reference_scores() -> None:
    batch, logits, raw = random_batch(6)
    rows = merge([collect(batch, logits, raw, iou_threshold=0.25)])
    assert rows.index.tolist() == list(range(6))
    torch.testing.assert_close(rows.logits, logits.double())
    regions = batch.regions
    assert regions.segment is not None
    maps = [torch.tensor(reference.upsample(a, 6, 6)) for a in raw]
    expected_iou = [reference.iou(a, m, 0.25) for a, m in zip(maps, regions.mask, strict=True)]
    assert summarize(rows)["iou"] == pytest.approx(sum(expected_iou) / len(maps), rel=1e-6)
    expected = [reference.epg(a, m) for a, m in zip(maps, regions.mask, strict=True)]
    assert rows.epg.tolist() == pytest.approx(expected, rel=1e-5)
    assert summarize(rows)["epg"] == pytest.approx(sum(expected) / len(maps), rel=1e-6)
    assert summarize(rows)["epg_chance"] == pytest.approx(regions.mask.double().mean().item())
    chosen = regions.segment.flatten(1).any(1).tolist()
    triples = [t for t, c in zip(zip(maps, regions.mask, regions.segment, strict=True), chosen, strict=True) if c]
    expected = [reference.seg_epg(*t) for t in triples]
    assert summarize(rows)["seg_epg"] == pytest.approx(sum(expected) / len(expected), rel=1e-5)
    expected = [reference.x_seg_epg(a, s) for a, _, s in triples]
    assert summarize(rows)["x_seg_epg"] == pytest.approx(sum(expected) / len(expected), rel=1e-5)


def test_maps_without_energy_are_counted_and_score_zero_in_the_mean() -> None:
    batch, logits, raw = random_batch(6)
    raw[:2] = 0
    metrics = summarize(collect(batch, logits, raw))
    assert metrics["zero_maps"] == 2 / len(raw)
    maps = [reference.upsample(a, 6, 6) for a in raw]
    expected = sum(reference.epg(a, m) for a, m in zip(maps, batch.regions.mask, strict=True)) / len(maps)
    assert metrics["epg"] == pytest.approx(expected, rel=1e-5)


def test_images_need_not_be_square() -> None:
    mask = torch.zeros(1, 2, 4, dtype=torch.bool)
    mask[0, 0, :3] = True
    regions = Regions(torch.tensor([0]), torch.tensor([1]), mask, None, 1)
    batch = Batch(torch.zeros(1, 3, 2, 4), torch.tensor([[0.0, 1.0]]), regions, torch.tensor([-1]), torch.tensor([0]))
    rows = collect(batch, torch.zeros(1, 2), torch.ones(1, 1, 2))
    assert (rows.pixels.tolist(), rows.area.tolist(), rows.epg.tolist()) == ([3], [0.375], [0.375])


def test_rows_without_maps_or_without_segments() -> None:
    batch, logits, raw = random_batch(5, segments=False)
    without_maps = summarize(collect(batch, logits))
    assert not math.isnan(without_maps["f1"])
    assert all(math.isnan(without_maps[name]) for name in ("epg", "iou", "epg_chance", "zero_maps", "seg_epg"))
    without_segments = summarize(collect(batch, logits, raw))
    assert not math.isnan(without_segments["epg"])
    assert math.isnan(without_segments["seg_epg"])
    assert math.isnan(without_segments["x_seg_epg"])


def test_sparsity_by_hand() -> None:
    """Two images, masks of 4 and of 16 cells; the merged mask is that of the larger stage or of the other one, enlarged."""
    large = torch.zeros(2, 1, 4, 4)
    large[0, 0, 0, :3] = 1
    small = torch.zeros(2, 1, 2, 2)
    small[0, 0, 1, 1] = small[1, 0, 0, 0] = 1
    logits, batch = torch.randn(2, 3), images_without_regions(2)
    rows = merge([collect(batch, logits, None, {"stage2": large, "stage3": small})])
    assert rows.stages == ("stage2", "stage3", "merged")
    assert rows.active.tolist() == [[3 / 16, 1 / 4, 7 / 16], [0, 1 / 4, 4 / 16]]
    found = summarize(rows)
    assert found["sparsity/stage2"] == 3 / 32
    assert found["sparsity/stage3"] == 1 / 4
    assert found["sparsity_merged"] == 11 / 32
    assert found["sparsity"] == (3 / 32 + 1 / 4) / 2
    plain = summarize(merge([collect(batch, logits, None)]))
    assert math.isnan(plain["sparsity"])
    assert math.isnan(plain["sparsity_merged"])
    assert not any(name.startswith("sparsity/") for name in plain)


def images_without_regions(count: int) -> Batch:
    nothing = torch.zeros(0, dtype=torch.long)
    regions = Regions(nothing, nothing, torch.zeros(0, 4, 4, dtype=torch.bool), None, 0)
    targets = torch.nn.functional.one_hot(torch.arange(count) % 3, 3).float()
    return Batch(torch.zeros(count, 3, 4, 4), targets, regions, torch.full((count,), -1), torch.arange(count))


def test_an_undefined_metric_is_nan() -> None:
    nothing = summarize(make_rows([[-1.0], [-2.0]], [[0.0], [0.0]]))
    assert all(math.isnan(nothing[name]) for name in ("f1", "precision", "recall", "map"))
    assert nothing["accuracy"] == 1
    silent = summarize(make_rows([[-1.0], [-2.0]], [[1.0], [0.0]]))
    assert silent["f1"] == silent["precision"] == silent["recall"] == 0


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_metrics_are_identical_for_any_split_and_order(parts: int, seed: int) -> None:
    batch, logits, raw = random_batch(11)
    settings = {"group_names": ("a", "b", "c"), "training_groups": (5, 3, 2)}
    whole = merge([collect(batch, logits, raw, **settings)])
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(11, generator=generator)
    pieces = []
    for share in order.tensor_split(parts):
        rank = {int(row): position for position, row in enumerate(share)}
        every = torch.randperm(len(raw), generator=generator).tolist()
        pairs = torch.tensor([m for m in every if int(batch.regions.image[m]) in rank], dtype=torch.long)
        r = batch.regions
        assert r.segment is not None
        image = torch.tensor([rank[row] for row in r.image[pairs].tolist()], dtype=torch.long)
        regions = Regions(image, r.target[pairs], r.mask[pairs], r.segment[pairs], r.rounds)
        part = Batch(batch.images[share], batch.targets[share], regions, batch.groups[share], batch.index[share])
        pieces.append(collect(part, logits[share], raw[pairs], **settings))
    merged = merge(pieces[::-1])
    assert_same(merged, whole)
    assert summarize(merged) == summarize(whole)
    assert fit_iou_threshold(merged) == fit_iou_threshold(whole)


def test_metrics_do_not_depend_on_the_number_of_threads() -> None:
    n = 50_000
    rows = make_rows(torch.randn(n, 2).tolist(), (torch.rand(n, 2) > 0.5).tolist())
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            metrics = summarize(rows)
            results.append([metrics[name] for name in ("f1", "map", "accuracy")])
    finally:
        torch.set_num_threads(before)
    assert results[0] == results[1]


def test_means_do_not_depend_on_the_order_of_the_rows() -> None:
    scores = torch.rand(1000, dtype=torch.float64)
    rows = replace(make_rows(LOGITS, TARGETS), epg=scores, kind=torch.zeros(1000, dtype=torch.long))
    assert all(
        METRICS["epg"](replace(rows, epg=scores[torch.randperm(1000)])) == METRICS["epg"](rows) for _ in range(5)
    )


def test_a_sample_or_pair_counts_once() -> None:
    batch, logits, raw = random_batch(4)
    rows = collect(batch, logits, raw)
    with pytest.raises(ValueError, match="sample 0 was evaluated twice"):
        merge([rows, rows])
    other = replace(rows, index=rows.index + 100)
    with pytest.raises(ValueError, match="explained twice"):
        merge([rows, other])


def test_rows_that_do_not_belong_together_are_refused() -> None:
    batch, logits, raw = random_batch(4)
    rows = collect(batch, logits, raw)
    with pytest.raises(ValueError, match="decision"):
        merge([rows, replace(rows, decision="argmax")])
    with pytest.raises(ValueError, match="empty on every process"):
        merge([])


# The IoU threshold


def test_the_iou_threshold_is_fitted_and_the_lowest_of_equals() -> None:
    rows = merge([collect(*random_batch(4))])
    scores = torch.zeros_like(rows.iou)
    scores[:, 3] = 0.4
    scores[:, 7] = 0.4
    scores[0, 9] = 1.0 if len(scores) < 2 else 0.3
    assert fit_iou_threshold(replace(rows, iou=scores)) == IOU_THRESHOLDS[3]
    assert fit_iou_threshold(replace(rows, iou=torch.zeros_like(scores))) == IOU_THRESHOLDS[0]


def test_the_fitted_threshold_has_the_best_mean() -> None:
    rows = merge([collect(*random_batch(8))])
    best = fit_iou_threshold(rows)
    scores = {t: summarize(rows, iou_threshold=t)["iou"] for t in rows.thresholds}
    assert scores[best] == max(scores.values())
    assert summarize(rows)["iou"] == scores[0.5]


def test_a_threshold_that_was_not_computed_is_named() -> None:
    rows = collect(*random_batch(3), thresholds=[0.25, 0.5])
    with pytest.raises(ValueError, match=r"0\.3.*0\.25, 0\.5"):
        summarize(rows, iou_threshold=0.3)


def test_without_pairs_the_threshold_stays() -> None:
    batch, logits, _ = random_batch(3)
    assert fit_iou_threshold(collect(batch, logits, iou_threshold=0.25)) == 0.25


def test_the_published_threshold_is_among_the_candidates_in_ascending_order() -> None:
    assert 0.5 in IOU_THRESHOLDS
    assert list(IOU_THRESHOLDS) == sorted(set(IOU_THRESHOLDS))
    assert len(METRICS) == len(set(METRICS))
