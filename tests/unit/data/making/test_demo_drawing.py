"""Textures, symbols and pictures of the demo set, by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from guidance.data.making.demo_drawing import SYMBOLS, TEXTURES, draw


@pytest.mark.parametrize(
    ("pattern", "x", "y", "period", "value"),
    [
        ("stripes", 0.5, 7.0, 4.0, 2**0.5), ("stripes", 1.0, 7.0, 4.0, 2.0), ("stripes", 3.0, 7.0, 4.0, -2.0),
        ("checker", 1.0, 1.0, 8.0, 2.0), ("checker", 2.0, 2.0, 8.0, 4.0), ("checker", 2.0, 6.0, 8.0, -4.0),
        ("dots", 2.0, 2.0, 4.0, 1.92), ("dots", 6.0, 3.0, 4.0, 0.42), ("dots", 0.0, 2.0, 4.0, -1.08),
    ],
)  # fmt: skip
def test_textures_by_hand(pattern: str, x: float, y: float, period: float, value: float) -> None:
    assert TEXTURES[pattern](np.array(x), np.array(y), period) == pytest.approx(value)


@pytest.mark.parametrize(
    ("symbol", "x", "y", "distance"),
    [
        ("ring", 0.0, 0.0, 0.22), ("ring", 0.0, 0.32, -0.1), ("ring", 0.3, 0.4, 0.08),
        ("cross", 0.0, 0.0, -0.1), ("cross", 0.3, 0.0, -0.1), ("cross", 0.0, 0.3, -0.1), ("cross", 0.5, 0.0, 0.08),
        ("cross", 0.0, -0.5, 0.08), ("cross", 0.3, 0.3, 0.2),
        ("triangle", 0.0, 0.0, -0.26), ("triangle", 0.1, 0.26, 0.0), ("triangle", 0.0, -0.52, 0.0),
        ("triangle", 0.4 * 3**0.5, -0.2, 0.44),
        ("disc", 0.0, 0.0, -0.36), ("disc", 0.3, 0.4, 0.14), ("bar", 0.0, 0.0, -0.13), ("bar", 0.3, 0.13, 0.0),
        ("bar", 0.5, 0.0, 0.08), ("bar", 0.0, 0.5, 0.37), ("pole", 0.13, 0.3, 0.0), ("pole", 0.0, 0.5, 0.08),
    ],
)  # fmt: skip
def test_symbols_by_hand(symbol: str, x: float, y: float, distance: float) -> None:
    assert SYMBOLS[symbol](np.array(x), np.array(y)) == pytest.approx(distance)


class FixedDraws:
    """In the place of a random generator: always the same share of a range, and noise of one standard deviation."""

    def __init__(self, share: float) -> None:
        self.share = share

    def uniform(self, low: float = 0.0, high: float = 1.0, size: int | None = None) -> Any:
        value = low + self.share * (high - low)
        return value if size is None else np.full(size, value)

    def normal(self, mean: float, deviation: float, shape: tuple[int, ...]) -> Any:
        return np.full(shape, mean + deviation)


def test_pictures_by_hand() -> None:
    """100 pixels a side: colours are those of HSV, plus 0.03 of noise, times 255."""
    random: Any = FixedDraws(0.5)  # a sign of 35 pixels in the middle; stripes along the rows, 19 pixels apart
    picture, mask = draw("ring", "stripes", 100, random)
    assert np.argwhere(mask.any(0)).flatten().tolist() == list(range(33, 67))
    assert mask.sum() == mask[33:67, 33:67].sum()
    assert mask[50, 33:67].all()
    for place, colour in {
        (5, 0): (33, 59, 59), (14, 0): (237, 180, 180),  # the texture: hue and hue + 0.5
        (50, 50): (196, 244, 244), (50, 60): (122, 19, 19),  # the paper and the ink of the sign: hue and hue + 0.5
        (50, 67): (217, 212, 212),  # half paper, half texture
    }.items():  # fmt: skip
        assert picture[place].tolist() == list(colour)
    random = FixedDraws(0.25)  # a pattern turned by 45 degrees, whose light colour takes the place of the dark one
    picture, _ = draw("ring", "checker", 100, random)
    assert picture[10, 0].tolist() == [180, 203, 237]
