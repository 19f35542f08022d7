"""Panels: the same images with the maps of several nets or methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from guidance.pictures.layout import Layout, draw_cell, shorten, to_array
from guidance.pictures.overlays import colour_scale, overlay, to_uint8
from guidance.runs.logs import Image
from guidance.types import lookup

CELL = 2.0  # width of a picture in inches


def panel(
    images: Tensor,
    attributions: Mapping[str, Tensor],
    masks: Tensor,
    captions: Mapping[str, Sequence[str]] | None = None,
    *,
    names: Sequence[str] = (),
    shared_scale: bool = True,
    trained: Tensor | None = None,
    dpi: int = 110,
) -> Image:
    """A table of pictures: one row per image; the image with its mask outlined, then one column per attribution.

    `images` [N, 3, H, W] in [0, 1]; `attributions`: column title -> [N, h, w] signed maps; `masks` [N, H, W] bool;
    `captions`: column title -> N short texts under the maps, such as "EPG 0.71"; `names`: N texts under the images, such
    as the class. `shared_scale`: the maps of a row share one colour scale, so that before and after can be compared;
    else each has its own. `trained` [N, H, W] bool: the masks as training has them, such as dilated boxes, outlined too, with
    dashes, where they are others. Returns [height, width, 3] uint8.
    """
    captions = captions or {}
    _check_panel(
        images, attributions, {"masks": masks} | ({} if trained is None else {"trained": trained}), captions, names
    )
    rows, columns = len(images), 1 + len(attributions)
    legend = 0.46 if attributions else 0.0
    layout = Layout(rows, columns, CELL, CELL * images.shape[2] / images.shape[3], foot=legend)
    figure = layout.figure(dpi)
    other = [False] * rows if trained is None else (trained != masks).flatten(1).any(1).tolist()
    for row, (image, mask) in enumerate(zip(images, masks.cpu().numpy(), strict=True)):
        own = trained[row].cpu().numpy() if trained is not None and other[row] else None
        maps = {title: a[row] for title, a in attributions.items()}
        shared = colour_scale(list(maps.values())) if shared_scale and maps else None
        pixels = to_uint8(image.detach().double().cpu().permute(1, 2, 0).numpy())
        draw_cell(layout.axes(figure, row, 0), pixels, mask, shorten(names[row] if names else "", CELL, 9), own)
        for column, (title, attribution) in enumerate(maps.items(), start=1):
            text = shorten(captions[title][row] if title in captions else "", CELL, 9)
            draw_cell(layout.axes(figure, row, column), overlay(image, attribution, scale=shared), mask, text, own)
    for column, title in enumerate(["image", *attributions]):
        layout.title(figure, column, title)
    if attributions:
        note = f"one scale per {'row' if shared_scale else 'map'}{'; dashed: as dilated in training' if any(other) else ''}"
        layout.legend(figure, note)
    return to_array(figure)


def _check_panel(
    images: Tensor,
    attributions: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    captions: Mapping[str, Sequence[str]],
    names: Sequence[str],
) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or len(images) == 0:
        raise ValueError(f"images have shape {list(images.shape)}; expected [N, 3, H, W] with N of at least 1")
    for what, given in masks.items():
        if given.shape != (len(images), *images.shape[2:]):
            raise ValueError(f"{what} have shape {list(given.shape)}; expected {[len(images), *images.shape[2:]]}")
    sizes = {f"attributions[{title!r}]": len(maps) for title, maps in attributions.items()}
    sizes |= {f"captions[{title!r}]": len(texts) for title, texts in captions.items()}
    sizes |= {"names": len(names)} if names else {}
    for what, size in sizes.items():
        if size != len(images):
            raise ValueError(f"{what} has {size} entries for {len(images)} images")
    for title in captions:
        lookup(attributions, title, "column of captions")
