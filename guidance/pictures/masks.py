"""Pictures of the masks of a net that masks its features: which cells of each stage it used (AIM, Fig. 6 and 7)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from guidance.pictures.layout import Layout, draw_cell, shorten, to_array
from guidance.pictures.overlays import OUTLINE, check_image, overlay, to_uint8
from guidance.runs.logs import Image

_SHADE = 0.35  # brightness of what is masked
_GRID = 7.0  # pixels: the edges of smaller cells would cover the picture


def masked(image: Tensor, mask: Tensor) -> Image:
    """`image` [3, H, W] in [0, 1] as it is in the active cells of `mask` [h, w]; grey and dark in the others.

    A cell covers the pixels that are nearest to it. Returns [H, W, 3] uint8.
    """
    check_image(image)
    pixels = image.detach().double().cpu()
    active = functional.interpolate((mask > 0).double().cpu()[None, None], (image.shape[1], image.shape[2]))[0]
    shaded = _SHADE * pixels.mean(0, keepdim=True)
    return to_uint8(torch.where(active > 0, pixels, shaded).permute(1, 2, 0).numpy())


def mask_panel(
    images: Tensor,
    masks: Mapping[str, Tensor],
    merged: Tensor | None = None,
    *,
    names: Sequence[str] = (),
    captions: Mapping[str, Sequence[str]] | None = None,
    attributions: Mapping[str, Tensor] | None = None,
    cell: float = 2.0,
    dpi: int = 110,
) -> Image:
    """A table of pictures: one row per image; the image, the mask of each stage over it, the merged mask, and maps.

    `images` [N, 3, H, W] in [0, 1]; `masks`: stage -> [N, 1, h, w] in {0, 1}; `merged` [N, 1, h, w]: column "merged";
    `attributions`: column title -> [N, h, w] signed maps, each on its own scale (see `overlays.overlay`). `names`: N texts
    under the images; `captions`: column title (a stage, "merged", or a map) -> N texts, in place of the share of active
    cells under a mask. `cell`: width of a picture in inches. Returns [height, width, 3] uint8. Raises ValueError without
    masks and for shapes that do not belong together.
    """
    masks = dict(masks) | ({} if merged is None else {"merged": merged})
    attributions, captions = attributions or {}, captions or {}
    _check(images, masks, attributions, captions, names)
    rows, columns = len(images), 1 + len(masks) + len(attributions)
    foot = 0.46 if attributions else 0.16
    layout = Layout(rows, columns, cell, cell * images.shape[2] / images.shape[3], foot=foot)
    figure = layout.figure(dpi)
    nothing = np.zeros((images.shape[2], images.shape[3]), dtype=np.bool_)
    for row, image in enumerate(images):
        pictures = _row(image, masks, attributions, row)
        for column, (title, pixels, mask) in enumerate(pictures):
            text = _caption(title, mask, row, names, captions) if column or names else ""
            axes = layout.axes(figure, row, column)
            draw_cell(axes, pixels, nothing, shorten(text, cell, 9))
            if mask is not None:
                _draw_edges(axes, mask.cpu().numpy() > 0, nothing.shape, cell * dpi)
    titles = ["image", *(f"{stage} {mask.shape[2]}x{mask.shape[3]}" for stage, mask in masks.items()), *attributions]
    for column, title in enumerate(titles):
        layout.title(figure, column, title)
    if attributions:
        layout.legend(figure, "dark cells are masked; one scale per map")
    else:
        y = layout.margin / layout.size[1]
        figure.text(0.5, y, "dark cells are masked", size=7, color="0.35", ha="center", va="bottom")
    return to_array(figure)


def _row(
    image: Tensor, masks: Mapping[str, Tensor], attributions: Mapping[str, Tensor], row: int
) -> Iterator[tuple[str, Image, Tensor | None]]:
    """Title, pixels and mask [h, w] of each picture."""
    yield "image", to_uint8(image.detach().double().cpu().permute(1, 2, 0).numpy()), None
    for stage, mask in masks.items():
        yield stage, masked(image, mask[row, 0]), mask[row, 0]
    for title, maps in attributions.items():
        yield title, overlay(image, maps[row]), None


def _caption(
    title: str, mask: Tensor | None, row: int, names: Sequence[str], captions: Mapping[str, Sequence[str]]
) -> str:
    if title == "image":
        return names[row]
    if title in captions:
        return captions[title][row]
    return "" if mask is None else f"{100 * float((mask > 0).double().mean()):.0f} % active"


def _draw_edges(axes: Axes, active: NDArray[np.bool_], size: tuple[int, ...], side: float) -> None:
    """The edges of all cells, if they are large enough, and between active and masked ones. `side`: of the axes, in pixels."""
    height, width = size
    if side / max(active.shape) >= _GRID:
        lines = _edges(active, height, width, inner=True)
        axes.add_collection(LineCollection(lines, colors="0.5", linewidths=0.5, alpha=0.55))
    lines = _edges(active, height, width)
    for colour, line in (("black", 1.8), (OUTLINE, 0.9)):
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=line, capstyle="projecting"))


def _edges(
    active: NDArray[np.bool_], height: float, width: float, *, inner: bool = False
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Lines ((x, y), (x, y)) around the active cells; with `inner`, between all cells."""
    rows, columns = active.shape
    high, wide = height / rows, width / columns
    padded = np.pad(active, 1)
    level = (padded[1:, 1:-1] != padded[:-1, 1:-1]) | inner
    upright = (padded[1:-1, 1:] != padded[1:-1, :-1]) | inner
    lines = [((j * wide, i * high), ((j + 1) * wide, i * high)) for i, j in np.argwhere(level)]
    return lines + [((j * wide, i * high), (j * wide, (i + 1) * high)) for i, j in np.argwhere(upright)]


def _check(
    images: Tensor,
    masks: Mapping[str, Tensor],
    attributions: Mapping[str, Tensor],
    captions: Mapping[str, Sequence[str]],
    names: Sequence[str],
) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or len(images) == 0:
        raise ValueError(f"images have shape {list(images.shape)}; expected [N, 3, H, W] with N of at least 1")
    if not masks:
        raise ValueError("there are no masks to draw; only nets that mask their features (AIM) have them")
    for stage, mask in masks.items():
        if mask.ndim != 4 or mask.shape[:2] != (len(images), 1):
            raise ValueError(f"masks[{stage!r}] has shape {list(mask.shape)}; expected [{len(images)}, 1, h, w]")
    for title, maps in attributions.items():
        if maps.ndim != 3 or len(maps) != len(images):
            raise ValueError(f"attributions[{title!r}] has shape {list(maps.shape)}; expected [{len(images)}, h, w]")
    sizes = {f"captions[{title!r}]": len(texts) for title, texts in captions.items()}
    sizes |= {"names": len(names)} if names else {}
    for what, size in sizes.items():
        if size != len(images):
            raise ValueError(f"{what} has {size} entries for {len(images)} images")
    known = {*masks, *attributions}
    for title in captions:
        if title not in known:
            raise ValueError(f"captions[{title!r}] has no column; the columns are {', '.join(sorted(known))}")
