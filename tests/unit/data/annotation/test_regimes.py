"""Boxes, segmentations and a mixture on the real samples: trained through the entry point's parts and evaluated."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from guidance import distributed
from guidance.assembly import build_evaluation_dataset, build_source, build_trainer
from guidance.config import Config, parse_config
from guidance.data import GuidanceDataset, RegionOptions, Source, eval_transform
from guidance.evaluation.rows import Rows
from guidance.inference import evaluate_in_detail
from guidance.regions import BOX, NEVER, SEGMENT
from guidance.runs.logs.json_lines import read_log
from guidance.runs.paths import METRICS
from tests.conftest import sample
from tests.support.data.pictures import write_picture
from tests.support.processes import run_processes

REGIMES = ("box", "segment", "best")
SAMPLES: dict[str, dict[str, Any]] = {
    "voc": {"val_split": "val"}, "coco": {"year": "2017", "val_split": "val", "val_fraction": 0.4},
}  # fmt: skip
# Every row of a table that must not depend on the number of processes.
COMPARED = ("region_index", "region_target", "kind", "pixels", "epg", "iou", "seg_epg", "x_seg_epg", "has_segment")


def chosen(name: str) -> bool:
    """Half of the images: those whose digits add up to an even number."""
    return sum(map(int, name)) % 2 == 0


def half_segmented(name: str, sample: Path, root: Path) -> Path:
    """The sample data set, where every second image has lost its segmentations."""
    if name == "voc":
        source, target = (base / "VOCdevkit" / "VOC2007" for base in (sample, root))
        target.mkdir(parents=True)
        for part in ("Annotations", "ImageSets", "JPEGImages"):
            (target / part).symlink_to(source / part)
        (target / "SegmentationClass").mkdir()
        for path in (source / "SegmentationClass").iterdir():
            if chosen(path.stem):
                (target / "SegmentationClass" / path.name).symlink_to(path)
        return root
    (root / "annotations").mkdir(parents=True)
    for split in ("train2017", "val2017"):
        (root / split).symlink_to(sample / split)
        content = json.loads((sample / "annotations" / f"instances_{split}.json").read_text())
        for entry in content["annotations"]:
            if not chosen(str(entry["image_id"])):
                del entry["segmentation"]
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


def make_config(name: str, root: Path, region: str) -> Config:
    return parse_config({
        "data": {"name": name, "root": str(root), "image_size": 64, "num_workers": 0, "region": region,
                 "augmentation": "crop_flip", "on_error": "skip", **SAMPLES[name]},
        "model": {"name": "resnet8"}, "trainer": {"epochs": 1, "batch_size": 12, "device": "cpu"},
        "objective": {"localization": {"weight": 0.1}, "attribution": {"depth": "mid2"}, "reduction": "mean"},
        "evaluation": {"batch_size": 8, "region": region}, "log": {"every": 1, "tensorboard": False, "probe_images": 0},
    })  # fmt: skip


def everything(roots: dict[str, Path], folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Two steps under every regime, and every evaluation of the nets."""
    found = {}
    for name, root in roots.items():
        for region in REGIMES:
            run = folder / f"{name}-{region}-{distributed.world_size()}"
            build_trainer(make_config(name, root, region), run, torch.device("cpu"), dry_run=True).fit()
            lines = read_log(run / METRICS)
            rows, dropped = {}, {}
            for other in REGIMES if region == "best" else (region,):
                overrides = [f"evaluation.region={other}"]
                detail = evaluate_in_detail(
                    run / "checkpoints/last.pt", SAMPLES[name]["val_split"], overrides=overrides
                )
                rows[other], dropped[other] = detail.rows, detail.metrics["dropped"]
            found[name, region] = {"lines": lines, "rows": rows, "dropped": dropped}
    return found


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("regimes")
    roots = {name: half_segmented(name, sample(f"{name}_sample"), folder / name) for name in SAMPLES}
    return {"roots": roots, "processes": run_processes(2, folder / "out", everything, roots, folder / "runs")}


def expected_pairs(root: Path, name: str, region: str) -> set[tuple[int, int, int]]:
    """(index, class, kind) of every pair, from the annotation alone."""
    source = build_source(make_config(name, root, region), SAMPLES[name]["val_split"])
    assert source.read_segments is not None
    pairs = set()
    for index, record in enumerate(source.records):
        boxes = set(record.box_classes) if region != "segment" else set()
        segments = {k for k, mask in source.read_segments(record).items() if mask.any()} if region != "box" else set()
        pairs |= {(index, k, SEGMENT) for k in segments} | {(index, k, BOX) for k in boxes - segments}
    return pairs


@pytest.mark.parametrize("region", REGIMES)
@pytest.mark.parametrize("name", SAMPLES)
def test_two_processes_train_and_evaluate(results: dict[str, Any], name: str, region: str) -> None:
    first, second = (process[name, region] for process in results["processes"])
    steps = [line for line in first["lines"] if "step/localization" in line]
    assert len(steps) == 2
    assert all(0 <= line["step/localization"] <= 1 for line in steps)
    assert first["lines"][-1]["train/annotated"] > (0.3 if region == "segment" else 0.8)
    assert 0 < first["lines"][-1]["val/epg"] < 1
    for evaluated, rows in first["rows"].items():
        for field in COMPARED:
            assert torch.equal(getattr(rows, field), getattr(second["rows"][evaluated], field)), field
        check_pairs(rows, first["dropped"][evaluated], results["roots"][name], name, evaluated)


def check_pairs(rows: Rows, dropped: float, root: Path, name: str, region: str) -> None:
    """Every annotated pair has its row; only a segmentation may be too small for the evaluated size, and is counted."""
    found = set(zip(rows.region_index.tolist(), rows.region_target.tolist(), rows.kind.tolist(), strict=True))
    expected = expected_pairs(root, name, region)
    assert found <= expected
    assert len(expected - found) == dropped
    assert all(kind == SEGMENT for _, _, kind in expected - found)
    assert len(expected - found) <= 0.1 * len(expected)
    kinds = {"box": {BOX}, "segment": {SEGMENT}, "best": {BOX, SEGMENT}}[region]
    assert {kind for *_, kind in found} == kinds


@pytest.mark.parametrize("name", SAMPLES)
def test_one_process_finds_the_same(results: dict[str, Any], name: str, tmp_path: Path) -> None:
    run = next(p for p in (results["roots"][name].parent / "runs").iterdir() if p.name == f"{name}-best-2")
    for region in REGIMES:
        split, overrides = SAMPLES[name]["val_split"], [f"evaluation.region={region}"]
        alone = evaluate_in_detail(run / "checkpoints/last.pt", split, overrides=overrides)
        rows = results["processes"][0][name, "best"]["rows"][region]
        for field in COMPARED:
            assert torch.equal(getattr(alone.rows, field), getattr(rows, field)), (region, field)


@pytest.mark.parametrize("name", SAMPLES)
def test_x_seg_epg_is_the_smallest_of_the_three_on_every_row(results: dict[str, Any], name: str) -> None:
    """Where the segmentation lies inside the boxes, at the evaluated size; elsewhere it may not be."""
    config = make_config(name, results["roots"][name], "box")
    data = build_evaluation_dataset(config, build_source(config, SAMPLES[name]["val_split"]))
    rows: Rows = results["processes"][0][name, "best"]["rows"]["box"]
    inside = []
    for index in range(len(data)):
        found = data[0, index]
        assert found.segments is not None
        inside += (~(found.segments & ~found.masks).flatten(1).any(1)).tolist()
    assert len(inside) == len(rows.epg)
    compared = torch.tensor(inside) & rows.has_segment & rows.energy
    assert compared.sum() > 0.2 * rows.has_segment.sum() > 5
    assert (rows.x_seg_epg <= rows.seg_epg)[compared].all()
    assert (rows.x_seg_epg <= rows.epg)[compared].all()
    assert (rows.x_seg_epg < rows.epg)[compared].any()


@pytest.mark.parametrize("name", SAMPLES)
def test_segmentations_lie_inside_the_boxes_of_the_samples(name: str) -> None:
    source = build_source(make_config(name, sample(f"{name}_sample"), "box"), SAMPLES[name]["val_split"])
    data = GuidanceDataset(
        source, eval_transform(224), training=False, regions=RegionOptions(load_segments=True), on_error="skip"
    )
    inside = total = 0
    for index in range(0, len(data), 4):
        found = data[0, index]
        assert found.segments is not None
        inside += int((found.segments & found.masks).sum())
        total += int(found.segments.sum())
    assert inside > 0.97 * total > 0


def test_metrics_of_every_regime_are_defined_where_they_mean_something(results: dict[str, Any]) -> None:
    last = {region: results["processes"][0]["voc", region]["lines"][-1] for region in REGIMES}
    for region, line in last.items():
        assert math.isfinite(line["val/epg"] + line["val/epg_chance"])
        assert math.isnan(line["val/seg_epg"]) == (region != "box")  # of a segmentation as the mask it would be 1
        assert not math.isnan(line["val/x_seg_epg"])
        assert math.isnan(line["val/never_energy"])


def test_places_where_evidence_must_not_lie(tmp_path: Path) -> None:
    """One's own images, of which some have boxes, some never boxes, some both: guidance empties the never boxes."""
    lines = ["image,class,x0,y0,x1,y1,never"]
    for split in ("train", "val"):
        for i in range(12):
            kind = ("cat", "dog")[i % 2]
            image = f"{split}/{kind}/{i}.png"
            write_picture(tmp_path / "data" / image, height=32, width=32, seed=i)
            lines += [f"{image},{kind},16,0,32,32,0"] if i % 3 else []
            lines += [f"{image},{kind},0,0,16,32,1"] if i % 3 != 1 else []
    (tmp_path / "data" / "boxes.csv").write_text("\n".join(lines))
    sections = make_config("voc", tmp_path / "data", "box").model_dump(mode="json")
    common = {name: sections["data"][name] for name in ("image_size", "num_workers", "region")}
    data = common | {"name": "custom", "root": str(tmp_path / "data")}
    sections |= {"data": data, "optimizer": {"name": "adam", "lr": 1e-3}}
    sections["objective"] |= {"classification": "cross_entropy", "localization": {"weight": 3.0}}
    sections["trainer"] |= {"epochs": 6}
    build_trainer(parse_config(sections), tmp_path / "run", torch.device("cpu")).fit()
    logged = read_log(tmp_path / "run" / METRICS)
    epochs = [line for line in logged if "epoch" in line]
    assert all(line["train/annotated"] == 1 for line in epochs)
    assert epochs[-1]["train/localization"] < 0.7 * epochs[0]["train/localization"]
    found = evaluate_in_detail(tmp_path / "run", "val")
    assert found.rows.kind.tolist() == [NEVER if i % 3 == 0 else BOX for i in order(found.source)]
    assert found.rows.has_never.tolist() == [i % 3 != 1 for i in order(found.source)]
    assert 0 <= found.metrics["never_energy"] <= 1
    kinds = [row["region"] for row in found.table()]
    assert (kinds.count("never"), kinds.count("box")) == (4, 8)


def order(source: Source) -> list[int]:
    """The numbers of the images in the order of the split."""
    return [int(record.path.stem) for record in source.records]
