"""Pictures: maps over images, and panels of them.

Everything is drawn on figures of its own with Agg, never through pyplot: no display is needed and no state is shared.
Colours are from Okabe & Ito's palette, which colour-blind readers can tell apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray
from torch import Tensor

from guidance.maps import upsample
from guidance.types import lookup

Image = NDArray[np.uint8]  # [H, W, 3]

FOR, AGAINST, OUTLINE = "#D55E00", "#0072B2", "#F0E442"  # evidence for and against the class; edge of a mask
_WASH, _OPACITY = 0.6, 0.8  # share of the grey image in the background; opacity of the strongest evidence


def colour_scale(attributions: Sequence[Tensor]) -> float:
    """The magnitude that is shown in full colour: the 99.5 % quantile of |value| over the given maps, 0 if all are zero.

    A quantile, because at the input single pixels outshine a map by orders of magnitude. NaN and infinity do not count.
    """
    values = np.concatenate([a.detach().float().abs().flatten().cpu().numpy() for a in attributions])
    values = values[np.isfinite(values)]
    if not values.any():
        return 0.0
    return float(np.quantile(values, 0.995)) or float(values.max())


def overlay(image: Tensor, attribution: Tensor, *, scale: float | None = None) -> Image:
    """A signed map over the greyed image: evidence for the class orange, against it blue, none transparent.

    `image` [3, H, W] in [0, 1]; `attribution` [h, w], upsampled bilinearly. Opacity grows linearly with the magnitude up
    to `scale` (default: `colour_scale` of this map; give one value to maps that are to be compared). Not finite values
    are shown as zero. Returns [H, W, 3] uint8.
    """
    check_image(image)
    attribution = torch.nan_to_num(attribution.detach().float().cpu(), nan=0.0, posinf=0.0, neginf=0.0)
    scale = colour_scale([attribution]) if scale is None else scale
    height, width = image.shape[1:]
    values = upsample(attribution[None], (height, width))[0].numpy() / (scale if scale > 0 else 1.0)
    opacity = _OPACITY * np.clip(np.abs(values), 0.0, 1.0)[..., None]
    grey = image.detach().float().cpu().clamp(0, 1).mean(0).numpy()[..., None]
    background = _WASH * grey + (1.0 - _WASH)
    colour = np.where(values[..., None] > 0, _rgb(FOR), _rgb(AGAINST))
    return to_uint8(background * (1.0 - opacity) + colour * opacity)


def check_image(image: Tensor) -> None:
    """Raises ValueError unless `image` is [3, H, W]."""
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(
            f"an image of shape {list(image.shape)} cannot be shown; expected [3, H, W] with values in [0, 1]"
        )


def _rgb(colour: str) -> NDArray[np.float64]:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255.0


def to_uint8(image: NDArray[np.float64]) -> Image:
    """[H, W, 3] in [0, 1] -> the same in 0 to 255; what lies outside is cut off."""
    return np.rint(np.clip(image, 0.0, 1.0) * 255.0).astype(np.uint8)


def panel(
    images: Tensor,
    attributions: Mapping[str, Tensor],
    masks: Tensor,
    captions: Mapping[str, Sequence[str]] | None = None,
    *,
    names: Sequence[str] = (),
    shared_scale: bool = True,
    cell: float = 2.0,
    dpi: int = 110,
) -> Image:
    """A table of pictures: one row per image; the image with its mask outlined, then one column per attribution.

    `images` [N, 3, H, W] in [0, 1]; `attributions`: column title -> [N, h, w] signed maps; `masks` [N, H, W] bool;
    `captions`: column title -> N short texts under the maps, such as "EPG 0.71"; `names`: N texts under the images, such
    as the class. `shared_scale`: the maps of a row share one colour scale, so that before and after can be compared;
    else each has its own. `cell`: width of a picture in inches. Returns [height, width, 3] uint8.
    """
    captions = captions or {}
    _check_panel(images, attributions, masks, captions, names)
    rows, columns = len(images), 1 + len(attributions)
    legend = 0.46 if attributions else 0.0
    layout = Layout(rows, columns, cell, cell * images.shape[2] / images.shape[3], foot=legend)
    figure = layout.figure(dpi)
    for row, (image, mask) in enumerate(zip(images, masks.cpu().numpy(), strict=True)):
        maps = {title: a[row] for title, a in attributions.items()}
        shared = colour_scale(list(maps.values())) if shared_scale and maps else None
        pixels = to_uint8(image.detach().double().cpu().permute(1, 2, 0).numpy())
        draw_cell(layout.axes(figure, row, 0), pixels, mask, shorten(names[row] if names else "", cell, 9))
        for column, (title, attribution) in enumerate(maps.items(), start=1):
            text = shorten(captions[title][row] if title in captions else "", cell, 9)
            draw_cell(layout.axes(figure, row, column), overlay(image, attribution, scale=shared), mask, text)
    for column, title in enumerate(["image", *attributions]):
        layout.title(figure, column, title)
    if attributions:
        layout.legend(figure, "one scale per row" if shared_scale else "one scale per map")
    return to_array(figure)


def _check_panel(
    images: Tensor,
    attributions: Mapping[str, Tensor],
    masks: Tensor,
    captions: Mapping[str, Sequence[str]],
    names: Sequence[str],
) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or len(images) == 0:
        raise ValueError(f"images have shape {list(images.shape)}; expected [N, 3, H, W] with N of at least 1")
    if masks.shape != (len(images), *images.shape[2:]):
        raise ValueError(f"masks have shape {list(masks.shape)}; expected {[len(images), *images.shape[2:]]}")
    sizes = {f"attributions[{title!r}]": len(maps) for title, maps in attributions.items()}
    sizes |= {f"captions[{title!r}]": len(texts) for title, texts in captions.items()}
    sizes |= {"names": len(names)} if names else {}
    for what, size in sizes.items():
        if size != len(images):
            raise ValueError(f"{what} has {size} entries for {len(images)} images")
    for title in captions:
        lookup(attributions, title, "column of captions")


@dataclass(frozen=True)
class Layout:
    """Where the pictures of a panel lie; lengths in inches."""

    rows: int
    columns: int
    width: float  # of a picture
    height: float
    margin: float = 0.12
    gap: float = 0.12
    title_height: float = 0.30
    caption_height: float = 0.26
    foot: float = 0.0  # room below the last row, for a legend

    @property
    def size(self) -> tuple[float, float]:
        width = 2 * self.margin + self.columns * self.width + (self.columns - 1) * self.gap
        return width, self.title_height + self.rows * (self.height + self.caption_height) + self.margin + self.foot

    def figure(self, dpi: int) -> Figure:
        figure = Figure(figsize=self.size, dpi=dpi, facecolor="white")
        FigureCanvasAgg(figure)
        return figure

    def axes(self, figure: Figure, row: int, column: int) -> Axes:
        width, height = self.size
        left = self.margin + column * (self.width + self.gap)
        top = self.title_height + row * (self.height + self.caption_height) + self.height
        return figure.add_axes((left / width, 1 - top / height, self.width / width, self.height / height))

    def title(self, figure: Figure, column: int, text: str) -> None:
        width, height = self.size
        x = self.margin + column * (self.width + self.gap) + self.width / 2
        text = shorten(text, self.width, 10)
        figure.text(
            x / width, 1 - 0.5 * self.title_height / height, text, size=10, weight="bold", ha="center", va="center"
        )

    def legend(self, figure: Figure, note: str) -> None:
        """A ramp of the colours, at the foot of the figure."""
        height = self.size[1]
        ramp = np.linspace(-1, 1, 201)[None]
        colours = np.where(ramp[..., None] > 0, _rgb(FOR), _rgb(AGAINST))
        opacity = _OPACITY * np.abs(ramp)[..., None]
        y, long, thick = (self.margin + 0.20) / height, 0.26, 0.11 / height
        axes = figure.add_axes((0.5 - long / 2, y, long, thick))
        axes.imshow(colours * opacity + (1 - _WASH / 2) * (1 - opacity), aspect="auto")
        axes.set_axis_off()
        figure.text(0.5 - long / 2 - 0.02, y + thick / 2, "against", size=8, ha="right", va="center")
        figure.text(0.5 + long / 2 + 0.02, y + thick / 2, "for the class", size=8, ha="left", va="center")
        figure.text(0.5, self.margin / height, note, size=7, color="0.35", ha="center", va="bottom")


def draw_cell(axes: Axes, pixels: Image, mask: NDArray[np.bool_], caption: str) -> None:
    """One picture of a panel: `pixels`, the outline of `mask` [H, W] over them, and the text below."""
    height, width = mask.shape
    axes.imshow(pixels, extent=(0, width, height, 0), interpolation="nearest", aspect="auto")
    padded = np.pad(mask.astype(float), 1)
    x, y = np.arange(-0.5, width + 1), np.arange(-0.5, height + 1)
    if mask.any():
        for colour, line in (("black", 2.6), (OUTLINE, 1.3)):
            axes.contour(x, y, padded, levels=[0.5], colors=[colour], linewidths=[line]).set_clip_on(False)
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(linewidth=0.6, color="0.3")
    axes.set_xlabel(caption, size=9, labelpad=3)


def shorten(text: str, width: float, size: float) -> str:
    """`text`, cut with an ellipsis where it would be wider than `width` inches at that font size."""
    fitting = max(4, int(width * 72 / (0.6 * size)))
    return text if len(text) <= fitting else text[: fitting - 1] + "…"


def to_array(figure: Figure) -> Image:
    """A drawn figure as [height, width, 3] uint8."""
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def write_png(path: str | Path, image: Image) -> None:
    """Write [H, W, 3] uint8 as a PNG file; makes the folder."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    imsave(path, image, format="png")
