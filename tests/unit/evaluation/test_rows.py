"""From batches to the rows of a split: what is collected, merging in any order, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from guidance.evaluation.localization import fit_iou_threshold
from guidance.evaluation.metrics import METRICS, summarize
from guidance.evaluation.rows import RowSettings, merge
from guidance.evaluation.scores import all_scores
from guidance.evaluation.tables import Scoring, collect
from guidance.types import Batch, Regions
from tests.reference import maps as slow
from tests.reference import scores as reference
from tests.support.rows import assert_same, make_rows, random_batch

PLAIN = RowSettings()


def test_collected_rows_hold_the_reference_scores() -> None:
    batch, logits, raw = random_batch(6)
    rows = merge([collect(batch, logits, raw)], RowSettings(iou_threshold=0.25))
    assert rows.index.tolist() == list(range(6))
    torch.testing.assert_close(rows.logits, logits.double())
    regions = batch.regions
    assert regions.segment is not None
    maps = [torch.tensor(slow.upsample(a, 6, 6)) for a in raw]
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
    metrics = summarize(merge([collect(batch, logits, raw)], PLAIN))
    assert metrics["zero_maps"] == 2 / len(raw)
    maps = [slow.upsample(a, 6, 6) for a in raw]
    expected = sum(reference.epg(a, m) for a, m in zip(maps, batch.regions.mask, strict=True)) / len(maps)
    assert metrics["epg"] == pytest.approx(expected, rel=1e-5)


def test_images_need_not_be_square() -> None:
    mask = torch.zeros(1, 2, 4, dtype=torch.bool)
    mask[0, 0, :3] = True
    regions = Regions(torch.tensor([0]), torch.tensor([1]), mask, None, 1)
    batch = Batch(torch.zeros(1, 3, 2, 4), torch.tensor([[0.0, 1.0]]), regions, torch.tensor([-1]), torch.tensor([0]))
    rows = merge([collect(batch, torch.zeros(1, 2), torch.ones(1, 1, 2))], PLAIN)
    assert (rows.pixels.tolist(), rows.area.tolist(), rows.epg.tolist()) == ([3], [0.375], [0.375])


def test_rows_without_maps_or_without_segments() -> None:
    batch, logits, raw = random_batch(5, segments=False)
    without_maps = summarize(merge([collect(batch, logits)], PLAIN))
    assert not math.isnan(without_maps["f1"])
    assert all(math.isnan(without_maps[name]) for name in ("epg", "iou", "epg_chance", "zero_maps", "seg_epg"))
    without_segments = summarize(merge([collect(batch, logits, raw)], PLAIN))
    assert not math.isnan(without_segments["epg"])
    assert math.isnan(without_segments["seg_epg"])
    assert math.isnan(without_segments["x_seg_epg"])


def images_without_regions(count: int) -> Batch:
    nothing = torch.zeros(0, dtype=torch.long)
    regions = Regions(nothing, nothing, torch.zeros(0, 4, 4, dtype=torch.bool), None, 0)
    targets = torch.nn.functional.one_hot(torch.arange(count) % 3, 3).float()
    return Batch(torch.zeros(count, 3, 4, 4), targets, regions, torch.full((count,), -1), torch.arange(count))


def test_sparsity_by_hand() -> None:
    """Two images, masks of 4 and of 16 cells; the merged mask is that of the larger stage or of the other one, enlarged."""
    large = torch.zeros(2, 1, 4, 4)
    large[0, 0, 0, :3] = 1
    small = torch.zeros(2, 1, 2, 2)
    small[0, 0, 1, 1] = small[1, 0, 0, 0] = 1
    logits, batch = torch.randn(2, 3), images_without_regions(2)
    rows = merge([collect(batch, logits, None, {"stage2": large, "stage3": small})], PLAIN)
    expected = {"stage2": [3 / 16, 0], "stage3": [1 / 4, 1 / 4], "merged": [7 / 16, 4 / 16]}
    assert {stage: share.tolist() for stage, share in rows.active.items()} == expected
    assert list(rows.active) == list(expected)
    found = summarize(rows)
    assert found["sparsity/stage2"] == 3 / 32
    assert found["sparsity/stage3"] == 1 / 4
    assert found["sparsity_merged"] == 11 / 32
    assert found["sparsity"] == (3 / 32 + 1 / 4) / 2
    plain = summarize(merge([collect(batch, logits, None)], PLAIN))
    assert math.isnan(plain["sparsity"])
    assert math.isnan(plain["sparsity_merged"])
    assert not any(name.startswith("sparsity/") for name in plain)


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_metrics_are_identical_for_any_split_and_order(parts: int, seed: int) -> None:
    batch, logits, raw = random_batch(11)
    settings = RowSettings(group_names=("a", "b", "c"), training_groups=(5, 3, 2))
    whole = merge([collect(batch, logits, raw)], settings)
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
        pieces.append(collect(part, logits[share], raw[pairs]))
    merged = merge(pieces[::-1], settings)
    assert_same(merged, whole)
    assert summarize(merged) == summarize(whole)
    assert fit_iou_threshold(merged) == fit_iou_threshold(whole)


def test_means_do_not_depend_on_the_order_of_the_rows() -> None:
    scores = torch.rand(1000, dtype=torch.float64)
    rows = replace(make_rows([[2.0]], [[1.0]]), epg=scores, kind=torch.zeros(1000, dtype=torch.long))
    metric = METRICS["epg"].function
    assert all(metric(replace(rows, epg=scores[torch.randperm(1000)])) == metric(rows) for _ in range(5))


def test_a_sample_or_pair_counts_once() -> None:
    tables = collect(*random_batch(4))
    with pytest.raises(ValueError, match="sample 0 was evaluated twice"):
        merge([tables, tables], PLAIN)
    other = tables._replace(samples=tables.samples | {"index": tables.samples["index"] + 100})
    with pytest.raises(ValueError, match="explained twice"):
        merge([tables, other], PLAIN)


def test_tables_that_do_not_belong_together_are_refused() -> None:
    batch, logits, raw = random_batch(4)
    tables = collect(batch, logits, raw)
    with pytest.raises(
        ValueError, match=r"only some have a column; these: pixel_f1, pixel_iou, pixel_precision, .*region"
    ):
        merge([tables, collect(batch, logits, raw, scoring=Scoring(more=all_scores))], PLAIN)
    with pytest.raises(ValueError, match="only some have a column; these: merged, stage4"):
        merge([tables, collect(batch, logits, raw, {"stage4": torch.ones(4, 1, 2, 2)})], PLAIN)
    with pytest.raises(ValueError, match="computed at 2 thresholds, but the settings name 24"):
        merge([collect(batch, logits, raw, scoring=Scoring(thresholds=(0.25, 0.5)))], PLAIN)
    with pytest.raises(ValueError, match="empty on every process"):
        merge([], PLAIN)


def test_the_rows_of_some_samples() -> None:
    """What is left equals what those samples alone would have given."""
    batches = [random_batch(4, start=start) for start in (0, 4, 8)]
    settings = RowSettings(single_label=False)
    every = merge([collect(*batch) for batch in batches], settings)
    some = merge([collect(*batches[0]), collect(*batches[2])], settings)
    wanted = (every.index < 4) | (every.index >= 8)
    assert_same(every.of_samples(wanted), some)
    none = every.of_samples(torch.zeros_like(wanted))
    assert len(none.index) == len(none.region_index) == len(none.iou) == 0
    assert all(
        math.isnan(value) for name, value in summarize(none).items() if name in ("f1", "accuracy", "map", "epg", "iou")
    )
