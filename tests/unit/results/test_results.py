"""Results carry what decides them: other settings are another file, and a threshold of another map is told of."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from guidance.assembly import build_evaluation_dataset, build_source, build_trainer
from guidance.assembly.nets import build_attribution
from guidance.config import Config
from guidance.evaluation.scores import IOU_THRESHOLDS, iou
from guidance.inference import evaluate_checkpoint, evaluate_in_detail, load_run
from guidance.losses import energy
from guidance.maps import upsample
from guidance.pictures.probe import Probe
from guidance.results import tables
from guidance.results.files import result_path
from launch import evaluate
from tests.support.runs import rows

CPU = torch.device("cpu")


Make = Callable[..., Config]


@pytest.fixture
def run(settings: Make, tmp_path: Path) -> Path:
    """Guided at mid1."""
    config = settings(
        trainer={"epochs": 1}, data={"annotated_fraction": 1.0},
        objective={"attribution": {"depth": "mid1"}, "localization": {"weight": 0.1}, "class_weights": [1, 2, 3]},
    )  # fmt: skip
    build_trainer(config, tmp_path / "run", CPU).fit()
    return tmp_path / "run"


def printed(run: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert evaluate.main(["--checkpoint", str(run), "--device", "cpu", *arguments]) == 0
    return capsys.readouterr().out


def files(run: Path) -> dict[str, dict[str, dict[str, Any]]]:
    return {path.name: json.loads(path.read_text()) for path in (run / "results").iterdir()}


def test_other_settings_are_another_file(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(run, capsys)
    assert f"{run}/checkpoints/last.pt, epoch 1, on test: ixg at mid1, region box, IoU threshold " in out
    assert "(fitted on all of val, which selects too)" in out
    (content,) = files(run).values()
    assert {type(value) for value in content["metrics"].values()} <= {float, type(None)}
    trust, metrics = content["significance"], content["metrics"]
    size, right = trust["epg_size_correlation"], trust["accuracy"]
    assert (size["r"], right["right"] / right["total"]) == (metrics["epg_size_correlation"], metrics["accuracy"])
    assert set(size) == {"r", "p", "low", "high", "pairs"}
    assert re.search(rf"epg_size_correlation +{size['r']:.4f} +{size['low']:.4f} to {size['high']:.4f} .* pairs", out)
    for arguments in (
        ["--set", "evaluation.attribution.method=gradcam"],
        ["--set", "evaluation.region=segment"],
        ["--set", "evaluation.iou_threshold=0.3"],
        ["--split", "val"],
    ):
        printed(run, capsys, *arguments)
    assert len(files(run)) == 5
    # What decides nothing makes no other file; the same evaluation writes the same one again.
    printed(run, capsys, "--set", "evaluation.batch_size=3", "data.num_workers=1", "log.every=7")
    assert len(files(run)) == 5
    for name, content in files(run).items():
        assert set(content) == {"metrics", "settings", "significance"}
        assert name.startswith(f"last.{content['settings']['split']}.")
    methods = {
        (c["settings"]["attribution"], c["settings"]["depth"], c["settings"]["region"]) for c in files(run).values()
    }
    assert methods == {("ixg", "mid1", "box"), ("gradcam", "mid1", "box"), ("ixg", "mid1", "segment")}
    origins = {(c["settings"]["iou_threshold"], c["settings"]["iou_threshold_from"]) for c in files(run).values()}
    assert (0.3, "as set") in origins


def test_the_name_of_a_result_depends_on_its_settings_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs/a/checkpoints/pareto/epoch_0003.pt"
    first = result_path(path, "test", {"a": 1, "b": 2})
    assert first.parent == tmp_path / "runs/a/results"
    assert first == result_path(path, "test", {"b": 2, "a": 1})
    assert first != result_path(path, "test", {"a": 1, "b": 3})
    assert result_path(tmp_path / "net.pt", "val", {}).parent == tmp_path
    path.parent.mkdir(parents=True)
    monkeypatch.chdir(path.parent)
    assert result_path(Path(path.name), "test", {"a": 1, "b": 2}).resolve() == first.resolve()


def test_a_threshold_of_another_map_is_told_of_and_can_be_fitted_again(
    run: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    fitted = load_run(run).metrics["iou_threshold"]
    out = printed(run, capsys)
    assert f"IoU threshold {fitted:g} (fitted on all of val, which selects too)" in out
    assert "fitted with other settings" not in caplog.text
    for changed in ("attribution.method=gradcam", "attribution.depth=final", "region=segment", "crop=center"):
        caplog.clear()
        out = printed(run, capsys, "--set", f"evaluation.{changed}")
        assert f"the IoU threshold {fitted:g} was fitted with other settings (ixg at mid1, region box" in caplog.text
        name = "attribution" if changed.startswith("attribution") else f"evaluation.{changed.partition('=')[0]}"
        assert f"; other now: {name})" in caplog.text
        assert "(fitted on all of val, which selects too, with other settings: ixg at mid1, region box" in out
    caplog.clear()
    changed = ["evaluation.attribution.method=gradcam"]
    found = evaluate_in_detail(run, "test", overrides=changed, refit=True)
    assert "other settings" not in caplog.text
    assert found.settings["iou_threshold_from"] == "fitted on all of val, which selects too, for this"
    # The best of all thresholds for these maps on the validation split.
    loaded = load_run(run, overrides=changed)
    data = build_evaluation_dataset(loaded.config, build_source(loaded.config, "val"))
    probe = Probe.choose(data, len(data), encoding="normalized")
    assert probe is not None
    method, depth = build_attribution(loaded.config)
    maps = probe.maps(loaded.model, attribution=method, depth=depth, device=CPU)
    scores = iou(maps, probe.batch.regions.mask, IOU_THRESHOLDS).double().mean(0)
    assert scores[IOU_THRESHOLDS.index(found.metrics["iou_threshold"])] == pytest.approx(float(scores.max()))
    assert "(fitted on all of val, which selects too, for this)" in printed(run, capsys, "--refit", "--set", *changed)
    with pytest.raises(ValueError, match=r"iou_threshold=0\.3 sets the IoU threshold, and --refit fits it"):
        evaluate_in_detail(run, "test", overrides=["evaluation.iou_threshold=0.3"], refit=True)


def test_a_threshold_that_was_never_fitted_is_not_said_to_be(settings: Make, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert build_trainer(settings(evaluation={"iou_threshold": 0.4}), folder, CPU).fit()
    with pytest.raises(ValueError, match=r"holds no fitted IoU threshold; fit one with --refit, or set"):
        evaluate_in_detail(folder, "test", overrides=["evaluation.iou_threshold=fit"])
    assert evaluate_in_detail(folder, "test").settings["iou_threshold_from"] == "as set"
    refitted = evaluate_in_detail(folder, "test", refit=True)
    assert refitted.settings["config"]["evaluation.iou_threshold"] == "fit"
    assert refitted.settings["iou_threshold_from"] == "fitted on all of val, which selects too, for this"


def test_validation_tells_the_losses(run: Path) -> None:
    """Under the names that they have in training, with the same weights of classes; and by hand on the same images."""
    (epoch,) = [row for row in rows(run) if "epoch" in row]
    loaded = load_run(run)
    assert epoch["val/classification"] == loaded.metrics["classification"]
    config, model = loaded.config, loaded.model
    data = build_evaluation_dataset(config, build_source(config, "val"))
    samples = [data[0, i] for i in range(len(data))]
    images, targets = torch.stack([s.image for s in samples]), torch.stack([s.targets for s in samples])
    masks, classes = torch.cat([s.masks for s in samples]), targets.argmax(1)
    assert len(masks) == len(samples)
    with torch.no_grad():
        logits = model(images).logits
    weighted = (
        torch.nn.functional.cross_entropy(logits, classes, reduction="none") * torch.tensor([1.0, 2.0, 3.0])[classes]
    )
    assert epoch["val/classification"] == pytest.approx(float(weighted.mean()), rel=1e-5)
    features = model.lower(images, "mid1").detach().requires_grad_()
    (gradient,) = torch.autograd.grad(
        model.upper(features, "mid1").logits[torch.arange(len(images)), classes].sum(), features
    )
    maps = upsample((features * gradient).sum(1), (32, 32))
    assert epoch["val/localization"] == pytest.approx(float(energy(maps.detach(), masks).mean()), rel=1e-4)
    # Other maps than the guided ones tell nothing of the guided loss.
    assert "localization" not in evaluate_checkpoint(run, "val", overrides=["evaluation.attribution.depth=final"])


def test_every_class_is_told_of(run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{kind}_class/{name}" for kind in ("accuracy", "ap") for name in ("ring", "cross", "triangle")]
    (epoch,) = [row for row in rows(run) if "epoch" in row]
    assert all(f"val/{name}" in epoch for name in names)
    assert epoch["val/map"] == pytest.approx(sum(epoch[f"val/ap_class/{n}"] for n in ("ring", "cross", "triangle")) / 3)
    out = printed(run, capsys)
    assert all(name in out for name in names)
    monkeypatch.setattr(tables, "BY_CLASS", 5)
    out = printed(run, capsys)
    assert "_class/" not in out  # too many to read; they are in the file
    assert all(set(names) <= set(content["metrics"]) for content in files(run).values())
