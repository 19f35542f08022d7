"""The page in a real Chromium: boxes by mouse, touch and keyboard, at any zoom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.results.html.browsing import count, js, wait
from tests.unit.tools.annotating.conftest import Served, boxes_in
from tests.unit.tools.annotating.pointing import finger, mouse, on_screen, press, saved


@pytest.mark.parametrize("zoom", [0.5, 1, 2])
def test_draw_correct_undo_delete(serve: Callable[..., Served], visit: Callable[..., Any], zoom: float) -> None:
    """A browser's zoom makes the window smaller, and each of its pixels larger."""
    served = serve()
    page = visit(served, width=round(1280 / zoom), height=round(900 / zoom), ratio=zoom)

    def click(name: str) -> None:
        js(page, "byId(arguments[0]).click()", name)

    click("next")
    wait(lambda: js(page, "return view.number") == 1)
    near = 1 / js(page, "return scale") + 0.1  # a pixel of the window, and what boxes are rounded to
    mouse(page, (60, 40), (100, 80), (180, 120))
    (box,) = saved(page, served, "deep/1.png", 1)
    assert box == pytest.approx([60, 40, 180, 120], abs=near)
    mouse(page, (120, 80), (130, 90), (140, 100))  # inside the chosen box: it moves
    (box,) = saved(page, served, "deep/1.png", 1)
    assert box == pytest.approx([80, 60, 200, 140], abs=2 * near)
    mouse(page, (200, 140), (250, 150), (270, 180))  # by its corner
    (box,) = saved(page, served, "deep/1.png", 1)
    assert box == pytest.approx([80, 60, 270, 180], abs=3 * near)
    mouse(page, (80, 120), (-40, 120))  # by its left side, beyond the border
    (box,) = saved(page, served, "deep/1.png", 1)
    assert box == pytest.approx([0, 60, 270, 180], abs=3 * near)
    press(page, "Escape", "n")
    mouse(page, (10, 10), (40, 30))
    saved(page, served, "deep/1.png", 2)
    assert [entry.get("never") for entry in boxes_in(served.root, "deep/1.png")] == [None, True]
    for _ in range(3):
        click("undo")
    assert saved(page, served, "deep/1.png", 1)[0] == pytest.approx([80, 60, 200, 140], abs=2 * near)
    click("redo")
    assert saved(page, served, "deep/1.png", 1)[0] == pytest.approx([80, 60, 270, 180], abs=3 * near)
    mouse(page, (175, 120))  # a click chooses
    click("delete")
    saved(page, served, "deep/1.png", 0)
    assert js(page, "return byId('progress-text').textContent") == "1 of 3 images have boxes"
    click("undo")
    saved(page, served, "deep/1.png", 1)
    assert js(page, "return byId('progress-text').textContent") == "2 of 3 images have boxes"
    assert js(page, "return document.documentElement.scrollWidth <= innerWidth")


def test_a_phone(serve: Callable[..., Served], visit: Callable[..., Any]) -> None:
    served = serve()
    page = visit(served, width=390, height=844, ratio=2, touch=True)
    js(page, "byId('show-images').click()")
    wait(lambda: count(page, "#rows button") == 3)
    js(page, "document.querySelectorAll('#rows button')[1].click()")
    wait(lambda: js(page, "return view.number") == 1)
    finger(page, (60, 40), (100, 80), (180, 120))
    near = 1 / js(page, "return scale") + 0.1
    (box,) = saved(page, served, "deep/1.png", 1)
    assert box == pytest.approx([60, 40, 180, 120], abs=near)
    finger(page, (176, 116), (200, 130), (236, 156))  # near the corner is enough for a finger
    (box,) = saved(page, served, "deep/1.png", 1)
    assert box == pytest.approx([60, 40, 240, 160], abs=2 * near)
    finger(page, (150, 100), (140, 90), (130, 80))
    (box,) = saved(page, served, "deep/1.png", 1)
    assert box == pytest.approx([40, 20, 220, 140], abs=3 * near)
    js(page, "byId('delete').click()")
    saved(page, served, "deep/1.png", 0)
    small = "return [...document.querySelectorAll('.tools button')].filter(b => b.offsetParent && b.offsetHeight < 40).length"
    assert js(page, small) == 0
    assert js(page, "return document.documentElement.scrollWidth") == 390
    bottom = js(page, "return document.querySelector('.tools').getBoundingClientRect().bottom")
    assert bottom <= 844


def test_the_keyboard_alone(serve: Callable[..., Served], visit: Callable[..., Any]) -> None:
    served = serve()
    page = visit(served)
    press(page, "j")
    wait(lambda: js(page, "return view.number") == 1)
    press(page, "b", "Left", "Left", "Up", "shift+Right", "ctrl+Down")
    assert saved(page, served, "deep/1.png", 1) == [[94, 64.7, 197, 131.3]]  # steps of 3 pixels, and one of 1
    press(page, "n", "2")
    saved(page, served, "deep/1.png", 1)
    (entry,) = boxes_in(served.root, "deep/1.png")
    assert (entry["never"], entry["category_id"]) == (True, 5)
    press(page, "b", "1", "n", "Enter")
    saved(page, served, "deep/1.png", 2)
    first, second = js(page, "return view.boxes.map(each => each.uid)")
    assert js(page, "return [chosen, document.activeElement.id]") == [None, "stage"]
    press(page, "Tab")
    assert js(page, "return chosen") == first
    press(page, "Tab", "Delete")
    assert js(page, "return view.boxes.map(each => each.uid)") == [first]
    for keys, never in ((("ctrl+z", "ctrl+z"), [True, None]), (("ctrl+y",), [True, True])):
        press(page, *keys)
        assert js(page, "return view.boxes.map(each => each.uid)") == [first, second]
        saved(page, served, "deep/1.png", 2)
        assert [entry.get("never") for entry in boxes_in(served.root, "deep/1.png")] == never
    press(page, "k")
    wait(lambda: js(page, "return view.number") == 0)
    press(page, "PageDown", "PageDown")
    wait(lambda: js(page, "return view.number") in (1, 2))
    unnamed = "return [...document.querySelectorAll('select, input')].filter(e => !e.labels.length).map(e => e.id)"
    assert js(page, unnamed) == []


def test_what_is_drawn_when_all_ends_is_all_that_is_lost(
    serve: Callable[..., Served], visit: Callable[..., Any]
) -> None:
    served = serve()
    page = visit(served)
    mouse(page, (100, 100), (140, 140))
    saved(page, served, "0.png", 2)
    x, y = on_screen(page, (200, 20))
    for kind, by in (("mousePressed", 0), ("mouseMoved", 40)):
        event = {"type": kind, "x": x + by, "y": y + by, "button": "left", "buttons": 1, "clickCount": 1}
        page.execute_cdp_cmd("Input.dispatchMouseEvent", event)
    assert count(page, "#boxes g") == 3
    page.get(served.address)
    wait(lambda: js(page, "return document.body.dataset.ready"))
    assert js(page, "return view.boxes.length") == len(saved(page, served, "0.png", 2))
