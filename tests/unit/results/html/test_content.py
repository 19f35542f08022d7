"""What the report says of runs, from their files alone, and of single images, from hand-made numbers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from guidance.evaluation.size_bias import SIZE_EDGES
from guidance.results.groups.epochs import ExperimentRuns, GroupRun, RunEpoch, read_experiment
from guidance.results.html.boxes import bin_labels, box, boxes_by_size
from guidance.results.html.content import columns, describe, describe_metrics, plan_of_folders, point
from guidance.results.html.gallery import Answer, answers, describe_strip, worst_group
from guidance.results.html.page import embed, write_page
from guidance.results.plan_file import Group, Plan, PlannedRun
from tests.support.checkpoints import write_epochs
from tools.reports.detail import latest, pick


def write_config(folder: Path, **config: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"seed": 0} | config))
    return folder


def guided(weight: float) -> dict[str, Any]:
    return {"mode": "guided", "localization": {"weight": weight}}


def test_runs_that_differ_in_the_seed_alone_are_a_group(tmp_path: Path) -> None:
    folders = [
        write_config(tmp_path / "a", seed=3, objective=guided(1.0)),
        write_config(tmp_path / "b", seed=0, objective=guided(0.0)),
        write_config(tmp_path / "c", seed=4, objective=guided(1.0)),
        write_config(tmp_path / "else/b", seed=1, objective=guided(2.0)),
    ]
    plan = plan_of_folders([*folders, folders[0]])  # a folder that is given twice counts once
    first, second = str(tmp_path / "b"), str(tmp_path / "else/b")
    assert [(run.name, run.group, run.seed) for run in plan.runs] == [
        ("a", "a", 3), (first, first, 0), ("c", "a", 4), (second, second, 1),
    ]  # fmt: skip
    assert [group.name for group in plan.groups if group.baseline] == [first]
    assert not any(group.baseline for group in plan_of_folders(folders[1:2]).groups)  # of nothing
    with pytest.raises(ValueError, match=r"is not the folder of a run: there is no .*config\.yaml"):
        plan_of_folders([tmp_path])


def test_points_hold_what_can_be_drawn() -> None:
    found = point(3, {"f1": 0.123456789, "epg": math.nan, "classification": 1.0, "f1_class/a": 1.0, "own": 2.0})
    assert found == {"epoch": 3, "metrics": {"f1": 0.12346, "own": 2.0}}
    table = columns([found, {"epoch": 4, "metrics": {"f1": 1.0}}])
    assert table == {"epoch": [3, 4], "values": {"f1": [0.12346, 1.0], "own": [2.0, None]}}
    rows = describe_metrics({"runs": [{"points": {"v": {"values": dict.fromkeys(("sparsity", "f1", "epg_chance"))}}}]})
    assert {name: (row["label"], row["higher"]) for name, row in rows.items()} == {
        "f1": ("F1", True), "epg_chance": ("epg_chance", None), "sparsity": ("sparsity", False),
    }  # fmt: skip
    assert list(rows) == ["f1", "epg_chance", "sparsity"]  # those of tables first


def test_runs_and_their_points(tmp_path: Path) -> None:
    """Of every epoch, on every split that it was evaluated on; a run without an epoch is missing."""
    config = {"seed": 3, "model": {"name": "a"}, "trainer": {"epochs": 2}}
    write_epochs(
        tmp_path / "a", [(0.5, 0.2, math.nan), (0.6, 0.3, 0.2)], config=config, saved=[2], tests={2: (0.4, 0.1, 0.1)}
    )
    runs = (PlannedRun("g/0", "g", 0, tmp_path / "a", {"w": 1}), PlannedRun("g/1", "g", 1, tmp_path / "b"))
    found = describe(read_experiment(Plan("R1", (Group("g", "Group", True),), runs)))
    (run,) = found["runs"]
    assert found["groups"] == [{"name": "g", "label": "Group", "baseline": True}]
    assert (found["missing"], found["notes"]) == (["g/1"], [f"g/1 has no epoch yet ({tmp_path}/b)"])
    assert (run["name"], run["seed"], run["own"], run["saved"], run["settings"]["model.name"]) == (
        "g/0",
        3,
        {"w": 1},
        [2],
        "a",
    )
    assert run["points"] == {
        "validation": {"epoch": [1, 2], "values": {"f1": [0.5, 0.6], "epg": [0.2, 0.3], "iou": [None, 0.2]}},
        "test": {"epoch": [2], "values": {"f1": [0.4], "epg": [0.1], "iou": [0.1]}},
    }


def test_the_newest_checkpoint(tmp_path: Path) -> None:
    front = tmp_path / "checkpoints/pareto"
    front.mkdir(parents=True)
    assert latest(tmp_path) is None
    for name in ("epoch_0010.pt", "epoch_0002.pt"):
        (front / name).touch()
    assert latest(tmp_path) == front / "epoch_0010.pt"
    (tmp_path / "checkpoints/last.pt").touch()
    assert latest(tmp_path) == tmp_path / "checkpoints/last.pt"


def test_a_box() -> None:
    """Quartiles of 1 to 9 are 3, 5 and 7, so whiskers reach from -3 to 13: 12 is within, 14 and -4 are beyond."""
    assert box([9, 8, 7, 6, 5, 4, 3, 2, 1]) == {
        "q1": 3,
        "median": 5,
        "q3": 7,
        "low": 1,
        "high": 9,
        "mean": 5,
        "count": 9,
    }
    found = box([-4, 3, 3, 5, 5, 5, 7, 7, 12, 14])
    assert found is not None
    assert (found["q1"], found["median"], found["q3"]) == (3.5, 5, 7)
    assert (found["low"], found["high"], found["mean"]) == (3, 12, 5.7)
    assert box([]) is None
    assert box([2.0]) == {"q1": 2, "median": 2, "q3": 2, "low": 2, "high": 2, "mean": 2, "count": 1}


def test_boxes_are_by_the_share_that_the_mask_covers() -> None:
    rows = [(0.005, 0.1), (0.01, 0.2), (0.02, None), (1.0, 0.9), (None, 0.5), (0.8, 0.7)]
    table: list[dict[str, Any]] = [{"area": area, "epg": epg, "iou": epg, "normalized_epg": epg} for area, epg in rows]
    found = boxes_by_size([table[:3], table[3:]])["epg"]
    assert [each and (each["mean"], each["count"]) for each in found] == [
        (0.1, 1), (0.2, 1), None, None, None, None, None, (0.8, 2),
    ]  # fmt: skip
    assert len(bin_labels()) == len(SIZE_EDGES) - 1 == len(found)
    assert bin_labels()[2] == "3 to 10 %"


def test_what_a_net_says() -> None:
    logits, targets = torch.tensor([[0.0, math.log(3), -50.0]] * 2), torch.tensor([[0, 1, 0], [1, 1, 0]])
    assert answers(logits, targets, "abc", exclusive=True) == [Answer("b 0.75", True)] * 2
    assert answers(logits, targets, "abc", exclusive=False) == [
        Answer("b 0.75, a 0.50", right) for right in (False, True)
    ]
    none = answers(-torch.ones(1, 3), torch.zeros(1, 3), "abc", exclusive=False)
    assert none == [Answer("no class", True)]
    assert answers(torch.ones(1, 5), torch.ones(1, 5), "abcde", exclusive=False)[0].text.endswith("0.73 and 2 more")


def test_the_worst_group_is_that_of_the_lowest_mean() -> None:
    runs = [{"accuracy_group/a": 0.2, "accuracy_group/b": 0.5}, {"accuracy_group/a": 0.9, "accuracy_group/b": 0.4}]
    assert worst_group(["a", "b", "empty"], runs) == (1, pytest.approx(0.45))
    assert worst_group([], runs) is None
    assert worst_group(["empty"], [{"accuracy_group/empty": math.nan}]) is None


def test_masks_over_the_epochs() -> None:
    half = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).expand(3, 1, 2, 2)
    strip = describe_strip({7: half, 2: torch.ones(3, 1, 2, 2)}, 2)
    assert strip["epochs"] == [2, 7]
    assert [[cell["active"] for cell in row] for row in strip["rows"]] == [[1.0, 0.5]] * 2
    assert strip["rows"][0][0]["mask"] != strip["rows"][0][1]["mask"] == strip["rows"][1][1]["mask"]


def test_pictured_runs_are_of_all_groups_and_balanced(tmp_path: Path) -> None:
    values = {"a/0": (0.9, 0.1), "a/1": (0.8, 0.8), "a/2": (0.1, 0.9), "b/0": (0.5, 0.5), "c/0": (0.5, 0.5)}
    runs = [PlannedRun(name, name[0], 0, tmp_path / name) for name in values]
    for run in runs[:-1]:  # the last one has no checkpoint
        (run.folder / "checkpoints").mkdir(parents=True)
        (run.folder / "checkpoints/last.pt").touch()
    metrics = [{"val": {"f1": f1, "epg": epg}} for f1, epg in values.values()]
    found = ExperimentRuns(Plan("p", tuple(Group(name, name) for name in "abc"), tuple(runs)), tuple(
        GroupRun(run, 0, {}, (RunEpoch(run.name, run.group, 0, 1, 9, each),), 1.0)
        for run, each in zip(runs, metrics, strict=True)
    ), ())  # fmt: skip
    assert [run.name for run in pick(found, ["f1", "epg"], 3)] == ["a/1", "b/0", "a/0"]
    assert pick(found, ["f1", "epg"], 0) == []


def test_no_text_ends_the_script_that_holds_it(tmp_path: Path) -> None:
    content = {"title": "a </title> {{script}}", "x": "</script><!-- & {{style}}"}
    assert json.loads(embed(content)) == content
    assert not set("<>&") & set(embed(content))
    size = write_page(tmp_path / "new/page.html", content, plotly="/* plotly {{content}} */")
    text = (tmp_path / "new/page.html").read_text()
    assert size == len(text.encode())
    assert "<title>a &lt;/title&gt; {{script}}</title>" in text
    assert text.count("</script>") == 3
    assert "/* plotly {{content}} */" in text  # nothing in a part is taken for a place
    with pytest.raises(ValueError, match="not JSON compliant"):
        embed({"x": math.nan})
