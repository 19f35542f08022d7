"""The page in a real Chromium: two tabs, names, filters, maps, and thousands of images."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from guidance.annotating.explaining import ClassMap, ImageExplanation
from guidance.annotating.layouts import find_place
from guidance.annotating.ordering import ImageScores
from guidance.annotating.store import Store
from guidance.annotating.worker import MapWorker
from tests.support.data.pictures import write_picture
from tests.unit.results.html.browsing import choose, count, js, wait
from tests.unit.tools.annotating.conftest import EVIL, Served, boxes_in
from tests.unit.tools.annotating.pointing import mouse, saved

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000a49444154789c63000100000500010d0a2db40000000049454e44ae426082"
)


def test_two_tabs_keep_what_either_does(serve: Callable[..., Served], visit: Callable[..., Any]) -> None:
    served = serve()
    page = visit(served)
    one = page.current_window_handle
    js(
        page, "window.removeEventListener('focus', refresh); refresh = () => {}"
    )  # else it would see what the other does
    page.switch_to.new_window("tab")
    visit(served)
    mouse(page, (200, 100), (280, 180))
    (kept, _) = saved(page, served, "0.png", 2)
    assert kept == [10, 20, 40, 60]
    two = page.current_window_handle
    page.switch_to.window(one)
    js(page, "chosen = view.boxes[0].uid; removeChosen(); addInMiddle();")
    wait(lambda: js(page, "return !unsaved.size && !sending"))
    boxes = saved(page, served, "0.png", 2)
    assert sorted(round(box[0]) for box in boxes) == [100, 200]  # the first one is deleted, and both new ones are there
    page.switch_to.window(two)
    js(page, "return refresh()")
    wait(lambda: js(page, "return view.boxes.length") == 2)
    assert sorted(js(page, "return view.boxes.map(each => Math.round(each.box[0]))")) == [100, 200]
    # Both change the same box: what was saved first stays, and the page says so.
    right = "chosen = view.boxes.find(each => Math.round(each.box[0]) === 200).uid; replaceChosen(arguments[0])"
    js(page, right, {"label": 1})
    saved(page, served, "0.png", 2)
    page.switch_to.window(one)
    js(page, right, {"never": True})
    wait(lambda: "changed in another tab" in js(page, "return byId('message').textContent"))
    saved(page, served, "0.png", 2)
    entries = {round(entry["bbox"][0]): entry for entry in boxes_in(served.root, "0.png")}
    assert {x: (entry["category_id"], entry.get("never")) for x, entry in entries.items()} == {
        100: (3, None),
        200: (5, None),
    }
    assert sorted(js(page, "return view.boxes.map(each => each.label)")) == [0, 1]
    page.switch_to.window(two)
    page.close()
    page.switch_to.window(one)


def test_names_are_text_and_filters_filter(serve: Callable[..., Served], visit: Callable[..., Any]) -> None:
    page = visit(serve())
    assert js(page, "return [window.hacked, document.title.includes('onerror')]") == [None, True]
    assert count(page, "img[src=x]") == 0
    names = "return [...document.querySelectorAll('#rows .name')].map(each => each.textContent)"
    assert js(page, names) == ["0.png", "deep/1.png", EVIL]
    for control, value, expected in (
        ("class-filter", "1", ["deep/1.png"]), ("class-filter", "", None), ("group-filter", "in", ["0.png", EVIL]),
        ("box-filter", "without", [EVIL]), ("group-filter", "", ["deep/1.png", EVIL]),
    ):  # fmt: skip
        choose(page, control, value)
        assert expected is None or js(page, names) == expected
    loaded = js(page, "return performance.getEntriesByType('resource').map(each => new URL(each.name).origin)")
    assert set(loaded) == {js(page, "return location.origin")}


def test_what_the_net_makes_of_it(serve: Callable[..., Served], visit: Callable[..., Any]) -> None:
    def explain(number: int) -> ImageExplanation:
        maps = (ClassMap("cat", 0.25 * (number + 1), 3.0, PNG),)
        return ImageExplanation(
            (("cat", 0.75), ("dog", 0.25)), maps, PNG, ImageScores(0.25 * (3 - number), number, 0.5)
        )

    worker = MapWorker(3, explain)
    page = visit(serve(maps=worker))
    wait(lambda: count(page, "#maps img") == 1)
    assert js(page, "return byId('maps').textContent") == "cat: EPG 0.25, energy outside 3.00"
    assert js(page, "return byId('predictions').tBodies[0].textContent") == "cat0.75dog0.25"
    wait(lambda: worker.progress() == (3, 3))
    choose(page, "order", "least_epg")
    wait(lambda: js(page, "return shown") == [2, 1, 0])
    worker.close()


def test_thousands_of_images(tmp_path: Path, serve: Callable[..., Served], visit: Callable[..., Any]) -> None:
    """Only the rows in view exist, and only where the list stands still are pictures asked for."""
    (tmp_path / "many/images").mkdir(parents=True)
    first = write_picture(tmp_path / "first.png")
    for i in range(5000):
        os.link(first, tmp_path / f"many/images/{i:04d}.png")
    find_place(tmp_path / "many", classes=["cat"])
    page = visit(serve(tmp_path / "many"))
    assert js(page, "return [shown.length, byId('list').scrollHeight]") == [5000, 5000 * 56]
    found = js(page, """
        const list = byId('list'), frame = list.getBoundingClientRect(), found = {rows: 0, empty: 0};
        for (let at = 0; at < 279000; at += 500) {
            list.scrollTop = at;
            drawRows();  // what the event of scrolling calls
            found.rows = Math.max(found.rows, document.querySelectorAll('#rows li').length);
            for (const share of [0.02, 0.5, 0.98]) {
                const seen = document.elementFromPoint(frame.left + 20, frame.top + share * frame.height);
                if (!seen.closest('#rows')) found.empty += 1;
            }
        }
        return found;
    """)  # fmt: skip
    assert found["rows"] < 40
    assert found["empty"] == 0
    wait(lambda: js(page, "return [...document.querySelectorAll('#rows img')].every(each => each.naturalWidth)"))
    asked = js(
        page, "return performance.getEntriesByType('resource').filter(each => each.name.includes('/thumb/')).length"
    )
    assert asked < 100
    js(page, "openImage(4321)")
    wait(
        lambda: js(page, "return document.querySelector('#rows [aria-current=true] .name')?.textContent") == "4321.png"
    )
    mouse(page, (60, 40), (180, 120))
    wait(lambda: js(page, "return !unsaved.size && !sending"))
    (entry,) = json.loads((tmp_path / "many/annotations.json").read_text())["annotations"]
    assert entry["id"] == 1


@pytest.mark.parametrize("displayed", [False, True])
def test_an_image_that_exif_turns_is_shown_in_the_frame_of_its_boxes(
    tmp_path: Path, serve: Callable[..., Served], visit: Callable[..., Any], displayed: bool
) -> None:
    picture = Image.new("RGB", (300, 200), (0, 0, 200))
    picture.paste(
        (200, 0, 0), (0, 0, 100, 200)
    )  # red at the left of the stored pixels, at the top of what is displayed
    exif = picture.getexif()
    exif[0x0112] = 6
    (tmp_path / "turned/images").mkdir(parents=True)
    picture.save(tmp_path / "turned/images/1.jpg", exif=exif)
    place = find_place(tmp_path / "turned", classes=["cat"])
    page = visit(serve(store=Store(place, displayed=displayed)))
    wait(lambda: js(page, "return byId('image').complete && byId('image').naturalWidth"))
    shown = Image.open(io.BytesIO(page.find_element("id", "canvas").screenshot_as_png)).convert("RGB")
    width, height = shown.size
    assert (width > height) == (not displayed)
    corner = shown.getpixel((width - 10, 10))
    assert isinstance(corner, tuple)
    assert (corner[0] > 150, corner[2] > 150) == (displayed, not displayed)
