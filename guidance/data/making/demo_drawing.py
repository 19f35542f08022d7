"""The pictures of the demo set: a small sign with a symbol, before a bold texture. Drawn with numpy."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def _stripes(x: Floats, y: Floats, period: float) -> Floats:
    return 2.0 * np.sin(2 * np.pi * x / period)


def _checker(x: Floats, y: Floats, period: float) -> Floats:
    return 4.0 * np.sin(2 * np.pi * x / period) * np.sin(2 * np.pi * y / period)


def _dots(x: Floats, y: Floats, period: float) -> Floats:
    to_centre = np.hypot(x % period - period / 2, y % period - period / 2)
    return 6.0 * (0.32 - to_centre / period)


# Each maps pixel coordinates to a pattern: one colour where it is below -1, another where it is above 1.
TEXTURES: Mapping[str, Callable[[Floats, Floats, float], Floats]] = {
    "stripes": _stripes,
    "checker": _checker,
    "dots": _dots,
}


def _ring(x: Floats, y: Floats) -> Floats:
    distance: Floats = np.abs(np.hypot(x, y) - 0.32) - 0.1
    return distance


def _cross(x: Floats, y: Floats) -> Floats:
    upright, level = (np.maximum(np.abs(x) - a, np.abs(y) - b) for a, b in ((0.1, 0.42), (0.42, 0.1)))
    return np.minimum(upright, level)


def _triangle(x: Floats, y: Floats) -> Floats:
    distance: Floats = np.maximum(y, np.sqrt(0.75) * np.abs(x) - y / 2) - 0.26
    return distance


def _disc(x: Floats, y: Floats) -> Floats:
    distance: Floats = np.hypot(x, y) - 0.36
    return distance


def _bar(x: Floats, y: Floats) -> Floats:
    distance: Floats = np.maximum(np.abs(x) - 0.42, np.abs(y) - 0.13)
    return distance


def _pole(x: Floats, y: Floats) -> Floats:
    return _bar(y, x)


def _plate(x: Floats, y: Floats) -> Floats:
    """A square with rounded corners."""
    corner = 0.15
    beyond_x, beyond_y = np.abs(x) - (0.5 - corner), np.abs(y) - (0.5 - corner)
    inside = np.minimum(np.maximum(beyond_x, beyond_y), 0)
    distance: Floats = np.hypot(np.maximum(beyond_x, 0), np.maximum(beyond_y, 0)) + inside - corner
    return distance


# Each maps coordinates around the sign's centre, in sides of the sign, to the distance from the edge of the symbol,
# negative inside.
SYMBOLS: Mapping[str, Callable[[Floats, Floats], Floats]] = {
    "ring": _ring,
    "cross": _cross,
    "triangle": _triangle,
    "disc": _disc,
    "bar": _bar,
    "pole": _pole,
}


def draw(
    symbol: str, texture: str, image_size: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """One picture [s, s, 3] uint8 and the mask [s, s] bool of its sign.

    Colours, place, size (three to four tenths of the side), the turn of the symbol, and the texture's period and angle
    are random. The sign is plain but for its symbol: nothing inside its box shows the texture, bar the box's corners.
    """
    x, y = np.meshgrid(np.arange(image_size) + 0.5, np.arange(image_size) + 0.5)
    picture = _background(texture, x, y, image_size, rng)
    size = image_size * rng.uniform(0.3, 0.4)
    centre = rng.uniform(0.55 * size, image_size - 0.55 * size, 2)
    across, down = (x - centre[0]) / size, (y - centre[1]) / size
    plate, symbol_edge = _plate(across, down), SYMBOLS[symbol](*_turn(across, down, rng.uniform(-0.2, 0.2)))
    hue = rng.uniform()
    paper, ink = (
        _colour(hue, 0.2, rng.uniform(0.85, 1)),
        _colour(hue + rng.uniform(0.3, 0.7), 0.9, rng.uniform(0.3, 0.6)),
    )
    for edge, colour in ((plate, paper), (symbol_edge, ink)):
        cover = np.clip(0.5 - edge * size, 0, 1)[..., None]
        picture = (1 - cover) * picture + cover * colour
    picture = picture + rng.normal(0, 0.03, picture.shape)
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8), plate < 0


def _background(texture: str, x: Floats, y: Floats, image_size: int, rng: np.random.Generator) -> Floats:
    period = image_size * rng.uniform(0.14, 0.24)
    across, along = _turn(x + rng.uniform(0, period), y + rng.uniform(0, period), rng.uniform(0, np.pi))
    mix = np.clip(0.5 + 0.5 * TEXTURES[texture](across, along, period), 0, 1)[..., None]
    hue = rng.uniform()
    dark, light = _colour(hue, 0.5, rng.uniform(0.1, 0.3)), _colour(hue + rng.uniform(0.2, 0.8), 0.25, 0.9)
    if rng.uniform() < 0.5:
        dark, light = light, dark
    return (1 - mix) * dark + mix * light


def _turn(x: Floats, y: Floats, angle: float) -> tuple[Floats, Floats]:
    return np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x


def _colour(hue: float, saturation: float, value: float) -> Floats:
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, value))
