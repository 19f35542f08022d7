"""The fronts and claims of the page, and a page of many runs, in a real Chromium."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from guidance.results.groups.epochs import ExperimentRuns, GroupRun, RunEpoch
from guidance.results.html.content import describe, describe_metrics
from guidance.results.html.fronts import describe_fronts, describe_panels
from guidance.results.html.page import write_page
from guidance.results.plan_file import Group, Plan, PlannedRun
from tests.unit.results.html.browsing import choose, count, js, see, wait
from tools.reports.page import plotly_script


def test_fronts_are_those_of_the_package(opened: Any, content: dict[str, Any]) -> None:
    """Nothing is selected by the page: it draws the members that it is given, on both ways of the axes."""
    fronts = content["fronts"]["splits"]["validation"]["pairs"][0]
    assert (fronts["x"], fronts["y"]) == ("f1", "epg")
    drawn = "return byId('front-plot').data.find(t => t.marker && t.marker.size === 11).customdata"
    members = fronts["groups"]["energy"]["members"]
    assert js(opened, drawn) == members
    choose(opened, "front-x", "epg")
    choose(opened, "front-y", "f1")
    assert js(opened, drawn) == members
    mirrored = js(opened, "return frontsOf('validation', 'epg', 'f1').groups.energy.surfaces")
    assert mirrored == [[[y, x] for x, y in reversed(corners)] for corners in fronts["groups"]["energy"]["surfaces"]]
    assert js(opened, "return stairs([[1, 5], [2, 3]], [0, 0])") == [[0, 5], [1, 5], [1, 3], [2, 3], [2, 0]]
    cross = js(opened, "return byId('front-plot').data.at(-1)")
    (baseline,) = fronts["baselines"]
    assert (cross["x"], cross["y"]) == ([baseline["y"][0]], [baseline["x"][0]])
    regions = js(opened, "return byId('front-plot').layout.shapes")
    assert [(shape["x0"], shape["y0"]) for shape in regions] == [(cross["x"][0], cross["y"][0])] * 2
    choose(opened, "front-x", "iou")
    choose(opened, "front-y", "map")
    assert "There is no front of these two metrics here" in js(opened, "return byId('front-note').textContent")
    choose(opened, "front-y", "sparsity")
    choose(opened, "front-panel", "all")
    assert js(opened, "return drawnGroups().map(g => g.name)") == ["energy", "aim"]


def test_claims_have_a_verdict_in_words_and_in_colour(opened: Any) -> None:
    see(opened, "claims")
    badges = "return [...document.querySelectorAll('.verdict')].map(e => [e.textContent, getComputedStyle(e).color])"
    shown = js(opened, badges)
    assert [text for text, _ in shown] == ["✓ reproduced", "✗ not reproduced", "? inconclusive"]
    choose(opened, "claim-verdict", "all")
    every = js(opened, badges)
    assert every[-1][0].endswith(" not run")
    assert len({colour for _, colour in every}) == 4
    assert "4 claims: 1 reproduced, 1 not reproduced, 1 inconclusive, 1 not run" in js(
        opened, "return byId('claim-note').textContent"
    )
    choose(opened, "claim-verdict", "inconclusive")
    assert js(opened, "return document.querySelector('#claim-table strong').textContent") == "R2"
    assert count(opened, "#claim-table li") == 2 + 2  # published, ours


def many_runs() -> ExperimentRuns:
    """300 runs of 40 epochs: nine groups of weights and seeds, and a baseline."""
    draw = random.Random(0)
    groups = tuple(Group(f"g{g}", f"g{g}", g == 0) for g in range(10))
    runs = []
    for i in range(300):
        planned = PlannedRun(f"r{i}", f"g{i % 10}", i // 100, Path(f"r{i}"), {"weight": i // 10 % 10})
        values = [{m: draw.random() for m in ("accuracy", "epg", "iou", "f1")} for _ in range(40)]
        epochs = tuple(
            RunEpoch(planned.name, planned.group, planned.seed, n, n, {"val": v}) for n, v in enumerate(values, 1)
        )
        runs.append(GroupRun(planned, planned.seed, {"model.name": "a", "weight": i // 10 % 10}, epochs, 1.0))
    return ExperimentRuns(Plan("many", groups, tuple(run.planned for run in runs)), tuple(runs), ("a note",))


def test_many_runs_are_drawn_from_one_file(browser: Any, tmp_path: Path) -> None:
    """No error, and a page of few megabytes."""
    experiment = many_runs()
    content = describe(experiment)
    content |= {
        "fronts": describe_fronts(experiment),
        "panels": describe_panels(experiment),
        "detail": None,
        "claims": [],
    }
    path = tmp_path / "many.html"
    assert write_page(path, content | {"metrics": describe_metrics(content)}, plotly=plotly_script()) < 7e6
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "screen"})
    browser.get(path.as_uri())
    wait(lambda: js(browser, "return typeof stale === 'object' && !stale.has('fronts')"))
    for section in ("curves", "metrics", "settings"):
        see(browser, section)
    assert "10800 points of 270 runs" in js(browser, "return byId('front-note').textContent")
    assert js(browser, "return byId('note-list').textContent") == "a note"
    assert count(browser, "#run-table tbody tr") == 300
    assert "12 of 100 configurations" in js(browser, "return byId('curve-note').textContent")
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
