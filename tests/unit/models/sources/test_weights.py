"""Weights by the names of torchvision, and what they were trained with. Nothing is downloaded: their files are random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models, tv_tensors
from torchvision.transforms.v2.functional import pil_to_tensor

from guidance.assembly import build_eval_transform, pretrained_config
from guidance.assembly.sets import as_cached, encoding
from guidance.config import Config, dump_config, load_config, override_config, parse_config
from guidance.data import Record, Source, to_display
from guidance.data.cache.images import cache_path
from guidance.inference import load_model
from guidance.models import build_model, find_backbone


def config_of(name: str, weights: str, **changes: Any) -> Config:
    return parse_config(
        {"data": {"name": "demo"} | changes.pop("data", {}), "model": {"name": name, "weights": weights} | changes}
    )


def cached_weights(folder: Path, name: str, weights: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Random weights of torchvision's net in the file that torchvision would download."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(folder))
    torch.manual_seed(1)
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    state: dict[str, torch.Tensor] = models.get_model(name, **options).state_dict()
    file = folder / "checkpoints" / Path(find_backbone(f"torchvision/{name}").weights[weights]).name
    file.parent.mkdir(exist_ok=True)
    torch.save(state, file)
    return state


def test_what_weights_were_trained_with_becomes_a_part_of_the_config() -> None:
    """Which is read back as it was."""
    config = config_of("torchvision/efficientnet_b1", "DEFAULT")
    assert config.model.weights == "IMAGENET1K_V2"
    assert config.data.image_size == 240
    assert config.model.input.interpolation == "bilinear"
    assert config.model.input.crop_pct == 240 / 255
    first = config_of("torchvision/efficientnet_b1", "IMAGENET1K_V1")
    assert (first.data.image_size, first.model.input.interpolation) == (240, "bicubic")
    assert first.model.input.mean == [0.485, 0.456, 0.406]
    assert parse_config(first.model_dump(mode="json")) == first
    assert override_config(first, ["data.image_size=192"]).data.image_size == 192


def test_what_is_set_stays_but_for_what_the_weights_need(tmp_path: Path) -> None:
    name = "torchvision/mobilenet_v3_small"
    own = config_of(name, "IMAGENET1K_V1", data={"image_size": 96}, input={"interpolation": "bicubic"})
    assert (own.data.image_size, own.model.input.interpolation) == (96, "bicubic")
    with pytest.raises(ValueError, match=r"input\.mean: the weights IMAGENET1K_V1 of .* trained with \[0\.485"):
        config_of(name, "DEFAULT", input={"mean": [0.5, 0.5, 0.5]})
    fresh = config_of(name, "none", input={"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]})
    (tmp_path / "config.yaml").write_text(dump_config(fresh))
    assert load_config(tmp_path / "config.yaml") == fresh
    black = encoding(fresh).encode(torch.zeros(3, 2, 2))
    assert torch.equal(black, -torch.ones(3, 2, 2))
    assert torch.equal(to_display(black[None], encoding(fresh)), torch.zeros(1, 3, 2, 2))


def test_caches_know_how_their_images_were_resized(tmp_path: Path) -> None:
    source = Source("x", "val", ("a",), (Record(tmp_path / "a.png", (0,)),), True)
    names = {
        cache_path(tmp_path, *as_cached(config_of("resnet18", "none", input=given), source))
        for given in ({}, {"interpolation": "bicubic"}, {"crop_pct": 0.9})
    }
    assert len(names) == 3


def test_a_net_with_its_weights_reads_predicts_and_explains_as_torchvision_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the two ways in which torchvision resizes, one rounds the other way here and there, by one grey level.

    (And of what bicubic interpolation makes darker than black, one forgets more; these pixels are neither black nor white.)
    """
    state = cached_weights(tmp_path, "mobilenet_v3_large", "IMAGENET1K_V2", monkeypatch)
    run = load_model("torchvision/mobilenet_v3_large", weights="DEFAULT")
    assert len(run.classes) == 1000
    assert all(torch.equal(x, state[name]) for name, x in run.model.net.state_dict().items())
    pixels = np.random.default_rng(0).integers(80, 170, (300, 260, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    image = Image.open(tmp_path / "image.png")
    expected = models.MobileNet_V3_Large_Weights.DEFAULT.transforms()(pil_to_tensor(image))[None]
    torch.testing.assert_close(run.read(tmp_path / "image.png"), expected, rtol=0, atol=1.001 / 255 / 0.224)
    # Swin-T's weights ask for bicubic interpolation, and 232 pixels for 224.
    swin = pretrained_config("torchvision/swin_t", "DEFAULT", {"name": "custom", "root": ".", "layout": "classes"})
    found = build_eval_transform(swin)({"image": tv_tensors.Image(pil_to_tensor(image))})["image"][None]
    expected = models.Swin_T_Weights.DEFAULT.transforms()(pil_to_tensor(image))[None]
    torch.testing.assert_close(found, expected, rtol=0, atol=1.001 / 255 / 0.224)


def test_other_classes_keep_all_but_the_classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GoogLeNet's auxiliary classifiers are left out, and it makes of ImageNet's normalisation what its weights need."""
    state = cached_weights(tmp_path, "googlenet", "IMAGENET1K_V1", monkeypatch)
    model = build_model("torchvision/googlenet", num_classes=3, weights="DEFAULT")
    own = model.net.state_dict()
    assert own["fc.weight"].shape == (3, 1024)
    assert {name for name in state if name not in own} == {name for name in state if name.startswith("aux")}
    assert all(torch.equal(x, state[name]) for name, x in own.items() if not name.startswith("fc."))
    assert model.net.transform_input


def test_names_that_the_weights_do_not_have() -> None:
    with pytest.raises(ValueError, match=r"no file IMAGENET1K_V9\. Give .* 'IMAGENET1K_V1', 'DEFAULT' or 'none'"):
        build_model("torchvision/mobilenet_v3_small", num_classes=3, weights="IMAGENET1K_V9")


def test_weights_without_a_classifier_leave_a_fresh_one(tmp_path: Path) -> None:
    state = build_model("tests.unit.models.sources.own:Pyramid", num_classes=4).net.state_dict()
    torch.save({name: x for name, x in state.items() if not name.startswith("head.")}, tmp_path / "features.pth")
    model = build_model("tests.unit.models.sources.own:Pyramid", num_classes=2, weights=tmp_path / "features.pth")
    assert all(torch.equal(x, state[k]) for k, x in model.net.state_dict().items() if not k.startswith("head."))
