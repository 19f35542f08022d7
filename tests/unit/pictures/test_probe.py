"""The probe set: which images, their maps and masks, and what is drawn of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from guidance.assembly.sets import as_dilated
from guidance.config import parse_config
from guidance.data import GuidanceDataset, eval_transform
from guidance.models.classifier import Classifier
from guidance.pictures.masks import mask_panel
from guidance.pictures.panels import panel
from guidance.pictures.probe import Probe
from guidance.regions import boxes_to_mask
from tests.support.configs import VOC
from tests.support.data.pictures import make_source
from tests.support.nets import masking_net, tiny


def probe_of(folder: Path) -> Probe:
    source = make_source(folder, [[(0, (2, 2, 20, 10))], [(1, (4, 4, 9, 9))], [(2, (0, 0, 30, 20))]])
    probe = Probe.choose(GuidanceDataset(source, eval_transform(16), training=False), 3, encoding="normalized")
    assert probe is not None
    return probe


def test_probe_sees_the_masks_of_evaluation(tmp_path: Path) -> None:
    probe, model = probe_of(tmp_path), masking_net(4)
    modes = []
    model.register_forward_pre_hook(lambda module, _: modes.append((module.training, torch.is_grad_enabled())))
    masks = probe.masks(model.train(), device=torch.device("cpu"))
    assert modes == [(False, False)]
    assert model.training
    expected = model.masks(probe.batch.images)  # type: ignore[operator]
    assert list(masks) == ["stage1", "stage2"]
    assert all(torch.equal(masks[stage], expected[stage]) for stage in masks)
    assert probe.masks(masking_net(4, Classifier), device=torch.device("cpu")) == {}


def test_images_without_annotation_are_probed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AIM needs no boxes, and its masks are to be seen all the same: no outline, and no EPG that would mean nothing."""
    source = make_source(tmp_path, [[(0, (2, 2, 20, 10))], [(1, (4, 4, 9, 9))], [(2, (0, 0, 30, 20))]])
    bare = replace(source, records=tuple(r._replace(boxes=(), box_classes=()) for r in source.records))
    probe = Probe.choose(GuidanceDataset(bare, eval_transform(16), training=False), 2, encoding="normalized")
    assert probe is not None
    assert probe.batch.regions.target.tolist() == [0, 1]
    assert probe.batch.regions.mask.shape == (2, 16, 16)
    assert not probe.batch.regions.mask.any()
    model = tiny(channels=3, num_classes=len(source.classes), dtype=torch.float32)
    maps = probe.maps(model, attribution="ixg", depth="mid1", device=torch.device("cpu"))
    drawn: dict[str, Any] = {}

    def draw(*args: Any, **settings: Any) -> np.ndarray:
        drawn.update(settings)
        return panel(*args, **settings)

    monkeypatch.setattr("guidance.pictures.probe.panel", draw)
    assert probe.picture({"maps": maps}).dtype == np.uint8
    assert drawn["captions"] == {}
    assert len(probe.mask_picture({"stage1": torch.ones(2, 1, 4, 4)}).shape) == 3
    assert Probe.choose(GuidanceDataset(bare, eval_transform(16), training=False), 0, encoding="normalized") is None


def test_the_probe_is_spread_over_the_classes(tmp_path: Path) -> None:
    """In proportion, wherever in the split their images are."""
    box = (2, 2, 20, 10)
    source = make_source(tmp_path, [[(k, box)] for k in (1, 1, 1, 0, 1, 2)])
    probe = Probe.choose(GuidanceDataset(source, eval_transform(16), training=False), 3, encoding="normalized")
    assert probe is not None
    assert probe.batch.regions.target.tolist() == [0, 1, 1]
    probe = Probe.choose(GuidanceDataset(source, eval_transform(16), training=False), 6, encoding="normalized")
    assert probe is not None
    assert probe.batch.index.tolist() == [3, 0, 1, 2, 4, 5]


def test_probe_draws_its_masks_and_the_merged_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe, model = probe_of(tmp_path), masking_net(4)
    masks = probe.masks(model, device=torch.device("cpu"))
    drawn: dict[str, Any] = {}

    def panel(images: Tensor, masks: Any, merged: Tensor, *, names: list[str]) -> np.ndarray:
        drawn.update(images=images, merged=merged, names=names)
        return mask_panel(images, masks, merged, names=names)

    monkeypatch.setattr("guidance.pictures.probe.mask_panel", panel)
    picture = probe.mask_picture(masks)
    assert picture.dtype == np.uint8
    assert drawn["names"] == ["a", "b", "c"]
    assert 0 <= float(drawn["images"].min()) <= float(drawn["images"].max()) <= 1
    either = (masks["stage1"] + nn.functional.interpolate(masks["stage2"], 4)) > 0
    assert torch.equal(drawn["merged"] > 0, either)
    with pytest.raises(ValueError, match="no masks"):
        probe.mask_picture({})


@pytest.mark.parametrize(("dilation", "region"), [(0.25, "box"), (0.0, "box"), (0.25, "segment")])
def test_a_run_with_dilation_shows_the_given_and_the_dilated_box(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dilation: float, region: str
) -> None:
    """Of each image the box of its first class; only training boxes are dilated, and segmentations never."""
    source = make_source(tmp_path, [[(0, (9, 4, 21, 12)), (1, (0, 0, 4, 4))], [(1, (10, 10, 20, 20))]])
    evaluated = GuidanceDataset(source, eval_transform(20), training=False)
    config = parse_config(VOC | {"data": VOC["data"] | {"dilation": dilation, "region": region}})
    probe = Probe.choose(evaluated, 2, encoding="normalized", trained=as_dilated(config, evaluated))
    assert probe is not None
    given = boxes_to_mask(
        torch.tensor([[6.0, 4, 14, 12], [20 / 3, 10, 40 / 3, 20]]), 20, 20
    )  # 30 pixels are resized to 20
    assert torch.equal(probe.batch.regions.mask, given)
    drawn: dict[str, Any] = {}
    monkeypatch.setattr("guidance.pictures.probe.panel", lambda *args, **settings: drawn.update(settings))
    probe.picture({"maps": torch.zeros(2, 20, 20)})
    if dilation == 0 or region == "segment":
        assert drawn["trained"] is None
    else:
        wider = torch.tensor([[4.0, 2, 16, 14], [5, 7.5, 15, 20]])
        assert torch.equal(drawn["trained"], boxes_to_mask(wider, 20, 20))
