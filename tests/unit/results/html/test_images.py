"""Images of the page: small, and what the pictures of the package show."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from guidance.pictures.overlays import background, colour_scale, overlay
from guidance.results.html.images import LEVELS, cells_layer, greyed, map_layer, outline_layer, photograph


def decode(uri: str) -> NDArray[np.uint8]:
    head, _, data = uri.partition(",")
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    return np.asarray(image.convert("RGBA" if "png" in head else "RGB"))


def test_a_layer_over_the_grey_image_is_the_overlay() -> None:
    """Up to half a level of its opacity."""
    image, attribution = torch.rand(3, 20, 24), torch.randn(20, 24)
    attribution[0, 0] = torch.nan
    scale = colour_scale([attribution])
    layer = decode(map_layer(attribution, scale)).astype(float)
    opacity = layer[..., 3:] / 255
    seen = background(image) * (1 - opacity) + layer[..., :3] * opacity
    np.testing.assert_allclose(seen, overlay(image, attribution, scale=scale), atol=255 * 0.8 * 0.5 / LEVELS + 2)
    assert layer[0, 0, 3] == 0
    assert decode(map_layer(attribution, 0.0)).shape == (20, 24, 4)  # all zero


def test_images_are_made_smaller_and_never_larger() -> None:
    assert decode(photograph(torch.rand(3, 224, 448))).shape == (56, 112, 3)
    assert decode(greyed(torch.rand(3, 30, 40))).shape == (30, 40, 3)
    flat = decode(photograph(torch.full((3, 8, 8), 0.5)))
    np.testing.assert_allclose(flat, 128, atol=3)
    peak = torch.zeros(224, 224)
    peak[100, 101] = 4.0  # averaged over 2 x 2 pixels: still there
    assert decode(map_layer(peak, 1.0))[50, 50, 3] == pytest.approx(0.8 * 255, abs=1)
    assert len(map_layer(torch.randn(224, 224), 1.0)) < 20_000


def test_the_outline_is_the_edge_of_the_mask() -> None:
    mask = torch.zeros(8, 8, dtype=torch.bool)
    assert outline_layer(mask) == ""
    mask[2:6, 2:6] = True
    layer = decode(outline_layer(mask))
    yellow = (layer[..., 3] == 255) & (layer[..., 0] > 200)
    expected = np.zeros((8, 8), dtype=bool)
    expected[2:6, 2:6] = True
    expected[3:5, 3:5] = False
    np.testing.assert_array_equal(yellow, expected)
    whole = decode(outline_layer(torch.ones(4, 4, dtype=torch.bool)))[..., 3] == 255
    assert whole.sum() == 12  # the border


def test_cells_that_are_masked_are_dark() -> None:
    layer = decode(cells_layer(torch.tensor([[1.0, 0.0, 1.0]])))
    assert layer.shape == (1, 3, 4)
    assert layer[0, :, 3].tolist() == [0, 165, 0]
