"""The command that draws the masks of a checkpoint for some images."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import image as pictures
from torch import Tensor, nn
from torchvision import tv_tensors

from guidance.config.sections import ModelSettings
from guidance.data import eval_transform
from guidance.data.reading.decode import read_image
from guidance.models.classifier import Classifier
from tests.support.data.pictures import write_picture
from tests.support.explaining import attribute
from tests.support.nets import Masking, masking_net
from tools import show_masks as tool

CLASSES = ("bird", "fish", "tree")


class FakeRun:
    """What the command uses of `guidance.inference.Run`."""

    config, classes = SimpleNamespace(model=ModelSettings(name="resnet18")), CLASSES

    def __init__(self, model: Classifier) -> None:
        self.model = model

    def read(self, path: Path) -> Tensor:
        view = eval_transform(32)({"image": tv_tensors.Image(read_image(path))})
        result: Tensor = view["image"][None]
        return result


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return [write_picture(tmp_path / f"picture_{i}.png", seed=i) for i in range(3)]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the last panel was drawn from."""
    seen: dict[str, Any] = {}
    draw = tool.mask_panel

    def panel(images: Tensor, masks: dict[str, Tensor], merged: Tensor, **options: Any) -> np.ndarray:
        seen.update(images=images, masks=masks, merged=merged, **options)
        return draw(images, masks, merged, **options)

    monkeypatch.setattr(tool, "mask_panel", panel)
    return seen


@pytest.mark.parametrize("at_once", [16, 2])
def test_masks_and_predictions_of_each_file(
    files: list[Path], drawn: dict[str, Any], monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(tool, "BATCH", at_once)
    run = FakeRun(masking_net(3))
    tool.draw(run, files)  # type: ignore[arg-type]
    images = torch.cat([run.read(path) for path in files])
    expected = run.model.masks(images)  # type: ignore[operator]
    assert list(drawn["masks"]) == ["stage1", "stage2"]
    assert all(torch.equal(drawn["masks"][stage], expected[stage]) for stage in expected)
    either = (expected["stage1"] + nn.functional.interpolate(expected["stage2"], 4)) > 0
    assert torch.equal(drawn["merged"] > 0, either)
    predicted = run.model(images).logits.argmax(1).tolist()
    assert drawn["names"] == [f"picture_{i}: {CLASSES[k]}" for i, k in enumerate(predicted)]
    assert drawn["attributions"] is None
    torch.testing.assert_close(drawn["images"][0], eval_view(files[0]), rtol=0, atol=0.01)


def eval_view(path: Path) -> Tensor:
    image = torch.nn.functional.interpolate(read_image(path)[None].float(), (32, 32), mode="bilinear", antialias=True)
    return image[0] / 255


@pytest.mark.parametrize("target", [None, "tree"])
def test_gradcam_is_that_of_the_predicted_or_the_chosen_class(
    files: list[Path], drawn: dict[str, Any], target: str | None
) -> None:
    run = FakeRun(masking_net(3))
    with torch.no_grad():
        tool.draw(run, files, gradcam=True, target=target)  # type: ignore[arg-type]
    images = torch.cat([run.read(path) for path in files])
    out = run.model.explainable(images, "final")
    classes = out.logits.argmax(1) if target is None else torch.full((3,), 2)
    expected = attribute("gradcam", run.model, out, "final", torch.arange(3), classes, create_graph=False)
    assert list(drawn["attributions"]) == ["GradCAM"]
    torch.testing.assert_close(drawn["attributions"]["GradCAM"], expected)
    assert drawn["captions"] == {"GradCAM": [CLASSES[k] for k in classes.tolist()]}


def test_command_writes_the_picture(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Path] = []

    def load(path: Path, *, device: torch.device) -> FakeRun:
        asked.append(path)
        return FakeRun(masking_net(3).to(device))

    monkeypatch.setattr(tool, "load_run", load)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    output = tmp_path / "new" / "masks.png"
    arguments = ["--checkpoint", "runs/x", "--images", *map(str, files), "--output", str(output)]
    assert tool.main(arguments) == 0
    assert asked == [Path("runs/x")]
    assert str(output) in capsys.readouterr().out
    narrow = pictures.imread(output).shape
    assert tool.main([*arguments, "--gradcam", "--target", "fish"]) == 0
    wide = pictures.imread(output).shape
    assert wide[1] - narrow[1] == pytest.approx(2.12 * 110, abs=2)


def test_mistakes_are_named(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*more: str, kind: type[Classifier] = Masking, images: list[Path] = files) -> str:
        monkeypatch.setattr(tool, "load_run", lambda path, device: FakeRun(masking_net(3, kind)))
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        output = str(tmp_path / "out.png")
        assert tool.main(["--checkpoint", "x", "--output", output, *more, "--images", *map(str, images)]) != 0
        assert not (tmp_path / "out.png").exists()
        return capsys.readouterr().err

    assert "(resnet18) has no masks; only nets that were trained with objective.mode: aim" in fails(kind=Classifier)
    assert "unknown class 'tre'" in fails("--gradcam", "--target", "tre")
    assert "ask for them with --gradcam" in fails("--target", "tree")
    assert "absent.png" in fails(images=[tmp_path / "absent.png"])
    monkeypatch.undo()
    assert tool.main(["--checkpoint", str(tmp_path / "none.pt"), "--images", str(files[0])]) != 0
    assert "none.pt" in capsys.readouterr().err
