"""Claims on the lens: judged by what launch/judge.py has written of nets."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest

from guidance.results.claims.benchmarks import measure_judged, read_judged
from guidance.results.claims.values import NET, Quantity
from tests.unit.results.claims.experiments import experiment, one
from tools import report as tool

Maps = Mapping[tuple[str, str, str], list[float]]  # net, method, variant -> a number for each map
PLAIN: Maps = {
    ("a", "ixg@mid1", ""): [0.2, 0.4], ("a", "lime", ""): [0.5, math.nan],
    ("b", "ixg@mid1", ""): [0.1, 0.1], ("b", "lime", ""): [0.3, 0.5],
}  # fmt: skip


def lens(gain: float) -> Maps:
    return {(net, method, "lens"): [v + gain for v in values] for (net, method, _), values in PLAIN.items()}


def write(folder: Path, benchmark: str, metrics: tuple[str, ...], maps: Maps) -> Path:
    """As launch/judge.py does; all metrics have the same numbers."""
    for net in dict.fromkeys(net for net, _, _ in maps):
        (folder / benchmark / net).mkdir(parents=True)
        (folder / benchmark / net / "settings.json").write_text("{}")
    with (folder / f"{benchmark}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["net", "method", "scene", "class", "variant", *metrics])
        for (net, method, variant), values in maps.items():
            for i, value in enumerate(values):
                numbers = ["" if math.isnan(value) else value] * len(metrics)
                writer.writerow([net, method, f"scene {i}", 0, variant, *numbers])
    return folder


def test_a_net_is_the_mean_of_the_means_of_its_methods(tmp_path: Path) -> None:
    judged = read_judged(write(tmp_path, "localization", ("iou",), {**PLAIN, **lens(0.1)}))
    assert set(judged) == {"localization", "localization_lens"}
    quantity = Quantity("iou", at=NET)
    assert measure_judged(judged, "localization", quantity).by_seed == pytest.approx({0: 0.4, 1: 0.25})
    assert measure_judged(judged, "localization_lens", quantity).by_seed == pytest.approx({0: 0.5, 1: 0.35})
    of_lime = Quantity("iou", at=NET, where={"methods": ["lime", "occlusion"]})
    assert measure_judged(judged, "localization", of_lime).by_seed == pytest.approx({0: 0.5, 1: 0.4})
    none = measure_judged(judged, "localization", Quantity("iou", at=NET, where={"methods": ["occlusion"]}))
    assert none.notes == ("none of occlusion was judged",)
    assert measure_judged(judged, "randomization", quantity).notes == ("no group randomization",)
    assert measure_judged(judged, "localization", Quantity("iou")).notes == ("no group localization",)
    assert math.isnan(measure_judged(judged, "localization", Quantity("ra", at=NET)).mean)


def test_a_folder_of_something_else_is_none(tmp_path: Path) -> None:
    (tmp_path / "claims.csv").write_text("claim\n")
    assert read_judged(tmp_path) == {}


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside an experiment, which says nothing of the lens; each folder of nets says what it has."""
    plan = experiment(tmp_path / "runs", {group: {0: one(0.1), 1: one(0.2)} for group in ("baseline", "energy")})
    assert plan.name == "R1"
    grid = write(tmp_path / "grid", "localization", ("ra", "iou", "f1"), {**PLAIN, **lens(0.1)})
    write(grid, "randomization", ("spearman", "pearson", "cosine"), {**PLAIN, **lens(0.1)})
    warm = {**PLAIN, **{(net, method, "1, 2, 50"): v for (net, method, _), v in lens(0.1).items()}}
    warm |= {(net, method, "1, 10, 500"): v for (net, method, _), v in lens(0.11).items()}
    temperatures = write(tmp_path / "temperatures", "localization", ("iou",), warm)
    assert tool.main([*map(str, (tmp_path / "runs", grid, temperatures)), "--output", str(tmp_path)]) == 0
    rows = {row["claim"]: row for row in json.loads((tmp_path / "claims.json").read_text())}
    assert {name: rows[name]["verdict"] for name in ("L1", "L2", "L3", "L4")} == {
        "L1": "reproduced", "L2": "not run", "L3": "not reproduced", "L4": "reproduced"
    }  # fmt: skip
    assert rows["L2"]["reason"] == "no group insertion_deletion_lens, insertion_deletion"
    assert rows["R4"]["verdict"] == "not run"
    out = capsys.readouterr().out
    assert "(test, methods=feature_ablation, occlusion, shapley, kernel_shap, lime), grid" in out
    assert "(test), temperatures" in out
    assert tool.main([str(grid), "--html"]) == 2
    assert tool.main([str(grid), str(tmp_path / "nowhere")]) == 2
    assert "folders of launch/judge.py" in capsys.readouterr().err
    assert tool.main([str(grid)]) == 0
    assert (grid / "claims.md").is_file()
