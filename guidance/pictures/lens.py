"""Maps of several classes of one image, with and without the lens (Attribution Lens, Figs. 1, 3 and 4), and concepts masked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from guidance.maps import upsample
from guidance.pictures.layout import Layout, draw_cell, shorten, to_array
from guidance.pictures.overlays import colour_scale, overlay, to_uint8
from guidance.runs.logs import Image


class MapRow(NamedTuple):
    """One row of the figure: the maps [C', h, w] of one method, or of what the lens leaves of them."""

    method: str  # rows of one method share a colour scale
    title: str
    maps: Tensor


def class_panel(
    image: Tensor, classes: Sequence[str], rows: Sequence[MapRow], *, cell: float = 1.7, dpi: int = 110
) -> Image:
    """A table of pictures: the image, and a column for each class; a row for each of `rows`.

    `image` [3, H, W] in [0, 1]. The maps of a method, with and without the lens, are on one colour scale, so that what the lens
    removes and weakens is seen; methods differ in scale by orders of magnitude. Returns [height, width, 3] uint8. Raises
    ValueError without rows, and for maps that are not one for each class.
    """
    if not rows or any(len(row.maps) != len(classes) for row in rows):
        raise ValueError(f"expected a row of {len(classes)} maps or more; got {[len(row.maps) for row in rows]}")
    layout = Layout(len(rows), 1 + len(classes), cell, cell * image.shape[1] / image.shape[2], foot=0.46)
    figure = layout.figure(dpi)
    none = np.zeros(image.shape[1:], dtype=bool)
    pixels = to_uint8(image.detach().double().cpu().permute(1, 2, 0).numpy())
    size = (image.shape[1], image.shape[2])
    large = [row._replace(maps=upsample(row.maps.detach().float().cpu(), size)) for row in rows]
    scales = {row.method: colour_scale([other.maps for other in large if other.method == row.method]) for row in large}
    for r, row in enumerate(large):
        draw_cell(layout.axes(figure, r, 0), pixels, none, shorten(row.title, cell, 9))
        for c, values in enumerate(row.maps):
            drawn = overlay(image, values, scale=scales[row.method])
            draw_cell(layout.axes(figure, r, 1 + c), drawn, none, "")
    for column, title in enumerate(["image", *classes]):
        layout.title(figure, column, title)
    layout.legend(figure, "one scale per method, with and without the lens")
    return to_array(figure)


def concept_panel(
    image: Tensor,
    masks: Mapping[str, Tensor],
    masked: Mapping[str, Tensor],
    probabilities: Mapping[str, Mapping[str, float]],
    *,
    cell: float = 2.4,
    dpi: int = 110,
) -> Image:
    """The image, and what is left of it when the evidence for each class is masked (Fig. 5), with the probabilities below.

    `masks`: class -> [H, W] bool; `masked`: class -> [3, H, W] in [0, 1]; `probabilities`: "" (of the image) or the class that
    is masked -> class -> probability. Returns [height, width, 3] uint8.
    """
    layout = Layout(1, 1 + len(masks), cell, cell * image.shape[1] / image.shape[2], caption_height=0.62)
    figure = layout.figure(dpi)
    for column, name in enumerate(["", *masks]):
        shown = masked[name] if name else image
        outline = masks[name].cpu().numpy() if name else np.zeros(image.shape[1:], dtype=bool)
        text = "\n".join(f"{shorten(c, cell - 0.6, 9)} {p:.3f}" for c, p in probabilities[name].items())
        pixels = to_uint8(shown.detach().double().cpu().permute(1, 2, 0).numpy())
        draw_cell(layout.axes(figure, 0, column), pixels, outline, text)
        layout.title(figure, column, f"without {name}" if name else "image")
    return to_array(figure)
