"""A part of the validation split on which alone the IoU threshold is fitted: which images, what they decide, what is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from guidance.assembly import build_evaluation_dataset, build_evaluator, build_source, build_trainer
from guidance.assembly.threshold import threshold_images
from guidance.config import Config, override_config
from guidance.data import Source
from guidance.inference import evaluate_in_detail, load_run
from launch import evaluate
from tests.support.runs import rows

CPU = torch.device("cpu")
Make = Callable[..., Config]
FITTED = "fitted on 30 % of val, held out from the selection"


@pytest.fixture
def config(settings: Make) -> Config:
    """Of ten validation images three fit the threshold."""
    return settings(
        trainer={"epochs": 2}, data={"annotated_fraction": 1.0}, evaluation={"threshold_fraction": 0.3},
        objective={"attribution": {"depth": "mid1"}, "localization": {"weight": 0.1}},
    )  # fmt: skip


@pytest.fixture
def run(config: Config, tmp_path: Path) -> Path:
    assert build_trainer(config, tmp_path / "run", CPU).fit()
    return tmp_path / "run"


def by_hand(config: Config, run: Path) -> dict[str, float]:
    """The metrics of the run's last epoch, from two splits that are evaluated without a part set apart."""
    whole, val = override_config(config, ["evaluation.threshold_fraction=0"]), build_source(config, "val")
    apart, net = threshold_images(config, val), load_run(run).model

    def evaluated(wanted: bool, threshold: float | None = None) -> dict[str, float]:
        records = tuple(record for i, record in enumerate(val.records) if (i in apart) == wanted)
        dataset = build_evaluation_dataset(whole, replace(val, records=records))
        return build_evaluator(whole, dataset, build_source(config, "train"), CPU)(net, iou_threshold=threshold)

    return evaluated(False, evaluated(True)["iou_threshold"])


def test_the_other_images_alone_make_every_metric(config: Config, run: Path) -> None:
    expected = by_hand(config, run)
    assert load_run(run).metrics == pytest.approx(expected, nan_ok=True)
    (last,) = [row for row in rows(run) if row.get("epoch") == 2]
    assert {name: last[f"val/{name}"] for name in ("f1", "epg", "iou", "accuracy", "iou_threshold")} == pytest.approx(
        {name: expected[name] for name in ("f1", "epg", "iou", "accuracy", "iou_threshold")}
    )
    # The validation split is evaluated as it was in training.
    found = evaluate_in_detail(run, "val")
    assert found.metrics == pytest.approx(expected, nan_ok=True)
    assert not {row["index"] for row in found.table()} & threshold_images(config, build_source(config, "val"))


def test_every_result_says_where_the_threshold_comes_from(
    config: Config, run: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    threshold = load_run(run).metrics["iou_threshold"]
    assert evaluate.main(["--checkpoint", str(run), "--device", "cpu"]) == 0
    assert f"IoU threshold {threshold:g} ({FITTED})\n" in capsys.readouterr().out
    found = evaluate_in_detail(run, "val")
    assert found.description.endswith("on 7 of 10 images (3 are set apart for the threshold)")
    assert {row["iou_threshold_from"] for row in found.table()} == {found.settings["iou_threshold_from"]} == {FITTED}
    refitted = evaluate_in_detail(run, "test", refit=True)
    assert (refitted.metrics["iou_threshold"], refitted.settings["iou_threshold_from"]) == (
        threshold,
        f"{FITTED}, for this",
    )
    # What is left out of the validation split is no matter of the maps.
    assert (
        evaluate_in_detail(run, "test", overrides=["evaluation.threshold_fraction=0"]).settings["iou_threshold_from"]
        == FITTED
    )
    assert "was fitted with other settings" not in caplog.text
    other = evaluate_in_detail(run, "test", overrides=["evaluation.region=segment"])
    assert "other now: evaluation.region): so IoU is not the best" in caplog.text
    assert str(other.settings["iou_threshold_from"]).startswith(f"{FITTED}, with other settings: ixg at mid1")
    caplog.set_level("INFO")
    build_trainer(config, run.parent / "other", CPU)
    assert f"IoU threshold {FITTED}, after each epoch, on 7 of 10 images" in caplog.text


def parts(config: Config, source: Source) -> list[str]:
    return [source.records[i].path.name for i in sorted(threshold_images(config, source))]


def test_the_images_are_the_same_for_all_runs(config: Config, settings: Make) -> None:
    """Chosen by their names alone; none of another split, and none without a fraction."""
    val = build_source(config, "val")
    chosen = parts(config, val)
    assert len(chosen) == 3
    for change in ("seed=7", "optimizer.lr=0.1", "objective.localization.loss=l1", "evaluation.iou_threshold=0.5"):
        assert parts(override_config(config, [change]), val) == chosen
    place = val.records[0].path.parent
    moved = tuple(record._replace(path=Path("/elsewhere") / record.path.relative_to(place)) for record in val.records)
    assert parts(config, replace(val, records=moved)) == chosen
    assert sorted(parts(config, replace(val, records=val.records[::-1]))) == sorted(chosen)
    assert parts(config, build_source(config, "test")) == []
    assert parts(settings(), val) == []


def test_a_threshold_without_anything_to_fit_on_is_an_error(config: Config) -> None:
    val = build_source(config, "val")
    apart = threshold_images(config, val)
    nothing = tuple(record._replace(boxes=(), box_classes=()) for record in val.records)
    bare = tuple(nothing[i] if i in apart else record for i, record in enumerate(val.records))
    with pytest.raises(
        ValueError,
        match=r"0\.3 sets 3 of the 10 images of demo val apart.*'box' that leaves 0 to fit on and 7 to .*Raise it",
    ):
        threshold_images(config, replace(val, records=bare))
    few = tuple(record if i in apart else nothing[i] for i, record in enumerate(val.records))
    with pytest.raises(ValueError, match=r"leaves 3 to fit on and 0 to select by\. Lower it"):
        threshold_images(config, replace(val, records=few))
    assert threshold_images(config, replace(val, records=nothing)) == apart  # then IoU has no value anyway
    with pytest.raises(ValueError, match="sets 0 of the 1 images"):
        threshold_images(config, replace(val, records=val.records[:1]))


def test_a_part_for_a_threshold_that_is_not_fitted_is_an_error_before_anything_is_written(
    config: Config, run: Path, tmp_path: Path
) -> None:
    number = override_config(config, ["evaluation.iou_threshold=0.5"])
    with pytest.raises(ValueError, match=r"for a threshold that is not fitted \(evaluation\.iou_threshold: 0\.5\)"):
        build_trainer(number, tmp_path / "other", CPU)
    assert not (tmp_path / "other" / "config.yaml").exists()
    # In an evaluation the part stays out of the numbers: those of two thresholds are of the same images.
    found = evaluate_in_detail(run, "val", overrides=["evaluation.iou_threshold=0.5"])
    assert found.description.endswith(
        "IoU threshold 0.5 (as set), on 7 of 10 images (3 are set apart for the threshold)"
    )
