"""Pictures of masks: which pixels are dark, where the edges run, what is written below."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from guidance.pictures import masks as mask_pictures
from guidance.pictures.masks import _edges, mask_panel, masked
from guidance.pictures.overlays import OUTLINE, overlay


def example(rows: int = 2) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    images = torch.full((rows, 3, 32, 48), 0.5)
    images[:, 0] = 1.0
    corner = torch.zeros(rows, 1, 4, 6)
    corner[0, 0, 0, 0] = 1
    large = torch.ones(rows, 1, 2, 3)
    return images, {"stage1": corner, "stage2": large}, large.clone()


def cell(panel: np.ndarray, row: int, column: int, *, dpi: int = 100, columns: int = 4) -> np.ndarray:
    """The pixels of one picture of a panel of 48 x 32 images, without its frame."""
    left, top = 0.12 + column * 2.12, 0.30 + row * (2.0 * 32 / 48 + 0.26)
    height, width = 2.0 * 32 / 48, 2.0
    rows, cols = (slice(round(a * dpi) + 3, round((a + size) * dpi) - 3) for a, size in ((top, height), (left, width)))
    return panel[rows, cols]


def close(pixels: np.ndarray, colour: tuple[float, ...], tolerance: float = 4) -> np.ndarray:
    return (np.abs(pixels.astype(float) - np.array(colour)) <= tolerance).all(-1)


RED, DARK = (255, 128, 128), (59.5, 59.5, 59.5)  # the image of `example`; 0.35 of its grey, 2/3
YELLOW = tuple(int(OUTLINE[i : i + 2], 16) for i in (1, 3, 5))


def test_masked_cells_are_dark_grey_and_the_others_as_they_are() -> None:
    image = torch.tensor([0.8, 0.4, 0.6]).view(3, 1, 1).expand(3, 4, 4)
    picture = masked(image, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert picture.dtype == np.uint8
    on, off = [204, 102, 153], [54, 54, 54]  # 0.35 x 0.6 x 255 = 53.55
    assert picture[:2, :2].reshape(-1, 3).tolist() == [on] * 4
    assert picture[2:, 2:].reshape(-1, 3).tolist() == [on] * 4
    assert picture[:2, 2:].reshape(-1, 3).tolist() == [off] * 4
    # Cells that do not divide the image: each pixel takes the cell that its centre's index falls into, as features do.
    odd = masked(torch.ones(3, 5, 5), torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    assert (odd[..., 0] == 255).sum(0).tolist() == [3, 3, 3, 0, 0]
    assert (masked(torch.full((3, 2, 2), 7.0), torch.ones(1, 1)) == 255).all()
    with pytest.raises(ValueError, match=r"shape \[6, 4, 4\] cannot be shown"):
        masked(torch.zeros(6, 4, 4), torch.ones(1, 1))


def test_edges_run_around_the_active_cells() -> None:
    """One active cell in the middle of 3 x 3, of 20 pixels each (10 high)."""
    active = np.zeros((3, 3), dtype=bool)
    active[1, 1] = True
    box = {
        ((20.0, 10.0), (40.0, 10.0)),
        ((20.0, 20.0), (40.0, 20.0)),
        ((20.0, 10.0), (20.0, 20.0)),
        ((40.0, 10.0), (40.0, 20.0)),
    }
    assert set(_edges(active, 30, 60)) == box
    assert len(_edges(active, 30, 60, inner=True)) == 2 * 3 * 4
    assert _edges(~np.ones((2, 2), dtype=bool), 30, 60) == []
    assert len(_edges(np.ones((2, 2), dtype=bool), 30, 60)) == 8  # at the rim of the image too


def test_panel_shows_each_mask_where_it_belongs() -> None:
    images, masks, merged = example()
    panel = mask_panel(images, masks, merged, names=["bird", "fish"], dpi=100)
    # Column 0 is the image, untouched.
    assert close(cell(panel, 0, 0), RED).all()
    # stage1: the upper left of 4 x 6 cells in the first row, nothing in the second.
    first, second = cell(panel, 0, 1), cell(panel, 1, 1)
    assert close(first[10:20, 10:20], RED).all()
    assert close(first[45:58, 75:90], DARK).all()  # inside a cell
    assert not close(first[40:, 40:], RED).any()
    assert not close(second, RED).any()
    assert not close(second, YELLOW, 40).any()
    assert close(first, YELLOW, 40).any()
    # stage2 and merged: everything is active, and only faint cell edges cross the picture.
    for column in (2, 3):
        assert close(cell(panel, 0, column), RED).mean() > 0.85
        assert not close(cell(panel, 0, column), DARK).any()
    white = np.concatenate([panel[:2].reshape(-1, 3), panel[-2:].reshape(-1, 3), panel[:, :2].reshape(-1, 3)])
    assert (white == 255).all()


def test_titles_captions_and_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    images, masks, merged = example()
    maps = {"GradCAM": torch.randn(2, 4, 6)}
    captions: list[str] = []
    titles: list[str] = []
    draw, title = mask_pictures.draw_cell, mask_pictures.Layout.title
    monkeypatch.setattr(mask_pictures, "draw_cell", lambda a, p, m, text: (captions.append(text), draw(a, p, m, text)))
    monkeypatch.setattr(mask_pictures.Layout, "title", lambda s, f, c, t: (titles.append(t), title(s, f, c, t)))
    whole = mask_panel(
        images, masks, merged, names=["bird", "fish"], attributions=maps, captions={"GradCAM": ["a", "b"]}
    )
    assert titles == ["image", "stage1 4x6", "stage2 2x3", "merged 2x3", "GradCAM"]
    assert captions[:5] == ["bird", "4 % active", "100 % active", "100 % active", "a"]
    assert captions[5:] == ["fish", "0 % active", "100 % active", "100 % active", "b"]
    captions.clear()
    short = mask_panel(images, masks, captions={"stage1": ["x", "y"]})
    assert captions == ["", "x", "100 % active", "", "y", "100 % active"]
    assert whole.shape[1] - short.shape[1] == pytest.approx(2 * 2.12 * 110, abs=2)
    one = mask_panel(images[:1], {k: v[:1] for k, v in masks.items()})
    assert short.shape[0] - one.shape[0] == pytest.approx((2.0 * 32 / 48 + 0.26) * 110, abs=2)


def test_maps_follow_the_masks() -> None:
    """Evidence for the class in the first image, against it in the second."""
    images, masks, _ = example()
    maps = torch.ones(2, 4, 6)
    maps[1] = -1
    panel = mask_panel(images, masks, attributions={"GradCAM": maps}, dpi=100)
    for row, attribution in enumerate(maps):
        expected = overlay(images[row], attribution)[0, 0]
        assert close(cell(panel, row, 3), tuple(expected.tolist())).all()
    assert not close(cell(panel, 0, 3), tuple(expected.tolist())).any()


def test_cell_edges_are_left_out_where_cells_are_small() -> None:
    images = torch.zeros(1, 3, 64, 64)
    lines = []
    for side in (8, 64):
        pixels = mask_panel(images, {"stage": torch.zeros(1, 1, side, side)}, dpi=100)
        lines.append((pixels[60:200, 240:410] > 20).any())
    assert lines == [True, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(0, 3, 8, 8)}, r"images have shape \[0, 3, 8, 8\]"),
        ({"images": torch.zeros(2, 6, 8, 8)}, r"expected \[N, 3, H, W\]"),
        ({"masks": {}, "merged": None}, r"no masks to draw; only nets that mask"),
        (
            {"masks": {"stage1": torch.zeros(2, 4, 6)}},
            r"masks\['stage1'\] has shape \[2, 4, 6\]; expected \[2, 1, h, w\]",
        ),
        ({"merged": torch.zeros(3, 1, 4, 6)}, r"masks\['merged'\] has shape \[3, 1, 4, 6\]"),
        ({"attributions": {"a": torch.zeros(3, 4, 4)}}, r"attributions\['a'\] has shape .* expected \[2, h, w\]"),
        ({"captions": {"stage1": ["x"]}}, r"captions\['stage1'\] has 1 entries for 2 images"),
        ({"captions": {"stage9": ["x", "y"]}}, r"captions\['stage9'\] has no column; .* merged, stage1, stage2"),
        ({"names": ["x"]}, r"names has 1 entries for 2 images"),
    ],
)
def test_panel_checks_what_belongs_together(change: dict[str, Any], message: str) -> None:
    images, masks, merged = example()
    with pytest.raises(ValueError, match=message):
        mask_panel(**({"images": images, "masks": masks, "merged": merged} | change))
