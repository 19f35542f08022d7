"""Never regions, boxes or masks in which evidence must not lie, are the trainer's, bit for bit."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from guidance import GuidedLoss
from guidance.api.regions import annotated_pairs, regions_of
from guidance.data import Record, Sample, Source, collate
from guidance.data.annotation import RegionOptions, annotate, resolve
from guidance.losses import LOCALIZATION_LOSSES
from guidance.regions import BOX, NEVER, SEGMENT
from guidance.types import Batch
from tests.api.losses.steps import BOXES, LABELS, gradients, net, trainer_step
from tests.support import objectives as make
from tests.support.runs import assert_same

NEVER_BOXES = {0: [(3.0, 1.0, 5.6, 6.0)], 3: [(0.0, 0.0, 4.0, 12.0), (8.2, 7.7, 11.9, 10.0)]}  # 3 knows nothing else
TARGETS = torch.tensor(LABELS)


def boxes_of(given: dict[int, list[tuple[float, ...]]]) -> list[Tensor | None]:
    return [torch.tensor(given[i]) if i in given else None for i in range(4)]


def loaded(images: Tensor) -> Batch:
    """The batch as the loader of a data set with such records makes it."""
    height, width = images.shape[2:]
    samples = []
    for i, image in enumerate(images):
        k = LABELS[i]
        boxes, never = tuple(BOXES.get(i, ())), tuple(NEVER_BOXES.get(i, ()))
        record = Record(
            Path(f"{i}.png"), (k,), boxes, (k,) * len(boxes), never_boxes=never, never_classes=(k,) * len(never)
        )
        source = Source("made", "train", tuple("abcd"), (record,), single_label=True)
        annotation = annotate(source, record, height, width, RegionOptions())
        pairs = resolve({"image": image, "boxes": annotation.boxes}, annotation)
        targets = torch.eye(4)[k]
        samples.append(
            Sample(image, targets, pairs.classes, pairs.masks, None, -1, i, kinds=pairs.kinds, never=pairs.never)
        )
    return collate(samples)


@pytest.mark.parametrize("name", ["xdnn", "bcos_resnet", "batchnorm local"])
@pytest.mark.parametrize("loss", ["energy", "rrr"])
def test_a_step_is_the_trainers(name: str, loss: str) -> None:
    """With a box beside a never box, a box, and never boxes alone; as boxes and as masks."""
    model, images = net(name)
    batch, settings = loaded(images), {"weight": 0.3, "reduction": "mean", "attribution": "ixg", "depth": "input"}
    objective = make.guided(copy.deepcopy(model), localization=LOCALIZATION_LOSSES[loss].function, **settings)
    (step,) = trainer_step(objective, batch)
    boxes, never = boxes_of(BOXES), boxes_of(NEVER_BOXES)
    regions = regions_of(annotated_pairs(TARGETS, boxes, never=never), *images.shape[2:])
    for field, found, expected in zip(regions._fields, regions, batch.regions, strict=True):
        assert field == "segment" or (torch.equal(found, expected) if isinstance(found, Tensor) else found == expected)
    assert batch.regions.never is not None
    masks = torch.zeros(4, *images.shape[2:], dtype=torch.bool)
    masks[batch.regions.image] = batch.regions.never
    guided = GuidedLoss(model, loss, **settings)  # type: ignore[arg-type]
    state = copy.deepcopy(model.state_dict())
    for given in (never, masks, [None if mask is None else mask[None][0] for mask in masks]):
        model.load_state_dict(state)  # running statistics
        guided.zero_grad()
        found = guided(images, TARGETS, boxes, never=given)
        found.loss.backward()
        assert torch.equal(found.loss, step.loss)
        assert_same(dict(found.terms), dict(step.terms))
        assert_same(dict(gradients(model)), dict(gradients(objective.model)))
    assert guided.counts(TARGETS, boxes, never=never).regions == 3
    assert not torch.equal(guided(images, TARGETS, boxes).loss, step.loss)


def test_regions_of_boxes_masks_and_never_regions() -> None:
    mask = torch.zeros(3, 3, dtype=torch.bool)
    mask[0] = True
    left, corner = torch.tensor([[0.0, 0.0, 1.0, 3.0]]), torch.tensor([[2.0, 2.0, 3.0, 3.0]])
    targets = torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    pairs = annotated_pairs(
        targets, [{1: corner}, None], [{0: mask}, None], never=[{0: left, 1: ~mask & False}, corner]
    )
    found = regions_of(pairs, 3, 3)
    assert (found.image.tolist(), found.target.tolist(), found.rounds) == ([0, 0, 1], [0, 1, 1], 2)
    assert found.kind is not None
    assert found.never is not None
    assert found.kind.tolist() == [SEGMENT, BOX, NEVER]
    assert found.mask.int().tolist() == [
        [[0, 1, 1], [0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0], [0, 0, 1]], [[1, 1, 1], [1, 1, 1], [1, 1, 0]],
    ]  # fmt: skip
    assert found.never.sum((1, 2)).tolist() == [3, 0, 1]
    assert regions_of(pairs[1:2], 3, 3).never is None


def test_what_does_not_fit() -> None:
    model, images = net("batchnorm frozen")
    boxes, never = boxes_of(BOXES), boxes_of(NEVER_BOXES)
    cases = [
        ("energy", boxes, [None], "never has 1 entries for 4 images"),
        ("energy", boxes, [torch.zeros(2, 5), None, None, None], r"never regions of image 0 are \[2, 5\].*or \[H, W\] bool"),
        ("energy", boxes, [{1: boxes[0]}, None, None, None], "the never regions of image 0 are of class 1, which is none"),
        ("energy", boxes, [None, None, torch.tensor([[0.0, 0, 20, 20]]), None], "of image 2 leave no place .* class 1"),
        ("l1", boxes, never, "image 3 only says where evidence for class 3 must not lie; the loss 'l1'.*Use energy or rrr"),
        ("ppce", boxes, [never[0], None, None, None], "image 0 has never regions, but the loss 'ppce' only looks inside"),
    ]  # fmt: skip
    for loss, places, given, message in cases:
        with pytest.raises(ValueError, match=message):
            GuidedLoss(model, loss, weight=1.0)(images, TARGETS, places, never=given)
    GuidedLoss(model, "l1", weight=1.0)(images, TARGETS, boxes, never=[never[0], None, None, None]).loss.backward()
    own = GuidedLoss(model, lambda maps, mask: maps.mean((1, 2)), weight=1.0)
    assert own(images, TARGETS, boxes, never=never).loss.isfinite()
