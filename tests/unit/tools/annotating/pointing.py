"""What a hand does on the page: with a mouse, a finger, or the keys."""

from __future__ import annotations

from typing import Any

from tests.unit.results.html.browsing import js, wait
from tests.unit.tools.annotating.conftest import HEIGHT, WIDTH, Served, boxes_in

Point = tuple[float, float]  # x, y in pixels of the image


def on_screen(browser: Any, point: Point) -> tuple[int, int]:
    """Where in the window a point of the image is, in whole pixels."""
    x, y, width, height = js(
        browser, "const r = byId('canvas').getBoundingClientRect(); return [r.left, r.top, r.width, r.height]"
    )
    return round(x + point[0] / WIDTH * width), round(y + point[1] / HEIGHT * height)


def mouse(browser: Any, *points: Point) -> None:
    """Press at the first point of the image, go to the others, and let go."""
    kinds = ["mousePressed", *["mouseMoved"] * (len(points) - 1), "mouseReleased"]
    for kind, point in zip(kinds, [*points, points[-1]], strict=True):
        x, y = on_screen(browser, point)
        held = int(kind != "mouseReleased")
        event = {"type": kind, "x": x, "y": y, "button": "left", "buttons": held, "clickCount": 1}
        browser.execute_cdp_cmd("Input.dispatchMouseEvent", event)


def finger(browser: Any, *points: Point) -> None:
    for point in points:
        x, y = on_screen(browser, point)
        kind = "touchStart" if point is points[0] else "touchMove"
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def press(browser: Any, *keys: str) -> None:
    from selenium.webdriver import ActionChains

    actions = ActionChains(browser)
    for key in keys:
        *held, last = key.split("+") if len(key) > 1 and "+" in key else [key]
        codes = {"ctrl": "\ue009", "shift": "\ue008"}
        for name in held:
            actions.key_down(codes[name])
        actions.send_keys(CODES.get(last, last))
        for name in held:
            actions.key_up(codes[name])
    actions.perform()


CODES = {"Tab": "\ue004", "Enter": "\ue007", "Escape": "\ue00c", "Left": "\ue012", "Up": "\ue013", "Right": "\ue014",
         "Down": "\ue015", "Delete": "\ue017", "PageDown": "\ue00f"}  # fmt: skip


def saved(browser: Any, served: Served, name: str, boxes: int) -> list[list[float]]:
    """The boxes x0, y0, x1, y1 of an image in the file, once the page has saved what it has."""
    wait(lambda: js(browser, "return !unsaved.size && !sending"))
    found = [entry["bbox"] for entry in boxes_in(served.root, name)]
    assert len(found) == boxes
    return [[x, y, x + w, y + h] for x, y, w, h in found]
