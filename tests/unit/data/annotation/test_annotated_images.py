"""Which images a run takes regions from, and what it refuses."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from guidance.assembly.sets import build_evaluation_dataset, build_training_dataset, choose_annotated
from guidance.config import Config, parse_config
from guidance.data import (
    GuidanceDataset,
    RegionOptions,
    eval_transform,
)
from guidance.data.annotation import is_annotated
from guidance.pictures.probe import Probe
from tests.support.data.datasets import LEFT, RECORDS, RIGHT, with_never
from tests.support.data.pictures import make_source, read_halves


@pytest.mark.parametrize(
    ("region", "expected"),
    [("box", ["box", "never"]), ("segment", ["segment", "never"]), ("best", ["box", "segment", "never"])],
)
def test_annotated_images_of_a_regime(region: str, expected: list[str]) -> None:
    assert [name for name, record in RECORDS.items() if is_annotated(record, region)] == expected


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
    assert (dataset.regions.region, len(annotated)) == ("segment", 4)
    assert [bool(len(dataset[0, i].classes)) for i in range(12)] == [i in annotated for i in range(12)]
    nothing = choose_annotated(config(data={"annotated_fraction": 0.0}), source)
    assert nothing == []


def test_a_share_of_all_images_and_of_those_with_a_region(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of 12 images 4 have a segmentation: half of them are 2, a quarter of all images 3, and half of all more than 4."""
    source = make_source(tmp_path, [[(0 if i % 3 == 0 else 3, LEFT)] for i in range(12)])
    shares = {("regions", 0.5): 2, ("images", 0.25): 3, ("regions", 1.0): 4, ("images", 0.1): 1}
    for (of, fraction), count in shares.items():
        chosen = guided(region="segment", annotated_fraction=fraction, annotated_of=of)
        assert len(choose_annotated(chosen, source)) == count
    assert not caplog.records
    assert choose_annotated(guided(region="segment", annotated_fraction=0.5, annotated_of="images"), source) == [
        0,
        3,
        6,
        9,
    ]
    assert (
        "0.5 of all 12 training images asks for 6, but only 4 have a region under data.region 'segment'" in caplog.text
    )
    assert len(choose_annotated(guided(annotated_fraction=0.5, annotated_of="images"), source)) == 6


def test_best_says_where_it_means_boxes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = make_source(tmp_path, [[(0, LEFT)]])
    choose_annotated(guided(region="best"), source)
    build_evaluation_dataset(config(evaluation={"region": "best"}), source)
    assert not caplog.records
    without = dataclasses.replace(source, read_segments=None)
    choose_annotated(config(data={"region": "best"}), without)  # nothing is guided
    choose_annotated(guided(region="box"), without)
    assert not caplog.records
    choose_annotated(guided(region="best"), without)
    build_evaluation_dataset(config(evaluation={"region": "best"}), without)
    says = "'best': pictures train has no segmentations here, so it means boxes"
    assert [record.getMessage() for record in caplog.records] == [f"data.region {says}", f"evaluation.region {says}"]


def test_an_evaluation_without_any_annotation_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = make_source(tmp_path, [[(0, LEFT)]])
    source = dataclasses.replace(source, records=(source.records[0]._replace(boxes=(), box_classes=()),))
    build_evaluation_dataset(config(evaluation={"region": "segment"}), source)
    assert not caplog.records
    dataset = build_evaluation_dataset(config(), source)
    assert "no image of pictures train has an annotation under evaluation.region 'box'" in caplog.text
    assert (dataset.regions.region, dataset.regions.load_segments) == ("box", True)
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


def test_the_probe_takes_images_of_its_regime(tmp_path: Path) -> None:
    source = make_source(tmp_path, [[(3, LEFT)], [(1, LEFT)]])
    choose = partial(Probe.choose, count=2, encoding="normalized")
    listed = source.records[0]._replace(segmentation=tmp_path / "halves")  # in which there is nothing of class 3
    records = (listed, source.records[1]._replace(boxes=(), box_classes=()))
    source = dataclasses.replace(source, records=records)
    for region, expected in {"box": [3], "segment": [1], "best": [1, 3]}.items():
        probe = choose(
            GuidanceDataset(source, eval_transform(30), training=False, regions=RegionOptions(region=region))
        )
        assert probe is not None
        assert probe.batch.regions.target.tolist() == expected
        assert len(probe.batch.images) == len(expected)
    assert read_halves(source.records[0]) == {}
