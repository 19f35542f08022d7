"""The table of an evaluated split: one row for each (image, class), through the entry point, on one and two processes."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch

from guidance.assembly import build_classifier
from guidance.config import parse_config
from guidance.data import Record, Source, generate_demo
from guidance.evaluation.per_sample import COLUMNS, tabulate, write_table
from guidance.evaluation.rows import Rows, RowSettings, merge
from guidance.evaluation.scores import ALL_SCORES, all_scores
from guidance.evaluation.tables import Scoring, collect
from guidance.inference import Evaluation, evaluate_checkpoint, evaluate_in_detail
from guidance.runs.checkpoint import FORMAT, VERSION, save
from guidance.types import Batch, Regions
from launch.evaluate import main
from tests.support.processes import run_forked

ROOT = Path(__file__).parents[3]
QUADRANT = torch.zeros(4, 4, dtype=torch.bool)
QUADRANT[:2, :2] = True
MAP = torch.tensor([[4.0, -2.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, 2.0]])


def make_source(root: Path) -> Source:
    records = (
        Record(root / "a" / "x.png", (0, 2), group=1),
        Record(Path("/elsewhere/y.png"), (1,)),
        Record(root / "a" / "z.png", (), group=0),
    )
    return Source("pictures", "test", ("ant", "bee", "cow"), records, False, ("day", "night"))


def make_rows(*, every: bool = True) -> Rows:
    """Image 0 has the classes 0 and 2, of which 0 and (though it is no label) 1 are explained; image 2 has none."""
    regions = Regions(
        torch.tensor([0, 0]), torch.tensor([0, 1]), torch.stack((QUADRANT, ~QUADRANT)), None, 2,
        torch.tensor([0, 2]), torch.stack((torch.zeros_like(QUADRANT), QUADRANT)),
    )  # fmt: skip
    targets = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    logits = torch.tensor([[0.1, -1.0, 2.0], [3.0, -0.5, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    batch = Batch(torch.zeros(3, 3, 4, 4), targets, regions, torch.tensor([1, -1, 0]), torch.arange(3))
    maps = MAP.expand(2, 4, 4)
    scoring = Scoring(more=all_scores if every else None)
    return merge([collect(batch, logits, maps, scoring=scoring)], RowSettings(iou_threshold=0.5))


def test_a_row_for_each_positive_and_each_explained_class(tmp_path: Path) -> None:
    told = {
        "split": "val",
        "attribution": "ixg",
        "depth": "final",
        "iou_threshold": 0.5,
        "iou_threshold_from": "as set",
    }
    table = tabulate(make_rows(), make_source(tmp_path), tmp_path, settings=told | {"config": {}})
    assert all(row.items() >= told.items() for row in table)
    assert [(row["index"], row["class"]) for row in table] == [(0, "ant"), (0, "bee"), (0, "cow"), (1, "bee")]
    assert [tuple(row) for row in table] == [COLUMNS] * 4
    first, forbidden, unexplained, other = table
    expected = {
        "image": "a/x.png", "index": 0, "class": "ant", "target": 1, "logit": 0.1, "predicted": 1, "group": "night",
        "region": "box", "area": 0.25, "energy": 1, "epg": 6 / 8, "normalized_epg": 6 / 16, "iou": 1 / 4,
        "seg_epg": None, "x_seg_epg": None, "never_energy": None, "pixel_recall": 0.5,
    }  # fmt: skip
    assert {name: first[name] for name in expected} == pytest.approx(expected)
    assert isinstance(first["region_attribution"], float)
    assert (forbidden["region"], forbidden["target"], forbidden["predicted"]) == ("never", 0, 0)
    assert (forbidden["epg"], forbidden["area"], forbidden["never_energy"]) == (None, None, 6 / 8)
    assert all(unexplained[name] is None for name in COLUMNS[COLUMNS.index("region") : -len(told)])
    assert (other["image"], other["group"], other["logit"], other["predicted"]) == ("/elsewhere/y.png", None, -0.5, 0)


def test_what_was_not_computed_is_empty(tmp_path: Path) -> None:
    table = tabulate(make_rows(every=False), make_source(tmp_path), tmp_path)
    assert all(row[name] is None for row in table for name in ALL_SCORES)
    assert table[0]["epg"] == 6 / 8


def test_the_file_reads_back_exactly(tmp_path: Path) -> None:
    table = tabulate(make_rows(), make_source(tmp_path), tmp_path)
    write_table(tmp_path / "new" / "scores.csv", table)
    with (tmp_path / "new" / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(table)
    for row, expected in zip(rows, table, strict=True):
        assert tuple(row) == COLUMNS
        for name, value in expected.items():
            text = row[name]
            assert text == "" if value is None else type(value)(text) == value


# Through the entry point


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with generated data and the checkpoint of a net that was not trained."""
    folder = tmp_path_factory.mktemp("run")
    counts = {"num_train": 12, "num_val": 9, "num_test": 11}
    generate_demo(folder / "demo", **counts, image_size=32)
    config = parse_config({
        "data": {"name": "demo", "root": str(folder / "demo"), "image_size": 32, "num_workers": 0, **counts},
        "model": {"name": "resnet8"}, "objective": {"attribution": {"depth": "mid2"}}, "evaluation": {"batch_size": 3},
    })  # fmt: skip
    torch.manual_seed(0)
    model = build_classifier(config, 3, pretrained=False)
    save(folder / "net.pt", {
        "format": FORMAT, "version": VERSION, "config": config.model_dump(mode="json"),
        "classes": ["ring", "cross", "triangle"], "model": model.state_dict(), "metrics": {}, "epoch": 1, "step": 1,
    })  # fmt: skip
    return folder


def test_any_number_of_processes_writes_the_same_table(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, plot = tmp_path / "one.csv", tmp_path / "two.csv", tmp_path / "plots" / "size.png"
    arguments = [
        "--checkpoint",
        str(run / "net.pt"),
        "--device",
        "cpu",
        "--output",
        str(tmp_path / "results" / "net.json"),
    ]
    assert main([*arguments, "--per-sample", str(one), "--size-plot", str(plot)]) == 0
    printed = capsys.readouterr().out
    assert f"written to {tmp_path / 'results' / 'net.json'}, {one}, {plot}" in printed
    assert "region_attribution" in printed
    assert "share of the image" in printed
    assert plot.stat().st_size > 5000
    words = ["launch/evaluate.py", *arguments, "--per-sample", str(two)]
    done = run_forked(words, cwd=ROOT, output=tmp_path / "printed", processes=2)
    assert done.returncode == 0, done.stdout + done.stderr
    assert one.read_bytes() == two.read_bytes()
    with one.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["index"]) for row in rows] == list(range(11))
    assert all(row["image"].startswith("images/test/") and row["group"] and row["pixel_f1"] for row in rows)


def test_the_table_belongs_to_the_metrics(run: Path) -> None:
    found: Evaluation = evaluate_in_detail(run / "net.pt", "test", overrides=["evaluation.scores=all"])
    table = found.table()
    for name in ("epg", "iou", "seg_epg", "x_seg_epg", *ALL_SCORES):
        values = [float(row[name]) for row in table if row[name] is not None]  # type: ignore[arg-type]
        assert found.metrics[name] == pytest.approx(math.fsum(values) / len(values), rel=1e-12)
    plain = evaluate_checkpoint(run / "net.pt", "test")
    assert {name: found.metrics[name] for name in plain} == pytest.approx(plain, nan_ok=True)
    assert not set(ALL_SCORES) & set(plain)


def test_settings_of_the_scores_reach_them(run: Path) -> None:
    def metrics(*overrides: str) -> dict[str, float]:
        return evaluate_checkpoint(run / "net.pt", "test", overrides=["evaluation.scores=all", *overrides])

    plain, blurred, active = metrics(), metrics("evaluation.blur=5"), metrics("evaluation.pixel_threshold=0.5")
    assert {n for n in plain if repr(plain[n]) != repr(blurred[n])} == {"region_attribution"}
    assert {n for n in plain if repr(plain[n]) != repr(active[n])} == {n for n in ALL_SCORES if n.startswith("pixel")}
    pixels = metrics("evaluation.pixel_map=blurred")
    # A map blurred is larger, so that no pixel of it is lost.
    assert {n for n in plain if repr(plain[n]) != repr(pixels[n])} <= {n for n in ALL_SCORES if n.startswith("pixel")}
    assert pixels["pixel_recall"] > plain["pixel_recall"]
    segment = metrics("evaluation.region=segment")
    assert segment["epg"] == segment["x_seg_epg"] == plain["x_seg_epg"]
    assert segment["epg_chance"] < plain["epg_chance"]
    assert math.isnan(segment["seg_epg"])
