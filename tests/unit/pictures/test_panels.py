"""Colours of overlays on small maps, the layout of panels, and what a plotted front shows."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import colors, image

from guidance.pictures import layout, panels, plots
from guidance.pictures.layout import to_array, write_png
from guidance.pictures.overlays import AGAINST, FOR, OUTLINE, TRAINED, colour_scale, overlay
from guidance.pictures.panels import panel
from guidance.pictures.plots import RUN_COLOURS, plot_front
from guidance.runs.pareto import Candidate


def rgb(colour: str) -> np.ndarray:
    return np.array(colors.to_rgb(colour)) * 255


def test_signs_have_their_colours() -> None:
    grey = torch.full((3, 2, 2), 0.5)
    picture = overlay(grey, torch.tensor([[2.0, -2.0], [0.0, 1.0]]), scale=2.0)
    assert picture.shape == (2, 2, 3)
    assert picture.dtype == np.uint8
    background = 0.6 * 127.5 + 0.4 * 255
    for (row, column), opacity, colour in (((0, 0), 0.8, FOR), ((0, 1), 0.8, AGAINST), ((1, 1), 0.4, FOR)):
        expected = (1 - opacity) * background + opacity * rgb(colour)
        assert picture[row, column] == pytest.approx(expected, abs=0.51)
    assert picture[1, 0] == pytest.approx([background] * 3, abs=0.51)


def test_map_is_upsampled_bilinearly() -> None:
    white = torch.ones(3, 4, 4)
    small = torch.tensor([[1.0, -1.0], [1.0, -1.0]])
    large = torch.tensor([[1.0, 0.5, -0.5, -1.0]]).expand(4, 4)
    assert np.array_equal(overlay(white, small, scale=1.0), overlay(white, large, scale=1.0))


def test_one_scale_compares_maps_and_stronger_ones_saturate() -> None:
    images = torch.rand(3, 4, 4)
    weak, strong = torch.full((4, 4), 0.1), torch.full((4, 4), 5.0)
    assert np.array_equal(overlay(images, weak), overlay(images, strong))
    assert not np.array_equal(overlay(images, weak, scale=5.0), overlay(images, strong, scale=5.0))
    assert np.array_equal(overlay(images, 10 * strong, scale=5.0), overlay(images, strong, scale=5.0))


def test_scale_is_a_quantile_of_the_finite_magnitudes() -> None:
    pixels = torch.linspace(-1, 1, 1001)
    assert colour_scale([pixels, torch.tensor([math.nan, math.inf])]) == pytest.approx(0.995, abs=2e-3)
    assert colour_scale([torch.zeros(4), torch.tensor([[math.nan]])]) == 0.0
    # So few values that the quantile is 0: the largest counts.
    single = torch.zeros(1000)
    single[3] = -2.0
    assert colour_scale([single]) == 2.0


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf, -math.inf])
def test_map_without_evidence_leaves_the_grey_image(value: float) -> None:
    picture = overlay(torch.zeros(3, 4, 4), torch.full((2, 2), value))
    assert (picture == round(0.4 * 255)).all()


def test_image_needs_three_channels() -> None:
    with pytest.raises(ValueError, match=r"an image of shape \[6, 4, 4\] cannot be shown; expected \[3, H, W\]"):
        overlay(torch.zeros(6, 4, 4), torch.zeros(2, 2))


def example(rows: int = 2) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(rows, 3, 32, 48, generator=generator)
    maps = {title: torch.randn(rows, 4, 6, generator=generator) for title in ("unguided", "guided")}
    masks = torch.zeros(rows, 32, 48, dtype=torch.bool)
    masks[0, 8:24, 8:40] = True
    return images, maps, masks


def test_panel_has_a_row_per_image_and_a_column_per_map() -> None:
    images, maps, masks = example()
    texts = {"unguided": ["EPG 0.10", "EPG 0.20"], "guided": ["EPG 0.71", ""]}
    whole = panel(images, maps, masks, texts, names=["bird", "a name that is much too long for its cell, by far"])
    assert whole.dtype == np.uint8
    height, width, channels = whole.shape
    assert channels == 3
    one_column = panel(images, {"guided": maps["guided"]}, masks)
    one_row = panel(images[:1], {k: v[:1] for k, v in maps.items()}, masks[:1])
    assert width - one_column.shape[1] == pytest.approx((2.0 + 0.12) * 110, abs=1)
    assert height - one_row.shape[0] == pytest.approx((2.0 * 32 / 48 + 0.26) * 110, abs=1)
    bare = panel(images, {}, masks)  # nothing to explain: no legend
    assert height - bare.shape[0] == pytest.approx(0.46 * 110, abs=1)
    # The margins stay white: no text or outline runs out of the picture.
    for edge in (whole[:2], whole[-2:], whole[:, :2], whole[:, -2:]):
        assert (edge == 255).all()


def test_titles_stand_above_their_columns_and_the_colours_are_explained_below() -> None:
    images, maps, masks = example()
    whole = panel(images, maps, masks, dpi=100)
    height, width, _ = whole.shape
    for column in range(3):
        centre = round(100 * (0.12 + 2.12 * column + 1.0))
        assert whole[2:24, centre - 20 : centre + 20].min() < 100  # text
        assert whole[2:24, centre + 60 : centre + 100].min() == 255
    ramp = whole[height - 38]  # 0.12 + 0.20 + half of 0.11 inches above the lower edge
    left, right = round(0.37 * width), round(0.63 * width)  # 0.26 of the width, in the middle
    for x, colour in ((left + 4, AGAINST), (right - 4, FOR)):
        opacity = 0.8 * abs(x + 0.5 - 0.5 * width) / (0.13 * width)
        assert ramp[x] == pytest.approx(opacity * rgb(colour) + (1 - opacity) * 0.7 * 255, abs=4)
    assert ramp[width // 2] == pytest.approx([0.7 * 255] * 3, abs=4)
    assert (ramp[[left - 3, right + 3]] == 255).all()


def test_outline_is_drawn_around_the_mask_in_every_column() -> None:
    images, maps, masks = example()
    images = torch.zeros_like(images)
    outlined = panel(images, maps, masks, dpi=100)
    plain = panel(images, maps, torch.zeros_like(masks), dpi=100)
    yellow = (np.abs(outlined.astype(int) - rgb(OUTLINE)) < 30).all(-1)
    assert not (np.abs(plain.astype(int) - rgb(OUTLINE)) < 30).all(-1).any()
    for column in range(3):
        left = 0.12 + column * 2.12
        x, y = (left + 2.0 * 24 / 48) * 100, (0.30 + 2.0 * 8 / 48) * 100  # middle of the upper edge of the box
        assert yellow[round(y) - 2 : round(y) + 3, round(x)].any()
        assert not yellow[round(y) + 8 : round(y) + 20, round(x)].any()
    assert not yellow[len(yellow) // 2 :].any()  # the second image has no mask


def test_what_training_dilates_is_dashed_around_what_is_given() -> None:
    images, maps, masks = example()
    wider = torch.zeros_like(masks)
    wider[0, 4:28, 4:44] = True
    drawn = panel(torch.zeros_like(images), maps, masks, trained=wider, dpi=100).astype(int)
    blue, yellow = ((np.abs(drawn - rgb(colour)) < 30).all(-1) for colour in (TRAINED, OUTLINE))
    for column in range(3):
        left, right = (round((0.12 + column * 2.12 + 2.0 * x / 48) * 100) for x in (6, 42))  # along the upper edges
        outer, inner = (round((0.30 + 2.0 * y / 48) * 100) for y in (4, 8))
        dashes = blue[outer - 2 : outer + 3, left:right].any(0)
        assert 0.3 < dashes.mean() < 0.9
        assert not yellow[outer - 2 : outer + 3, left:right].any()
        assert yellow[inner - 2 : inner + 3, left + 10 : right - 10].any(0).all()
        assert not blue[inner - 2 : inner + 3, left + 10 : right - 10].any()
    assert not blue[len(blue) // 2 : -60].any()  # the second image has neither; below is the scale of the maps
    same = panel(images, maps, masks, trained=masks)
    assert np.array_equal(same, panel(images, maps, masks))
    with pytest.raises(ValueError, match=r"trained have shape \[2, 3, 3\]; expected \[2, 32, 48\]"):
        panel(images, maps, masks, trained=masks[:, :3, :3])


def test_maps_of_a_row_share_a_scale_unless_told_otherwise() -> None:
    images, maps, masks = example()
    weaker = maps | {"guided": maps["guided"] * 0.01}
    assert not np.array_equal(panel(images, maps, masks), panel(images, weaker, masks))
    own = [panel(images, m, masks, shared_scale=False) for m in (maps, weaker)]
    assert np.array_equal(*own)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": torch.zeros(0, 3, 32, 48)}, r"images have shape \[0, 3, 32, 48\]"),
        ({"images": torch.zeros(2, 6, 32, 48)}, r"images have shape .*expected \[N, 3, H, W\]"),
        ({"masks": torch.zeros(2, 16, 16, dtype=torch.bool)}, r"masks have shape .*expected \[2, 32, 48\]"),
        ({"attributions": {"a": torch.zeros(3, 4, 4)}}, r"attributions\['a'\] has 3 entries for 2 images"),
        ({"captions": {"guided": ["x"]}}, r"captions\['guided'\] has 1 entries for 2 images"),
        ({"captions": {"guidde": ["x", "y"]}}, r"unknown column of captions 'guidde'.*Did you mean 'guided'"),
        ({"names": ["x"]}, r"names has 1 entries for 2 images"),
    ],
)
def test_panel_checks_what_belongs_together(change: dict[str, object], message: str) -> None:
    images, maps, masks = example()
    with pytest.raises(ValueError, match=message):
        panel(**({"images": images, "attributions": maps, "masks": masks} | change))  # type: ignore[arg-type]


RUNS = {
    "baseline": [
        Candidate("e1", {"f1": 0.9, "epg": 0.2, "iou": 0.1}),
        Candidate("e2", {"f1": 0.8, "epg": 0.1, "iou": 0.1}),
    ],
    "guided": [Candidate("e1", {"f1": 0.7, "epg": 0.8, "iou": 0.5}), Candidate("e2", {"f1": math.nan, "epg": 0.1})],
}
FRONT = [("baseline", "e1"), ("guided", "e1")]


def test_front_is_plotted_over_each_pair() -> None:
    figure = plot_front(RUNS, FRONT, ["f1", "epg", "iou"], knee=("guided", "e1"))
    assert [(a.get_xlabel(), a.get_ylabel()) for a in figure.axes] == [("F1", "EPG"), ("F1", "IoU"), ("EPG", "IoU")]
    faint, filled, ring, faint2, filled2, ring2 = figure.axes[0].collections
    assert filled.get_offsets().tolist() == [[0.9, 0.2]]
    assert faint.get_offsets().tolist() == [[0.8, 0.1]]
    assert filled2.get_offsets().tolist() == [[0.7, 0.8]]
    assert faint2.get_offsets().tolist() == []  # a value is NaN
    assert ring.get_offsets().tolist() == []
    assert ring2.get_offsets().tolist() == [[0.7, 0.8]]
    assert filled.get_alpha() is None
    assert faint.get_alpha() < 0.5
    assert colors.to_hex(filled.get_facecolor()[0]).upper() == RUN_COLOURS[0]
    assert colors.to_hex(filled2.get_facecolor()[0]).upper() == RUN_COLOURS[1]
    (reached,) = figure.axes[0].lines
    assert reached.get_xydata().tolist() == [[0.7, 0.8], [0.9, 0.2]]
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["baseline (1 of 2 on the front)", "guided (1 of 2 on the front)", "knee"]


def test_front_of_one_metric_and_of_many_runs() -> None:
    (axes,) = plot_front(RUNS, FRONT, ["epg"]).axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("checkpoint", "EPG")
    assert axes.xaxis.label.get_size() == axes.yaxis.label.get_size()
    assert axes.collections[0].get_offsets().tolist() == [[2.0, 0.1]]
    many = plot_front({f"run {i}": RUNS["guided"] for i in range(9)}, [], ["f1", "worst_group_accuracy"])
    handles = many.legends[0].legend_handles
    styles = {(str(handle.get_color()), str(handle.get_marker())) for handle in handles}
    assert len(styles) == 9  # colours repeat after seven runs, with another marker
    assert to_array(many).shape[2] == 3
    for runs, metrics in ((RUNS, []), ({}, ["f1"])):
        with pytest.raises(ValueError, match="one run or more, over one metric or more"):
            plot_front(runs, [], metrics)


def test_png_and_no_global_state(tmp_path: Path) -> None:
    picture = overlay(torch.rand(3, 8, 8), torch.randn(2, 2))
    write_png(tmp_path / "new" / "x.png", picture)
    assert np.array_equal(np.rint(image.imread(tmp_path / "new" / "x.png")[..., :3] * 255), picture)
    for module in (layout, panels, plots):
        assert "import matplotlib.pyplot" not in Path(module.__file__).read_text()
        assert "import pyplot" not in Path(module.__file__).read_text()
