"""Benchmarks are written as they go, and go on where they stopped; tables and figures of what was measured."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from guidance.attribution import ATTRIBUTIONS
from guidance.benchmarks.class_maps import JudgedMethod
from guidance.benchmarks.figures import FIGURES
from guidance.benchmarks.judges import BENCHMARKS
from guidance.benchmarks.running import ROWS, Row, read_rows, run_benchmark
from guidance.benchmarks.scenes import LabelledScene, Scenes
from guidance.benchmarks.summary import as_csv, cell, improvement, records, table
from tests.support.processes import run_processes

METHODS = [JudgedMethod(name, ATTRIBUTIONS["ixg"], "input") for name in ("first", "second")]


def make_scenes(number: int = 5) -> Scenes:
    """LabelledScene i has i % 3 classes."""

    def build(i: int) -> LabelledScene:
        classes = tuple(range(i % 3))
        return LabelledScene(
            f"scene {i}", torch.zeros(3, 2, 2), classes, torch.zeros(len(classes), 2, 2, dtype=torch.bool)
        )

    return Scenes(tuple(f"scene {i}" for i in range(number)), build)


class Judging:
    """Gives a row for each class; ends at the call `until`."""

    def __init__(self, until: int | None = None) -> None:
        self.until, self.seen = until, list[tuple[str, str]]()

    def __call__(self, method: JudgedMethod, scenes: Sequence[LabelledScene]) -> list[Row]:
        if self.until is not None and len(self.seen) >= self.until:
            raise KeyboardInterrupt
        self.seen += [(method.name, scene.name) for scene in scenes]
        return [
            {"scene": scene.name, "class": c, "variant": "", "ra": 0.5 if c else math.nan}
            for scene in scenes for c in scene.classes
        ]  # fmt: skip


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    whole = run_benchmark(Judging(), METHODS, make_scenes(), tmp_path / "whole", settings={"a": 1}, batch_size=2)
    stopped = Judging(until=3)
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(stopped, METHODS, make_scenes(), tmp_path / "parts", settings={"a": 1}, batch_size=1)
    with (tmp_path / "parts" / ROWS.format(0)).open("a") as file:
        file.write('{"method": "second", "sce')  # killed while it wrote
    rest = Judging()
    found = run_benchmark(rest, METHODS, make_scenes(), tmp_path / "parts", settings={"a": 1}, batch_size=1)
    assert found == whole == read_rows(tmp_path / "parts")
    assert not set(stopped.seen) & set(rest.seen)
    assert len(stopped.seen) + len(rest.seen) == 2 * 3  # scenes 0 and 3 have no class
    assert sum(row["ra"] is None for row in found) == 2 * 3
    nothing = Judging(until=0)
    assert run_benchmark(nothing, METHODS, make_scenes(), tmp_path / "parts", settings={"a": 1}) == whole


def judge_a_share(folder: str) -> tuple[list[Row], list[tuple[str, str]]]:
    judging = Judging()
    return run_benchmark(judging, METHODS, make_scenes(), Path(folder), settings={}), judging.seen


def test_processes_share_the_scenes(tmp_path: Path) -> None:
    alone = run_benchmark(Judging(), METHODS, make_scenes(), tmp_path / "alone", settings={})
    (first, seen), (second, others) = run_processes(2, tmp_path / "ranks", judge_a_share, str(tmp_path / "shared"))
    assert first == second == alone
    assert not set(seen) & set(others)
    assert len(seen) + len(others) == 2 * 3


def test_rows_of_other_settings_are_not_mixed(tmp_path: Path) -> None:
    run_benchmark(Judging(), METHODS, make_scenes(), tmp_path, settings={"seed": 0, "count": 3})
    with pytest.raises(ValueError, match="other settings \\(seed 0, now 1\\)"):
        run_benchmark(Judging(), METHODS, make_scenes(), tmp_path, settings={"seed": 1, "count": 3})


def rows(shift: float = 0.0) -> list[Row]:
    return [
        {"method": method, "scene": "a", "class": 0, "variant": variant, "ra": value + shift, "iou": value,
         "f1": value, "precision": None, "recall": value}
        for method, values in {"ixg": (0.4, 0.5), "gradcam": (0.8, 0.6)}.items()
        for variant, value in zip(("", "lens"), values, strict=True)
    ]  # fmt: skip


def test_table_in_the_form_of_the_paper() -> None:
    runs = {"seed 0": rows(), "seed 1": rows(0.1)}
    benchmark = BENCHMARKS["localization"]
    now, base = cell(runs, "ixg", "lens", "ra"), cell(runs, "ixg", "", "ra")
    assert now == pytest.approx((0.55, 0.1 / math.sqrt(2), 2, 2))
    assert improvement(now, base) == pytest.approx(100 * (0.55 / 0.45 - 1))
    lines = table(runs, benchmark).splitlines()
    assert lines[0] == "| method | variant | ra ↑ | iou ↑ | f1 ↑ | precision ↑ | recall ↑ |"
    assert lines[2].startswith("| ixg | without | 0.450 ± 0.071 | 0.400 ± 0.000 |")
    assert lines[3].startswith("| ixg | lens | 0.550 ± 0.071 (+22 %) | 0.500 ± 0.000 (+25 %) |")
    assert lines[5].startswith("| gradcam | lens | 0.650 ± 0.071 (-24 %) |")
    assert " - " in lines[2]  # precision has no value
    found = records(runs, benchmark)
    assert [(line["method"], line["variant"]) for line in found][:2] == [("ixg", "without"), ("ixg", "lens")]
    assert found[1]["ra_improvement_percent"] == pytest.approx(100 * (0.55 / 0.45 - 1))
    assert json.dumps(found)


def test_csv_has_every_row_but_no_curves() -> None:
    curves = [{**row, "insertion": 0.5, "insertion_curve": [0.0, 1.0]} for row in rows()]
    read = list(csv.DictReader(io.StringIO(as_csv({"net": curves}, BENCHMARKS["insertion_deletion"]))))
    assert len(read) == 4
    assert read[0]["net"] == "net"
    assert "insertion_curve" not in read[0]


def test_figures_show_what_was_measured() -> None:
    runs = {"net": rows()}
    bars = FIGURES["localization"](runs, BENCHMARKS["localization"])
    widths = [bar.get_width() for bar in bars.axes[0].patches]  # type: ignore[attr-defined]
    assert widths == pytest.approx([0.4, 0.8, 0.5, 0.6])
    curves = [
        {**row, "insertion": 0.5, "deletion": 0.5, "insertion_curve": [0.0, 1.0], "deletion_curve": [1.0, 0.5]}
        for row in rows()
    ]
    drawn = FIGURES["insertion_deletion"]({"a": curves, "b": curves}, BENCHMARKS["insertion_deletion"])
    assert [list(map(float, line.get_ydata())) for line in drawn.axes[1].lines] == [[1.0, 0.5]] * 4
    assert [line.get_linestyle() for line in drawn.axes[0].lines] == ["--", "-", "--", "-"]
    alike = [
        {**row, "randomized": f, "spearman": f, "pearson": f, "cosine": None} for row in rows() for f in (0.5, 1.0)
    ]
    found = FIGURES["randomization"]({"net": alike}, BENCHMARKS["randomization"])
    assert list(map(float, found.axes[0].lines[0].get_ydata())) == [0.5, 1.0]
