"""An evaluation of any data gives the numbers of the Evaluator; a front is that of the runs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from guidance import distributed, evaluate, front
from guidance.api.evaluating import Evaluated, Item
from guidance.assembly import build_evaluation_dataset, build_evaluator, build_source
from guidance.assembly.evaluation import group_counts
from guidance.data.source import Source
from guidance.models import Classifier, build_model
from tests.support.processes import run_processes
from tests.support.runs import CPU, Make, assert_same, build_tiny
from tests.support.scenarios import small_net


def as_items(images: Tensor, source: Source, *, batch: int) -> Iterator[Item]:
    """The images of a split, whose boxes are in the frame of the input, in batches, or one by one (0)."""
    labels = torch.tensor([record.classes[0] for record in source.records])
    assert source.read_segments is not None
    segments = [source.read_segments(record)[record.classes[0]] for record in source.records]
    boxes = [(torch.tensor(record.boxes), s) for record, s in zip(source.records, segments, strict=True)]
    groups = torch.tensor([record.group for record in source.records])
    if batch == 0:
        yield from zip(images, labels.tolist(), boxes, groups.tolist(), strict=True)
        return
    for start in range(0, len(images), batch):
        part = slice(start, start + batch)
        yield images[part], labels[part], boxes[part], groups[part]


@pytest.mark.parametrize("batch", [0, 4])
@pytest.mark.parametrize("threshold", ["fit", 0.05])
def test_the_numbers_are_those_of_the_evaluator(settings: Make, batch: int, threshold: Any) -> None:
    config = settings(evaluation={"scores": "all", "iou_threshold": threshold, "batch_size": 4 if batch else 1})
    source = build_source(config, "test")
    model = build_tiny(len(source.classes)).train()
    evaluator = build_evaluator(config, build_evaluation_dataset(config, source), source, CPU)
    want, rows = evaluator.with_rows(model)
    images = torch.cat([batch.to("cpu").images for batch in evaluator.loader])
    groups = dict(zip(source.groups, group_counts(source), strict=True))
    found = evaluate(
        model, as_items(images, source, batch=batch), depth="input", classification="cross_entropy", classes=source.classes,
        groups=groups, iou_threshold=threshold,
    )  # fmt: skip
    assert source.groups
    assert 0 < want["epg"] < 1
    assert 0 < want["iou"] < 1
    assert 0 < want["seg_epg"] < 1
    want.pop("localization")  # of the training loss, which an evaluation of any data does not know
    assert_same(dict(found), want)
    assert_same(found.rows.logits, rows.logits)
    assert_same(found.rows.epg, rows.epg)
    assert model.training
    table = found.table()
    assert [row["image"] for row in table] == [str(i) for i in range(len(source.records))]
    assert [row["epg"] for row in table] == rows.epg.tolist()


def multi_label() -> tuple[Classifier, list[Item]]:
    model = small_net(3).float().eval()
    images, mask = torch.randn(4, 3, 16, 16), torch.zeros(16, 16, dtype=torch.bool)
    mask[4:12, 2:9] = True
    boxes = torch.tensor([[2.0, 4.0, 9.0, 12.0]])
    targets = [torch.tensor(row) for row in ([1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 0])]
    places: list[Any] = [{0: mask, 2: boxes}, mask, None, {1: boxes}]
    return model, list(zip(images, targets, places, (0, 1, 1, -1), strict=True))


def test_several_classes_of_an_image_masks_and_groups() -> None:
    model, data = multi_label()
    found = evaluate(model, data, groups={"land": 30, "water": 10}, classes=["a", "b", "c"])
    rows = found.rows
    assert list(zip(rows.region_index.tolist(), rows.region_target.tolist(), strict=True)) == [
        (0, 0),
        (0, 2),
        (1, 1),
        (3, 1),
    ]
    assert rows.has_segment.tolist() == [True, False, True, False]  # a mask is a segmentation, boxes are not
    assert rows.area.tolist() == [56 / 256] * 4
    decided = (
        torch.stack([model(image[None]).logits[0] >= 0 for image, *_ in data])
        == torch.stack([t for _, t, *_ in data]).bool()
    )
    by_image = decided.double().mean(1).tolist()
    assert found["accuracy"] == pytest.approx(sum(by_image) / 4)
    assert found["accuracy_group/land"] == by_image[0]
    assert found["accuracy_group/water"] == pytest.approx((by_image[1] + by_image[2]) / 2)
    assert found["adjusted_accuracy"] == pytest.approx((3 * by_image[0] + (by_image[1] + by_image[2]) / 2) / 4)
    assert found["worst_group_accuracy"] == min(found["accuracy_group/land"], found["accuracy_group/water"])
    assert {"f1", "map", "epg", "iou", "normalized_epg", "pixel_f1", "ap_class/b"} <= found.keys()
    batch = [torch.stack([item[0] for item in data]), torch.stack([item[1] for item in data]), [item[2] for item in data],
             torch.tensor([item[3] for item in data])]  # fmt: skip
    together = evaluate(model, [batch], groups=["land", "water"], classes=["a", "b", "c"])
    assert together["epg"] == pytest.approx(found["epg"])
    assert math.isnan(together["adjusted_accuracy"])


def test_data_without_annotations_and_boxes_that_stick_out() -> None:
    model = small_net(3).float()
    images, targets = torch.randn(2, 3, 16, 16), torch.tensor([0, 2])
    found = evaluate(model, [(images, targets)])
    assert math.isnan(found["epg"])
    assert not math.isnan(found["accuracy"])
    assert found.classes == ("0", "1", "2")
    boxes = [torch.tensor([[-3.0, 1.0, 5.0, 6.0]]), None]
    assert evaluate(model, [(images, targets, boxes)])["clipped"] == 1
    with pytest.raises(ValueError, match="of image 0 has no area"):
        evaluate(model, [(images, targets, [torch.zeros(1, 4), None])])


def test_a_threshold_that_was_fitted_on_other_data() -> None:
    model, items = multi_label()
    data = [item[:3] for item in items]
    fitted = evaluate(model, data[:2], iou_threshold="fit")
    found = evaluate(model, data[2:], iou_threshold=fitted["iou_threshold"])
    assert found["iou_threshold"] == fitted["iou_threshold"]
    scores = [evaluate(model, data[:2], iou_threshold=x)["iou"] for x in fitted.rows.settings.thresholds]
    assert fitted["iou"] == max(scores)


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        ([], {}, "no data to evaluate on"),
        ([(torch.zeros(3, 16, 16),)], {}, r"data are \(image, target, mask\)"),
        ([("a.png", 0, None)], {}, r"data are \(image, target, mask\)"),
        ([(torch.zeros(3, 16, 16), 0), (torch.zeros(3, 16, 16), torch.eye(3)[0])], {}, "class indices for all images"),
        ([(torch.zeros(3, 16, 16), 0, None, 2)], {"groups": ["a", "b"]}, "group 2 is not one of the 2 names"),
        ([(torch.zeros(3, 16, 16), 0)], {"classes": ["a", "b"]}, "the net has"),
    ],
)
def test_what_does_not_fit(data: list[Item], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(small_net(3).float(), data, **settings)


def share() -> dict[str, float]:
    torch.manual_seed(0)
    model, data = multi_label()
    return dict(evaluate(model, data[distributed.rank() :: distributed.world_size()], groups=["land", "water"]))


def test_processes_share_the_data(tmp_path: Path) -> None:
    for process in run_processes(2, tmp_path / "shares", share):
        assert_same(process, share())


def test_the_front_of_results() -> None:
    def result(**values: float) -> dict[str, float]:
        return {"f1": 0.5, "epg": 0.5, "iou": 0.5, "zero_maps": 0.0} | values

    worse, better, other = result(iou=0.4), result(f1=0.6), result(epg=0.7, f1=0.4)
    nan, close = result(epg=math.nan, f1=0.9), result(f1=0.601)
    results = [worse, better, other, nan, close]
    assert front(results) == [better, other]
    assert front(results, resolution=0) == [other, close]
    assert front(results, ["f1"]) == [nan]
    assert front([result(zero_maps=0.2), result()], ["zero_maps"]) == [result()]
    assert front([]) == []
    evaluations = [Evaluated(values, None, ()) for values in (worse, better)]  # type: ignore[arg-type]
    assert front(evaluations) == [evaluations[1]]
    with pytest.raises(ValueError, match="result 1 has no value for epg"):
        front([better, {"f1": 0.1, "iou": 0.2}])
    with pytest.raises(ValueError, match="says nothing about how good a net is"):
        front(results, ["iou_threshold"])


def test_a_net_of_the_table() -> None:
    model = build_model("resnet8", num_classes=3)
    found = evaluate(model, [(torch.randn(2, 3, 32, 32), torch.tensor([0, 2]))], attribution="gradcam", depth="final")
    assert set(found) >= {"f1", "accuracy"}
