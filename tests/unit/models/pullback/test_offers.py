"""When a net offers pullbacks, and for which rows they run."""

from __future__ import annotations

import pytest
import torch

from guidance.models.layers.normalization import convert_batchnorm
from tests.support.explaining import attribute
from tests.support.small_nets import DEPTHS, build


def test_every_image_once_needs_no_selection_of_rows_and_gives_the_same() -> None:
    model, images = build("bcos_resnet")
    out = model(images.requires_grad_())
    image, target = torch.tensor([2, 0, 1]), torch.tensor([1, 3, 0])
    maps = attribute("bcos", model, out, "input", image, target, create_graph=False, rounds=1)
    again = attribute("bcos", model, out, "input", image, target, create_graph=False, rounds=2)
    torch.testing.assert_close(maps, again)
    assert not maps.requires_grad


def test_only_the_rows_asked_for_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    model, images = build("xdnn", batch=5)
    sizes = []
    real = torch.nn.functional.conv_transpose2d
    monkeypatch.setattr(
        torch.nn.functional, "conv_transpose2d", lambda grad, *a, **k: sizes.append(len(grad)) or real(grad, *a, **k)
    )
    out = model(images.requires_grad_())
    attribute("ixg", model, out, "input", torch.tensor([3]), torch.tensor([1]), create_graph=True)
    assert set(sizes) == {1}
    assert len(sizes) == 11


def test_batch_statistics_that_link_images_offer_no_pullback() -> None:
    model, images = build("relu_resnet")
    convert_batchnorm(model.net, "local")
    model.double().train()
    assert set(model(images).pullbacks) == {"final"}  # above it there is no norm
    model.eval()
    assert set(model(images).pullbacks) == set(DEPTHS)
    with torch.no_grad():
        assert set(model(images).pullbacks) == set()


def test_no_pairs_give_an_empty_map_with_zero_gradients() -> None:
    model, images = build("bcos_simple_vit")
    out = model(images.requires_grad_())
    none = torch.zeros(0, dtype=torch.long)
    map_ = attribute("bcos", model, out, "mid2", none, none, create_graph=True, rounds=1)
    assert map_.shape == (0, 3, 3)
    map_.sum().backward()
