"""The report in a real Chromium: it loads nothing, fails in nothing, and shows what is clicked, filtered and printed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.results.html.browsing import choose, count, js, see, wait
from tests.unit.results.html.conftest import EVIL

SECTIONS = ["fronts", "claims", "curves", "metrics", "gallery", "masks", "sizes", "settings"]
PLOTS = ["front-plot", "curve-plot", "size-plot"]
FIRST_MEMBER = """
    // Where the first member of the first front lies in the window, and its run.
    const plot = document.getElementById('front-plot');
    plot.scrollIntoView({block: 'center'});
    const data = plot.data.find(t => t.customdata && t.showlegend !== false);
    const box = plot.getBoundingClientRect(), {xaxis, yaxis} = plot._fullLayout;
    const x = box.left + xaxis._offset + xaxis.l2p(data.x[0]), y = box.top + yaxis._offset + yaxis.l2p(data.y[0]);
    return [x, y, data.customdata[0][0]];
"""
CELLS = "return [...document.querySelectorAll('#metric-table tr')].map(r => [...r.cells].map(c => c.textContent))"
UNNAMED = """
    const controls = [...document.querySelectorAll('select, input')].filter(e => !e.labels.length);
    return [...controls, ...[...document.images].filter(i => !i.hasAttribute('alt'))].map(e => e.outerHTML.slice(0, 80));
"""


def test_nothing_is_loaded_and_nothing_fails(opened: Any) -> None:
    assert js(opened, "return shown") == dict.fromkeys(SECTIONS, True)
    undrawn = js(opened, "return [...stale]")
    assert "settings" in undrawn  # only what is in view is drawn
    for section in SECTIONS:
        see(opened, section)
    assert js(opened, "return [...stale]") == []
    assert js(opened, "return performance.getEntriesByType('resource').map(e => e.name)"
                      ".filter(n => !n.startsWith('data:') && !n.startsWith('file:'))") == []  # fmt: skip
    assert [entry for entry in opened.get_log("browser") if entry["level"] == "SEVERE"] == []
    assert all(count(opened, f"#{plot} .main-svg") for plot in PLOTS)
    assert js(opened, "return document.querySelectorAll('img:not([src^=\"data:image/\"])').length") == 0


def test_names_of_files_are_text(opened: Any) -> None:
    for section in SECTIONS:
        see(opened, section)
    assert js(opened, "return window.hacked") is None
    assert count(opened, "img[src=x]") == 0
    assert count(opened, "script") == 3
    assert js(opened, "return document.querySelector('h1').textContent") == f"R1 {EVIL}" == opened.title
    assert EVIL in js(opened, "return document.querySelector('#groups').textContent")
    assert EVIL in js(opened, "return document.querySelector('#gallery-rows h3').textContent")
    assert EVIL in js(opened, "return document.querySelector('#claim-table').textContent")
    assert EVIL in js(opened, "return document.querySelector('#front-plot .legend').textContent")


def test_a_click_on_a_point_selects_its_run_everywhere(opened: Any) -> None:
    from selenium.webdriver import ActionChains

    x, y, run = js(opened, FIRST_MEMBER)
    actions = ActionChains(opened)
    actions.w3c_actions.pointer_action.move_to_location(round(x), round(y))
    actions.perform()
    assert run in wait(lambda: js(opened, "return !byId('tip').hidden && byId('tip').textContent"))
    ActionChains(opened).click().perform()
    wait(lambda: js(opened, "return [...state.chosen]"))
    assert js(opened, "return [...state.chosen]") == [run]
    assert js(opened, "return byId('front-plot').data.some(t => t.name === 'selected')")
    see(opened, "curves")
    assert js(opened, "return byId('curve-plot').data.some(t => t.name === arguments[0])", run)
    see(opened, "gallery")
    assert js(
        opened, "return [...document.querySelectorAll('#gallery-rows figure.chosen strong')].map(e => e.textContent)"
    )
    assert count(opened, "#gallery-rows article:first-child figure") == 2  # the image, and the one run
    see(opened, "settings")
    assert js(opened, "return document.querySelector('#run-table tr.chosen th').textContent") == run
    js(opened, "document.querySelector('.chip').click()")
    assert js(opened, "return state.chosen.size") == 0


def test_the_filters(opened: Any, content: dict[str, Any]) -> None:
    gallery = content["detail"]["gallery"]
    see(opened, "gallery")
    worst = str(gallery["worst"])
    assert count(opened, "#gallery-rows article") == min(6, len(gallery["rows"]))
    choose(opened, "gallery-group", "worst")
    shown = js(opened, "return [...document.querySelectorAll('#gallery-rows article')].map(e => e.dataset.group)")
    assert set(shown) == {worst} != {str(row["group"]) for row in gallery["rows"]}
    js(opened, "document.querySelectorAll('#groups input')[1].click()")  # without the group "energy"
    assert "energy/0000" not in js(opened, "return byId('gallery-rows').textContent")
    assert (
        js(opened, "return byId('front-plot').data.every(t => !String(t.name).includes('Energy'))") is False
    )  # not in view
    see(opened, "fronts")
    assert js(opened, "return byId('front-plot').data.every(t => !String(t.name).includes('Energy'))")
    js(opened, "document.querySelectorAll('#groups input')[1].click()")
    see(opened, "settings")
    choose(opened, "run-filter", "ENERGY/0001")
    assert count(opened, "#run-table tbody tr") == 1


def test_numbers_of_the_tables(opened: Any, content: dict[str, Any]) -> None:
    see(opened, "metrics")
    choose(opened, "table-split", "validation")
    rows = js(
        opened,
        "return [...document.querySelectorAll('#metric-table tr')].map(r => [...r.cells].map(c => c.textContent))",
    )
    column = rows[0].index("accuracy")
    runs = [run for run in content["runs"] if run["group"] == "energy"]
    a, b = (run["points"]["validation"]["values"]["accuracy"][-1] for run in runs)
    (energy,) = [row for row in rows if row[0].startswith("Energy")]
    assert energy[1] == "2"
    mean, spread = map(float, energy[column].split(" ± "))
    assert (mean, spread) == pytest.approx(((a + b) / 2, abs(a - b) / 2**0.5), abs=6e-4)


def test_every_control_is_reached_by_the_keyboard(opened: Any) -> None:
    from selenium.webdriver import ActionChains, Keys

    for section in SECTIONS:
        see(opened, section)
    js(opened, "scrollTo(0, 0); document.activeElement.blur(); window.reached = new Set();"
               "document.addEventListener('focusin', e => window.reached.add(e.target))")  # fmt: skip
    wanted = "a[href], button:not([hidden]), select, input, summary, .scroll, .strip"
    for _ in range(count(opened, wanted) + 5):
        ActionChains(opened).send_keys(Keys.TAB).perform()
        if js(opened, "return document.activeElement === document.querySelector('#metrics select')"):
            style = js(
                opened, "const s = getComputedStyle(document.activeElement); return [s.outlineStyle, s.outlineWidth]"
            )
            assert style == ["solid", "3px"]
    missed = js(opened, "return [...document.querySelectorAll(arguments[0])].filter(e => !window.reached.has(e))"
                        ".map(e => e.outerHTML.slice(0, 80))", wanted)  # fmt: skip
    assert missed == []
    assert js(opened, UNNAMED) == []


def test_a_phone_needs_no_scrolling_sideways(opened: Any) -> None:
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    opened.refresh()
    wait(lambda: count(opened, "#front-plot .point"))
    for section in SECTIONS:
        see(opened, section)
    assert js(opened, "return [innerWidth, document.documentElement.scrollWidth]") == [390, 390]


def test_print_shows_all_sections_and_no_controls(opened: Any) -> None:
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    js(opened, "dispatchEvent(new Event('beforeprint'))")
    assert js(opened, "return [...stale]") == []
    shown = "return [...document.querySelectorAll(arguments[0])].filter(e => e.getClientRects().length).map(e => e.id)"
    assert js(opened, shown, "section") == SECTIONS
    assert js(opened, shown, ".controls, select, button, nav") == []
    assert js(opened, shown, "#note-list") == ["note-list"]
    assert js(
        opened, "return [...document.querySelectorAll('.main-svg')].every(e => e.getBoundingClientRect().width <= 700)"
    )
    js(opened, "dispatchEvent(new Event('afterprint'))")
