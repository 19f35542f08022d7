"""Maps in one call: every kind of image and of target gives what the low-level functions give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights
from torchvision.transforms import v2

from guidance import Preprocessing, explain
from guidance.attribution import Request, method_of, one_hot, with_lens
from guidance.attribution import explain as explain_request
from guidance.data.transforms.encodings import MEAN, STD, to_display
from guidance.maps import upsample
from guidance.models.classifier import Classifier
from guidance.pictures.overlays import colour_scale, overlay
from tests.support.scenarios import small_net
from tests.support.small_nets import bcos_resnet_tiny

NAMES = ("cat", "dog", "owl")


def net() -> Classifier:
    return small_net(3).float()


def expected(
    model: Any, images: Tensor, pairs: list[tuple[int, int]], method: Any = "ixg", depth: str = "input"
) -> Tensor:
    rows, target = torch.tensor(pairs).unbind(1)
    return explain_request(model, images, Request(method, depth, rows, one_hot(target, 3))).maps.detach()


def picture(height: int = 20, width: int = 30) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_batch_with_every_kind_of_target() -> None:
    model, images = net(), torch.randn(2, 3, 16, 16)
    logits = model.eval()(images).logits.detach()
    found = explain(model, images, classes=NAMES)
    best = logits.argmax(1)
    assert torch.equal(found.targets, best)
    assert found.names == tuple((NAMES[k],) for k in best.tolist())
    assert torch.equal(found.maps, expected(model, images, list(enumerate(best.tolist()))))
    assert torch.equal(found.logits, logits)
    assert torch.equal(found.probabilities, logits.softmax(1))
    for target in (1, "dog", torch.tensor([1, 1])):
        assert torch.equal(
            explain(model, images, target, classes=NAMES).maps, expected(model, images, [(0, 1), (1, 1)])
        )
    assert torch.equal(explain(model, images, torch.tensor([0, 2])).maps, expected(model, images, [(0, 0), (1, 2)]))
    several = explain(model, images, ["owl", 0], classes=NAMES)
    assert several.maps.shape == (2, 2, 16, 16)
    assert several.names == (("owl", "cat"),) * 2
    torch.testing.assert_close(several.maps.flatten(0, 1), expected(model, images, [(0, 2), (0, 0), (1, 2), (1, 0)]))


def test_one_image_has_no_dimension_of_images() -> None:
    model, images = net(), torch.randn(2, 3, 16, 16)
    alone, together = explain(model, images[1], 2, depth="mid1"), explain(model, images, 2, depth="mid1")
    assert alone.maps.shape == (16, 16)
    assert alone.raw.shape == (8, 8)
    assert alone.logits.shape == alone.probabilities.shape == (3,)
    assert alone.targets.shape == ()
    assert torch.equal(alone.maps, upsample(alone.raw[None], (16, 16))[0])
    torch.testing.assert_close(alone.maps, together.maps[1])
    assert explain(model, images[1], [2, 0]).maps.shape == (2, 16, 16)
    assert explain(model, [images[0]], 2).maps.shape == (1, 16, 16)
    assert explain(model, images[1], 2).names == (("2",),)


def test_every_kind_of_image_is_the_same_input(tmp_path: Path) -> None:
    model, array = net(), picture()
    Image.fromarray(array).save(tmp_path / "a.png")
    preprocess = Preprocessing(size=16)
    pixels = torch.from_numpy(array).permute(2, 0, 1)
    want = explain(model, pixels, 1, preprocess=preprocess)
    for given in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(array), array):
        assert torch.equal(explain(model, given, 1, preprocess=preprocess).maps, want.maps)
    batch = explain(model, [array, pixels], 1, preprocess=preprocess)
    torch.testing.assert_close(batch.maps, want.maps.expand(2, -1, -1))
    torch.testing.assert_close(explain(model, pixels[None], 1, preprocess=preprocess).maps[0], want.maps)
    floats = explain(model, array / 255.0, 1, preprocess=Preprocessing())
    torch.testing.assert_close(floats.maps, explain(model, array, 1, preprocess=Preprocessing()).maps)
    grey = array[..., 0]
    assert explain(model, grey, 1, preprocess=preprocess).maps.shape == (16, 16)


def test_a_file_is_seen_as_it_is_displayed(tmp_path: Path) -> None:
    turned = Image.fromarray(picture())
    exif = Image.Exif()
    exif[0x0112] = 3
    turned.save(tmp_path / "turned.png", exif=exif)
    preprocess = Preprocessing(size=16)
    upright = explain(net(), picture()[::-1, ::-1], 1, preprocess=preprocess)
    assert torch.equal(explain(net(), tmp_path / "turned.png", 1, preprocess=preprocess).maps, upright.maps)


def test_preprocessing_by_its_numbers() -> None:
    pixels = torch.from_numpy(picture(8, 8)).permute(2, 0, 1)
    own = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (own.mean, own.std))
    torch.testing.assert_close(own.encode(pixels), (pixels / 255 - mean) / std)
    torch.testing.assert_close(own.both_ways().decode(own.encode(pixels)[None])[0], pixels / 255)
    both = Preprocessing(encoding="inverse").encode(pixels)
    torch.testing.assert_close(both, torch.cat((pixels / 255, 1 - pixels / 255)))
    assert Preprocessing(224, crop="center").encode(torch.zeros(3, 300, 500, dtype=torch.uint8)).shape == (3, 224, 224)
    with pytest.raises(ValueError, match="unknown crop 'middle'"):
        Preprocessing(crop="middle")
    with pytest.raises(ValueError, match="unknown encoding 'invers'"):
        Preprocessing(encoding="invers")


def test_transforms_of_torchvision_weights_and_of_a_compose() -> None:
    model, image = net(), Image.fromarray(picture(300, 260))
    transforms = ResNet18_Weights.IMAGENET1K_V1.transforms()
    found = explain(model, image, 1, preprocess=transforms)
    assert torch.equal(found.maps, explain(model, transforms(image), 1).maps)
    assert found.shown is not None
    torch.testing.assert_close(found.shown, to_display(transforms(image)[None], "normalized"))
    half = v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)])
    shown = explain(model, picture(), 1, preprocess=half).shown
    assert shown is not None
    torch.testing.assert_close(shown[0], torch.from_numpy(picture()).permute(2, 0, 1) / 255)


def test_overlay_is_that_of_the_pictures() -> None:
    model, images = net(), torch.randn(2, 3, 16, 16)
    found = explain(model, images, [0, 2])
    drawn = found.overlay(image=1, target=1)
    shown = (images[1] * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)).clamp(0, 1)
    want = overlay(shown, found.maps[1, 1], scale=colour_scale([found.maps[1]]))
    assert drawn.size == (16, 16)
    assert np.array_equal(np.asarray(drawn), want)
    assert explain(model, images[0]).overlay().size == (16, 16)


def test_a_bcos_net_shows_its_first_three_channels() -> None:
    image = torch.rand(3, 16, 16)
    found = explain(bcos_resnet_tiny(), torch.cat((image, 1 - image)), attribution="bcos")
    assert found.shown is not None
    assert torch.equal(found.shown[0], image)


def test_a_method_is_asked_at_its_own_depth() -> None:
    model, images = net(), torch.randn(2, 3, 16, 16)
    found = explain(model, images, 1, attribution="gradcam")
    assert torch.equal(found.raw, expected(model, images, [(0, 1), (1, 1)], "gradcam", "final"))


def test_classes_compete_by_the_lens() -> None:
    model, images = net(), torch.randn(2, 3, 16, 16)
    lens = with_lens(method_of("ixg"), classes=[0, 2])
    want = expected(model, images, [(0, 1), (1, 1)], lens)
    assert torch.equal(explain(model, images, "dog", against=["cat", 2], classes=NAMES).maps, want)


def test_the_net_is_left_as_it_was() -> None:
    model, images = net().train(), torch.randn(2, 3, 16, 16, requires_grad=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        assert not explain(model, images).maps.requires_grad
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# --- mistakes ---------------------------------------------------------------------------------------------------------

GIVEN = torch.zeros(2, 3, 16, 16)


@pytest.mark.parametrize(
    ("images", "settings", "message"),
    [
        (GIVEN, {"target": "cta", "classes": NAMES}, "unknown class 'cta'.*Did you mean 'cat'"),
        (GIVEN, {"target": "cat"}, "give the names of all outputs as classes"),
        (GIVEN, {"target": 3}, "the class 3, but the net has the classes 0 to 2"),
        (GIVEN, {"target": []}, "target names no class"),
        (GIVEN, {"target": torch.tensor([1])}, r"one class for each image \[B\]; got \[1\] for 2"),
        (GIVEN, {"classes": ["a"]}, "classes has 1 names, but the net has 3 classes"),
        (GIVEN, {"depth": "mid7"}, "unknown depth 'mid7'"),
        (GIVEN, {"attribution": "gradcm"}, "unknown attribution 'gradcm'"),
        (GIVEN.byte(), {}, r"give preprocess, such as Preprocessing\(size=224\)"),
        (GIVEN[0, 0], {}, r"or a batch \[B, C, H, W\], not \[16, 16\]"),
        ([], {}, "no image to explain"),
        ([GIVEN[0], torch.zeros(3, 8, 8)], {}, "several sizes"),
        (3, {}, "a int is no image"),
        (np.full((4, 4, 3), 2.0), {"preprocess": Preprocessing()}, r"lies in \[0, 1\], but this one in \[2, 2\]"),
        (np.zeros((4, 4, 5)), {"preprocess": Preprocessing()}, r"not \[4, 4, 5\] float64"),
        ("nowhere.png", {"preprocess": Preprocessing()}, "nowhere.png"),
    ],
)
def test_what_does_not_fit(images: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        explain(net(), images, **settings)


def test_only_a_classifier_is_explained_and_only_pictures_are_shown() -> None:
    with pytest.raises(ValueError, match="a Linear cannot be explained as it is"):
        explain(nn.Linear(1, 1), GIVEN)  # type: ignore[arg-type]
    gray = Classifier(nn.ModuleDict({"a": nn.Conv2d(1, 2, 1), "b": nn.Flatten(), "c": nn.Linear(32, 2)}),
                      {"final": ["a"], "logits": ["b", "c"]})  # fmt: skip
    found = explain(gray, torch.zeros(1, 4, 4))
    assert found.maps.shape == (4, 4)
    with pytest.raises(ValueError, match="neither 3 nor 6 channels"):
        found.overlay()
