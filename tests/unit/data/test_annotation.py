"""Annotation regimes: boxes, segmentations, the best of both, places where evidence must not lie, and their build errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors

from guidance.assembly.sets import build_evaluation_dataset, build_training_dataset, choose_annotated
from guidance.config import Config, parse_config
from guidance.data import GuidanceDataset, Record, Sample, Source, collate, eval_transform, train_transform
from guidance.data.annotation import Annotation, annotate, is_annotated, only_never, resolve, unannotated
from guidance.pictures.probe import Probe
from guidance.regions import BOX, NEVER, SEGMENT
from guidance.types import Batch, Regions
from tests.support.pictures import Box, make_source, read_halves

LEFT: Box = (0, 0, 10, 20)
RIGHT: Box = (20, 0, 30, 20)
FULL: Box = (0, 0, 30, 20)
THIRDS = {"left": range(10), "middle": range(10, 20), "right": range(20, 30)}


def columns(mask: Tensor) -> list[int]:
    """The columns that `mask` [H, W] covers in full; it must cover nothing else."""
    assert torch.equal(mask.any(0), mask.all(0))
    return torch.nonzero(mask.any(0)).flatten().tolist()


def sample(source: Source, index: int = 0, **options: Any) -> Sample:
    return GuidanceDataset(source, eval_transform(30), training=False, **options)[0, index]


def covered(found: Sample) -> dict[int, list[int]]:
    return {int(k): columns(mask) for k, mask in zip(found.classes, found.masks, strict=True)}


def with_never(source: Source, never: Sequence[tuple[int, Box]], index: int = 0) -> Source:
    """`source`, one image of which must not show evidence for the given classes in the given boxes."""
    records = list(source.records)
    records[index] = records[index]._replace(
        never_boxes=tuple(box for _, box in never), never_classes=tuple(k for k, _ in never)
    )
    return dataclasses.replace(source, records=tuple(records))


# What a mask is made of. The fixture segments even classes in the left half, odd ones in the right half, class 3 nowhere.


def test_each_regime_takes_its_masks(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(0, RIGHT), (3, LEFT)]])
    box, segment, best = (sample(source, region=region) for region in ("box", "segment", "best"))
    assert covered(box) == {0: [*range(20, 30)], 3: [*range(10)]}
    assert covered(segment) == {0: [*range(15)]}  # class 3 has no segmentation: unannotated
    assert covered(best) == {0: [*range(15)], 3: [*range(10)]}
    kinds = [found.kinds.tolist() for found in (box, segment, best) if found.kinds is not None]
    assert kinds == [[BOX, BOX], [SEGMENT], [SEGMENT, BOX]]
    assert [found.dropped for found in (box, segment, best)] == [0, 0, 0]
    assert all(found.targets.tolist() == [1, 0, 0, 1] for found in (box, segment, best))
    assert [found.segments for found in (box, segment, best)] == [None] * 3  # only metrics need them beside the masks


def test_a_class_with_a_segmentation_and_no_box_is_a_pair(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(1, LEFT)]])
    source = dataclasses.replace(source, records=(source.records[0]._replace(boxes=(), box_classes=()),))
    assert [len(sample(source, region=region).classes) for region in ("box", "segment", "best")] == [0, 1, 1]
    found = sample(source, region="best", load_segments=True)
    assert covered(found) == {1: [*range(15, 30)]}
    assert found.segments is not None
    assert torch.equal(found.segments, found.masks)


def test_an_empty_segmentation_is_none(tmp_path: Path) -> None:
    def empty(record: Record) -> Mapping[int, Tensor]:
        return {k: torch.zeros(20, 30, dtype=torch.bool) for k in record.classes}

    source = make_source(tmp_path, [[(0, LEFT)]], read_segments=empty)
    assert covered(sample(source, region="best")) == {0: [*range(10)]}
    assert sample(source, region="segment").classes.tolist() == []


def test_a_segmentation_that_vanishes_gives_way_to_its_box(tmp_path: Path) -> None:
    """An object of one pixel, at a quarter of the size, lies between the cells; its box covers a pixel at any size."""

    def dot(record: Record) -> Mapping[int, Tensor]:
        mask = torch.zeros(20, 30, dtype=torch.bool)
        mask[4, 4] = True
        return {0: mask}

    source = make_source(tmp_path, [[(0, (4, 4, 5, 5))]], read_segments=dot)
    for region, dropped in (("box", 0), ("segment", 1), ("best", 0)):
        found = GuidanceDataset(source, eval_transform(5), training=False, region=region)[0, 0]
        assert found.dropped == dropped
        if not dropped:
            assert found.kinds is not None
            assert (found.kinds.tolist(), int(found.masks.sum())) == ([BOX], 1)


def test_segmentations_end_where_evidence_must_not_lie(tmp_path: Path) -> None:
    """Else X-SegEPG could exceed EPG, whose mask ends there too."""
    source = with_never(make_source(tmp_path, [[(0, FULL)]]), [(0, LEFT)])
    for region in ("box", "best"):
        found = sample(source, region=region, load_segments=True)
        assert found.segments is not None
        assert [columns(segment) for segment in found.segments] == [[*range(10, 15)]]
        assert (found.segments <= found.masks).all()


def test_segmentations_of_classes_that_are_no_label_are_left_out(tmp_path: Path) -> None:
    def every(record: Record) -> Mapping[int, Tensor]:
        return dict.fromkeys(range(4), torch.ones(20, 30, dtype=torch.bool))

    source = make_source(tmp_path, [[(0, LEFT)]], read_segments=every)
    assert sample(source, region="segment").classes.tolist() == [0]


def test_dilation_grows_boxes_only(tmp_path: Path) -> None:
    source = with_never(make_source(tmp_path, [[(0, LEFT), (3, (10, 0, 20, 20))]]), [(3, (19, 0, 20, 20))])
    assert covered(sample(source, region="best", dilation=0.5)) == {0: [*range(15)], 3: [*range(5, 19), *range(20, 25)]}


def test_segmentations_move_with_the_image(tmp_path: Path) -> None:
    """A flip mirrors the mask, and a crop that misses the object drops the pair."""
    source = make_source(tmp_path, [[(0, LEFT)]])
    flips = GuidanceDataset(source, train_transform(30, "flip"), training=True, region="segment")
    assert {tuple(columns(flips[epoch, 0].masks[0])) for epoch in range(20)} == {(*range(15),), (*range(15, 30),)}

    def corner(record: Record) -> Mapping[int, Tensor]:
        mask = torch.zeros(20, 30, dtype=torch.bool)
        mask[0, 0] = True
        return {0: mask}

    source = make_source(tmp_path, [[(0, LEFT)]], read_segments=corner)
    crops = GuidanceDataset(source, train_transform(30, "crop_flip", scale=(0.3, 0.4)), training=True, region="best")
    found = [crops[epoch, 0] for epoch in range(20)]
    assert all(len(s.classes) + s.dropped == 1 for s in found)
    assert 0 < sum(s.dropped for s in found) < 20


def test_boxes_that_a_regime_does_not_use_do_no_harm(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(0, (5, 5, 5, 9))]])
    assert covered(sample(source, region="segment")) == {0: [*range(15)]}
    with pytest.raises(ValueError, match="has no area"):
        sample(source, region="best")


def test_a_faulty_segmentation_leaves_the_boxes(tmp_path: Path) -> None:
    def wrong(record: Record) -> Mapping[int, Tensor]:
        return {0: torch.ones(7, 7, dtype=torch.bool)}

    source = make_source(tmp_path, [[(0, LEFT)]], read_segments=wrong)
    with pytest.raises(ValueError, match=r"\(7, 7\)"):
        sample(source, region="best")
    found = sample(source, region="best", on_error="skip")
    assert (covered(found), found.skipped) == ({0: [*range(10)]}, 1)
    assert (len(sample(source, region="segment", on_error="skip").classes), sample(source).skipped) == (0, 0)


def test_complement_inverts_boxes_and_segmentations_alike(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(0, LEFT), (3, RIGHT)]], complement=True)
    assert covered(sample(source)) == {0: [*range(10, 30)], 3: [*range(20)]}
    assert covered(sample(source, region="segment")) == {0: [*range(15, 30)]}
    found = sample(source, load_segments=True)
    assert found.segments is not None
    assert columns(found.segments[0]) == [*range(15, 30)]
    assert not found.segments[1].any()  # no segmentation is not one of everything


# Places where evidence must not lie


def test_a_mask_is_what_is_allowed_less_what_is_not(tmp_path: Path) -> None:
    source = with_never(make_source(tmp_path, [[(0, (0, 0, 20, 20)), (3, RIGHT)]]), [(0, LEFT), (1, RIGHT)])
    found = sample(source)
    assert covered(found) == {0: [*THIRDS["middle"]], 1: [*range(20)], 3: [*THIRDS["right"]]}
    assert found.kinds is not None
    assert found.kinds.tolist() == [BOX, NEVER, BOX]
    assert found.never is not None
    assert [columns(never) for never in found.never] == [[*THIRDS["left"]], [*THIRDS["right"]], []]
    assert covered(sample(source, region="segment")) == {0: [*range(10, 15)], 1: [*range(20)]}
    assert sample(source, annotated=[]).classes.tolist() == []
    inverted = sample(dataclasses.replace(source, complement=True))
    assert covered(inverted) == {0: [*range(20, 30)], 1: [*range(20)], 3: [*range(20)]}  # never boxes stay as they are


def test_regions_are_neither_inverted_nor_dropped_unless_asked_for() -> None:
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [2.0, 0.0, 4.0, 1.0]])
    view = {"image": torch.zeros(3, 1, 4), "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(1, 4))}
    none = unannotated(1, 4)
    annotation = Annotation(
        classes=torch.tensor([5, 7]), kinds=torch.tensor([BOX, NEVER]), boxes=boxes, box_rows=torch.tensor([0, 1]),
        forbidden=torch.tensor([False, True]), segments=none.segments, segment_rows=none.segment_rows, skipped=0,
    )  # fmt: skip
    found = resolve(view, annotation)
    assert found.classes.tolist() == [5, 7]
    assert found.masks.int().tolist() == [[[1, 0, 0, 0]], [[1, 1, 0, 0]]]


def test_never_regions_are_loaded_where_a_split_has_them(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(0, LEFT)], [(0, LEFT)]])
    assert sample(source).never is None
    half = with_never(source, [(0, RIGHT)])
    batch = collate([sample(half, 0), sample(half, 1)])
    assert batch.regions.never is not None
    assert [bool(never.any()) for never in batch.regions.never] == [True, False]
    assert batch.regions.kind is not None
    assert batch.regions.kind.tolist() == [BOX, BOX]


def test_pairs_that_nothing_is_left_of_are_dropped(tmp_path: Path) -> None:
    source = with_never(make_source(tmp_path, [[(0, LEFT), (1, FULL)]]), [(0, (0, 0, 15, 20)), (3, FULL)])
    found = sample(source)  # class 0: its box is forbidden; class 3: everything is
    assert (found.classes.tolist(), found.dropped) == ([1], 2)
    alone = with_never(make_source(tmp_path, [[(0, LEFT)]]), [(2, RIGHT)])
    found = sample(alone, never_alone=False)
    assert (found.classes.tolist(), found.dropped) == ([0], 1)


def test_a_never_box_that_a_crop_removes_annotates_nothing(tmp_path: Path) -> None:
    source = with_never(make_source(tmp_path, [[]]), [(0, (0, 0, 1, 1))])
    crops = GuidanceDataset(source, train_transform(30, "crop_flip", scale=(0.3, 0.4)), training=True)
    found = [crops[epoch, 0] for epoch in range(20)]
    assert all(len(s.classes) + s.dropped == 1 for s in found)
    assert 0 < sum(s.dropped for s in found) < 20
    assert all(s.never is not None and s.never.flatten(1).any(1).all() for s in found)


def test_faulty_never_boxes_are_named_or_counted(tmp_path: Path) -> None:
    source = with_never(make_source(tmp_path, [[(0, LEFT)]]), [(0, (3, 3, 3, 9))])
    with pytest.raises(ValueError, match=r"0\.png has no area"):
        sample(source)
    found = sample(source, on_error="skip")
    assert (covered(found), found.skipped) == ({0: [*range(10)]}, 1)


def test_chunks_and_devices_keep_everything_of_a_pair(tmp_path: Path) -> None:
    source = with_never(make_source(tmp_path, [[(0, LEFT), (3, FULL)], [(1, RIGHT)]]), [(3, LEFT), (2, LEFT)])
    batch = collate([sample(source, i, region="best", load_segments=True) for i in range(2)])
    for name in Regions._fields:
        assert getattr(batch.to("cpu").regions, name) is getattr(batch.regions, name)
    first, second = batch.chunk(2)
    assert (first.regions.image.tolist(), second.regions.image.tolist()) == ([0, 0, 0], [0])
    for name in ("target", "mask", "segment", "kind", "never"):
        whole, parts = getattr(batch.regions, name), [getattr(part.regions, name) for part in (first, second)]
        assert torch.equal(torch.cat(parts), whole), name
    assert first.regions.kind is not None
    assert first.regions.kind.tolist() == [SEGMENT, NEVER, BOX]
    bare = Regions(*(torch.zeros(0, dtype=torch.long),) * 2, torch.zeros(0, 2, 2, dtype=torch.bool), None, 0)
    moved = Batch(torch.zeros(1, 3, 2, 2), torch.zeros(1, 1), bare, *(torch.zeros(1),) * 2).to("cpu").regions
    assert (moved.segment, moved.kind, moved.never, moved.rounds) == (None, None, None, 0)


def test_an_image_without_any_region_has_empty_tensors_of_the_right_shape(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(0, LEFT)]])
    found = sample(source, annotated=[], load_segments=True)
    assert found.masks.shape == (0, 30, 30)
    assert found.segments is not None
    assert found.segments.shape == (0, 30, 30)
    assert found.kinds is not None
    assert found.kinds.shape == (0,)
    assert annotate(source, source.records[0], 20, 30).segments.shape == (0, 20, 30)
    assert unannotated(20, 30).segments.shape == (0, 20, 30)


def test_the_frame_of_the_file_is_what_boxes_and_segmentations_are_read_in(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(0, RIGHT), (1, LEFT)]])
    found = annotate(source, source.records[0], 20, 30, region="best")
    assert found.segments.shape == (2, 20, 30)
    assert found.segment_rows.tolist() == [0, 1]
    assert found.box_rows.tolist() == [0, 1]
    assert not found.forbidden.any()


# Which images count as annotated


RECORDS = {
    "box": Record(Path("a"), (0,), ((0, 0, 1, 1),), (0,)),
    "segment": Record(Path("b"), (0,), segmentation=Path("s")),
    "never": Record(Path("c"), (0,), never_boxes=((0, 0, 1, 1),), never_classes=(0,)),
    "nothing": Record(Path("d"), (0,)),
}


@pytest.mark.parametrize(
    ("region", "expected"),
    [("box", ["box", "never"]), ("segment", ["segment", "never"]), ("best", ["box", "segment", "never"])],
)
def test_annotated_images_of_a_regime(region: str, expected: list[str]) -> None:
    assert [name for name, record in RECORDS.items() if is_annotated(record, region)] == expected


def test_pairs_that_know_only_where_evidence_must_not_lie() -> None:
    record = Record(
        Path("a"), (0, 1), ((0, 0, 1, 1),), (0,), never_boxes=((0, 0, 1, 1),) * 4, never_classes=(0, 1, 1, 2)
    )
    assert [only_never([record], region) for region in ("box", "segment", "best")] == [2, 3, 2]
    record = record._replace(segmentation=Path("s"))  # of its classes 0 and 1
    assert [only_never([record], region) for region in ("box", "segment", "best")] == [2, 1, 1]
    assert only_never([record, record, RECORDS["box"]], "box") == 4


def config(**changes: Any) -> Config:
    data = {"name": "voc", "root": "x", "image_size": 32} | changes.pop("data", {})
    return parse_config({"data": data, "model": {"name": "resnet18"}} | changes)


def guided(loss: str = "energy", **data: Any) -> Config:
    return config(data=data, objective={"localization": {"weight": 1.0, "loss": loss}})


def test_fractions_count_the_images_of_the_regime_and_are_nested(tmp_path: Path) -> None:
    """Of 12 images every third has no segmentation (class 3), and every fourth no box."""
    source = make_source(tmp_path, [[(3 if i % 3 == 0 else 0, LEFT)] for i in range(12)])
    records = [r._replace(boxes=(), box_classes=()) if i % 4 == 0 else r for i, r in enumerate(source.records)]
    source = dataclasses.replace(source, records=tuple(records))
    sizes = {"box": 9, "segment": 8, "best": 11}
    for region, size in sizes.items():
        subsets = [choose_annotated(guided(region=region, annotated_fraction=f), source) for f in (0.1, 0.5, 1.0)]
        assert [len(subset) for subset in subsets] == [max(1, size // 10), size // 2, size]
        assert set(subsets[0]) < set(subsets[1]) < set(subsets[2])
        assert all(is_annotated(records[i], region) for i in subsets[2])
    dataset, annotated = build_training_dataset(guided(region="segment", annotated_fraction=0.5), source)
    assert (dataset.region, len(annotated)) == ("segment", 4)
    assert [bool(len(dataset[0, i].classes)) for i in range(12)] == [i in annotated for i in range(12)]
    nothing = choose_annotated(config(data={"annotated_fraction": 0.0}), source)
    assert nothing == []


def test_an_evaluation_without_any_annotation_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = make_source(tmp_path, [[(0, LEFT)]])
    source = dataclasses.replace(source, records=(source.records[0]._replace(boxes=(), box_classes=()),))
    build_evaluation_dataset(config(evaluation={"region": "segment"}), source)
    assert not caplog.records
    dataset = build_evaluation_dataset(config(), source)
    assert "no image of pictures train has an annotation under evaluation.region 'box'" in caplog.text
    assert (dataset.region, dataset.load_segments) == ("box", True)
    with pytest.raises(ValueError, match="no segmentations"):
        build_evaluation_dataset(
            config(evaluation={"region": "segment"}), dataclasses.replace(source, read_segments=None)
        )


def test_guided_masks_without_any_annotation_are_an_error(tmp_path: Path) -> None:
    """Of AIM, whose masks can be guided while its attributions are not."""
    source = make_source(tmp_path, [[(3, LEFT)]])
    aim = {
        "objective": {"mode": "aim"},
        "aim": {"mask_weight": 1.0},
        "data": {"region": "segment", "classes_per_image": "all"},
    }
    with pytest.raises(ValueError, match=r"aim.mask_weight\) is above 0, but no image of pictures train"):
        choose_annotated(config(**aim), source)


def test_guidance_without_any_annotation_is_an_error(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(3, LEFT)]])
    with pytest.raises(ValueError, match=r"no image of pictures train has an annotation\s+under data.region 'segment'"):
        choose_annotated(guided(region="segment"), source)
    assert choose_annotated(config(data={"region": "segment"}), source) == []  # without guidance nothing is missing
    without = dataclasses.replace(source, read_segments=None)
    with pytest.raises(ValueError, match="'pictures' has no segmentations"):
        choose_annotated(config(data={"region": "segment"}), without)
    assert choose_annotated(guided(region="best"), without) == [0]


@pytest.mark.parametrize("loss", ["energy", "rrr", "l1", "ppce", "energy_star"])
def test_losses_that_pull_evidence_into_the_mask_refuse_pairs_without_one(tmp_path: Path, loss: str) -> None:
    source = with_never(make_source(tmp_path, [[(0, LEFT)], [(0, LEFT)]]), [(0, RIGHT), (1, RIGHT)])
    harmless = with_never(source, [(0, RIGHT)])
    if loss == "ppce":  # it does not look at what lies outside the mask
        for looked_at in (source, harmless):
            with pytest.raises(ValueError, match=r"'ppce' only looks inside the mask, .* use energy or rrr"):
                build_training_dataset(guided(loss), looked_at)
        return
    dataset, _ = build_training_dataset(guided(loss), harmless)
    assert dataset[0, 0].classes.tolist() == [0]
    if loss in ("energy", "rrr"):
        dataset, _ = build_training_dataset(guided(loss, classes_per_image="all"), source)
        assert dataset[0, 0].classes.tolist() == [0, 1]
        return
    with pytest.raises(ValueError, match=rf"1 annotated .* {loss!r} would pull .* energy or rrr .* a box"):
        build_training_dataset(guided(loss), source)
    build_training_dataset(config(objective={"localization": {"loss": loss}}), source)  # weight 0: nothing is pulled


def test_a_pair_whose_segmentation_turns_out_empty_is_left_out_too(tmp_path: Path) -> None:
    """The record promises a segmentation, but class 3 has none: only reading it can tell."""
    source = with_never(make_source(tmp_path, [[(0, LEFT), (3, LEFT)]]), [(3, RIGHT)])
    dataset, _ = build_training_dataset(guided("l1", region="segment", classes_per_image="all"), source)
    assert (dataset[0, 0].classes.tolist(), dataset[0, 0].dropped) == ([0], 1)


# Settings


@pytest.mark.parametrize("place", ["data", "evaluation"])
def test_regions_need_segmentations(place: str) -> None:
    waterless = {"name": "imagewoof", "root": "x"}
    sections: dict[str, Any] = {"data": waterless, "model": {"name": "resnet18"}, "evaluation": {}}
    parse_config(sections)
    sections[place] = sections[place] | {"region": "segment"}
    with pytest.raises(ValueError, match=rf"{place}\.region: imagewoof has no segmentations"):
        parse_config(sections)


@pytest.mark.parametrize(
    ("metric", "evaluation", "message"),
    [
        ("seg_epg", {"region": "best"}, "compares segmentations with boxes; set evaluation.region to box"),
        ("pixel_f1", {}, "only computed with evaluation.scores: all"),
        ("epg_chance", {}, "epg_chance says nothing about how good a net is, so it cannot select"),
        ("epg_size_correlation", {}, "says nothing about how good a net is"),
    ],
)
def test_metrics_that_cannot_select(metric: str, evaluation: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=rf"pareto\.metrics\[1\]: .*{message}"):
        config(evaluation=evaluation, pareto={"metrics": ["f1", metric]})
    fine = [
        ("seg_epg", {"region": "box"}),
        ("pixel_f1", {"scores": "all"}),
        ("normalized_epg", {}),
        ("never_energy", {}),
    ]
    for name, section in fine:
        config(evaluation=section, pareto={"metrics": ["f1", name]})


def test_unknown_regimes_are_errors(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(0, LEFT)]])
    with pytest.raises(ValueError, match="box, segment, best; got 'mask'"):
        sample(source, region="mask")
    with pytest.raises(ValueError, match="no segmentations"):
        sample(dataclasses.replace(source, read_segments=None), region="segment")


def test_the_probe_takes_images_of_its_regime(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(3, LEFT)], [(1, LEFT)]])
    choose = partial(Probe.choose, count=2, encoding="normalized")
    listed = source.records[0]._replace(segmentation=tmp_path / "halves")  # in which there is nothing of class 3
    records = (listed, source.records[1]._replace(boxes=(), box_classes=()))
    source = dataclasses.replace(source, records=records)
    for region, expected in {"box": [3], "segment": [1], "best": [1, 3]}.items():
        probe = choose(GuidanceDataset(source, eval_transform(30), training=False, region=region))
        assert probe is not None
        assert probe.batch.regions.target.tolist() == expected
        assert len(probe.batch.images) == len(expected)
    assert read_halves(source.records[0]) == {}
