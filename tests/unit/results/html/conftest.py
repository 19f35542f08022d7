"""An experiment of tiny runs, what is reported of it, and a browser to open the page in."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from guidance.assembly import build_trainer
from guidance.models import BACKBONES, Backbone
from guidance.results.claims.verdicts import VERDICTS
from guidance.results.html.page import write_page
from guidance.results.plan_file import Group, Plan, PlannedRun, write_plan
from tests.support.runs import CPU, build_tiny, tiny_config
from tests.unit.results.html.browsing import chromium, js, wait
from tools.reports.page import Choices, describe_report, plotly_script

EVIL = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'><b>&amp;</b>"
AIM: dict[str, dict[str, Any]] = {
    "model": {"name": "resnet8"},
    "objective": {"mode": "aim", "localization": {}},
    "aim": {"width": 8, "mask_width": 4, "stop_stage": 2},
    "evaluation": {"attribution": {"method": "gradcam", "depth": "final"}},
    "pareto": {"metrics": ["accuracy", "sparsity"]},
}
# name -> group, seed, settings, sections of the config
RUNS: dict[str, tuple[str, int, dict[str, Any], dict[str, Any]]] = {
    "baseline/0000": ("baseline", 0, {}, {"objective": {"localization": {"weight": 0.0}}}),
    "energy/0000": ("energy", 0, {"objective.localization.weight": 5.0}, {"objective": {"localization": {"weight": 5.0}}}),
    "energy/0001": ("energy", 1, {"objective.localization.weight": 5.0},
                    {"objective": {"localization": {"weight": 5.0}}, "seed": 1}),
    "aim/0000": ("aim", 0, {}, AIM),
}  # fmt: skip


@pytest.fixture(scope="session")
def experiment(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Three groups; the fifth run of the plan has not begun."""
    folder = tmp_path_factory.mktemp("experiment")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "tiny", Backbone(build_tiny, "fc", {}, depths=("input", "mid1", "final"), stride=4))
        rows = []
        for name, (group, seed, settings, sections) in RUNS.items():
            torch.manual_seed(0)
            short = {"trainer": {"epochs": 2}, "schedule": {"name": "constant"}, "log": {"tensorboard": False}}
            config = tiny_config(demo_root, **({k: v for k, v in sections.items() if k != "seed"} | short))
            config = config.model_copy(update={"seed": sections.get("seed", 0)})
            build_trainer(config, folder / "runs" / name, CPU).fit()
            rows.append(PlannedRun(name, group, seed, Path("runs") / name, settings))
        rows.append(PlannedRun("energy/0002", "energy", 2, Path("runs/energy/0002"), rows[1].settings))
        groups = (Group("baseline", "Baseline", True), Group("energy", f"Energy {EVIL}"), Group("aim", "AIM"))
        write_plan(folder, Plan(f"R1 {EVIL}", groups, tuple(rows)))
        yield folder


@pytest.fixture(scope="session")
def content(experiment: Path) -> dict[str, Any]:
    """With claims as `claims.report.as_row` makes them."""
    claims = [
        {"claim": f"R{number}", "says": EVIL, "where": "Fig. 5", "published": ["a: 1", "b: 2"], "ours": [EVIL] * number,
         "scale": "small", "verdict": verdict, "reason": "why"}
        for number, verdict in enumerate(VERDICTS)
    ]  # fmt: skip
    return describe_report([experiment], Choices(split="test", images=2), CPU)[0] | {"claims": claims}


@pytest.fixture(scope="module")
def page(content: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the experiment, with a class that is called as nobody's class should be."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    changed = copy.deepcopy(content)
    for row in changed["detail"]["gallery"]["rows"]:
        row["class"] = EVIL
    write_page(path, changed, plotly=plotly_script())
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium with a profile of its own."""
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def opened(browser: Any, page: Path) -> Any:
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "screen"})
    browser.get(page.as_uri())
    wait(lambda: js(browser, "return document.querySelectorAll('#front-plot .point').length"))
    return browser
