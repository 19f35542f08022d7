"""Where the pictures of a panel lie, and how each is drawn.

Everything is drawn on figures of its own with Agg, never through pyplot: no display is needed and no state is shared.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray

from guidance.pictures.overlays import OUTLINE, TRAINED, ramp
from guidance.runs.logs import Image


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
        y, long, thick = (self.margin + 0.20) / height, 0.26, 0.11 / height
        axes = figure.add_axes((0.5 - long / 2, y, long, thick))
        axes.imshow(ramp(), aspect="auto")
        axes.set_axis_off()
        figure.text(0.5 - long / 2 - 0.02, y + thick / 2, "against", size=8, ha="right", va="center")
        figure.text(0.5 + long / 2 + 0.02, y + thick / 2, "for the class", size=8, ha="left", va="center")
        figure.text(0.5, self.margin / height, note, size=7, color="0.35", ha="center", va="bottom")


def draw_cell(
    axes: Axes, pixels: Image, mask: NDArray[np.bool_], caption: str, trained: NDArray[np.bool_] | None = None
) -> None:
    """One picture of a panel: `pixels`, over them the outline of `mask` [H, W], dashed that of `trained`; below, the text."""
    height, width = mask.shape
    axes.imshow(pixels, extent=(0, width, height, 0), interpolation="nearest", aspect="auto")
    if trained is not None:
        _outline(axes, trained, TRAINED, "dashed")
    _outline(axes, mask, OUTLINE, "solid")
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(linewidth=0.6, color="0.3")
    axes.set_xlabel(caption, size=9, labelpad=3)


def _outline(axes: Axes, mask: NDArray[np.bool_], colour: str, style: str) -> None:
    if not mask.any():
        return
    padded = np.pad(mask.astype(float), 1)
    x, y = np.arange(-0.5, mask.shape[1] + 1), np.arange(-0.5, mask.shape[0] + 1)
    for own, line, dashes in (("black", 2.6, "solid"), (colour, 1.3, style)):
        drawn = axes.contour(x, y, padded, levels=[0.5], colors=[own], linewidths=[line], linestyles=[dashes])
        drawn.set_clip_on(False)


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
