"""Use of a finished run: load it, explain an image, evaluate it on a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision import tv_tensors

from guidance import checkpoint, per_sample, runs
from guidance.attribution import attribute
from guidance.build import (
    build_attribution,
    build_classifier,
    build_eval_transform,
    build_evaluation_dataset,
    build_evaluator,
    build_source,
    log_guided_rule,
)
from guidance.config import Config, override_config, parse_config
from guidance.data import Source
from guidance.data.decode import read_image
from guidance.data.preflight import preflight
from guidance.maps import upsample
from guidance.models import Classifier
from guidance.rows import Rows
from guidance.types import lookup


@dataclass(frozen=True)
class Run:
    """A trained classifier with what is needed to use it."""

    model: Classifier  # in eval mode
    config: Config
    classes: tuple[str, ...]
    metrics: dict[str, float]  # on the validation split, when the checkpoint was written

    def read(self, path: str | Path) -> Tensor:
        """The image file as the net takes it: [1, C, H, W]."""
        view = {
            "image": tv_tensors.Image(read_image(Path(path), displayed=self.config.data.orientation == "displayed"))
        }
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # evaluation.crop: shifted draws, and should draw the same again
            image: Tensor = build_eval_transform(self.config)(view)["image"]
        return image[None].to(next(self.model.parameters()).device)

    def predict(self, path: str | Path) -> dict[str, float]:
        """The logit of every class."""
        with torch.no_grad():
            logits = self.model(self.read(path)).logits[0]
        return dict(zip(self.classes, logits.tolist(), strict=True))

    def explain(self, path: str | Path, target: str) -> Tensor:
        """Attribution map [H, W] of class `target`, signed, upsampled to the net's input, by the run's own method."""
        classes = {name: i for i, name in enumerate(self.classes)}
        images = self.read(path)
        method, depth = build_attribution(self.config)
        out = self.model.explainable(images, depth)
        image = torch.zeros(1, dtype=torch.long, device=images.device)
        raw = attribute(
            method, self.model, out, depth, image, image + lookup(classes, target, "class"), create_graph=False
        )
        return upsample(raw.detach(), (images.shape[2], images.shape[3]))[0].cpu()


def load_run(path: str | Path, *, overrides: Sequence[str] = (), device: torch.device | str = "cpu") -> Run:
    """Load a checkpoint, or the last one of a run folder. Raises ValueError for a missing, broken or foreign file."""
    path = Path(path)
    state: dict[str, Any] = checkpoint.load(runs.last_checkpoint(path) if path.is_dir() else path)
    config = override_config(parse_config(state["config"], source=str(path)), overrides)
    classes = tuple(state["classes"])
    model = build_classifier(config, len(classes), pretrained=False)
    model.load_state_dict(state["model"])
    return Run(model.to(device).eval(), config, classes, dict(state["metrics"]))


def evaluate_checkpoint(
    path: str | Path,
    split: str,
    *,
    overrides: Sequence[str] = (),
    device: torch.device | str = "cpu",
) -> dict[str, float]:
    """Metrics of a checkpoint on a split, with the IoU threshold that the checkpoint holds. A collective call."""
    return evaluate_in_detail(path, split, overrides=overrides, device=device).metrics


class Evaluation(NamedTuple):
    """What `evaluate_in_detail` returns; the same on every process."""

    metrics: dict[str, float]
    rows: Rows
    source: Source
    config: Config

    def table(self) -> per_sample.Table:
        """A row for each (image, class), see `per_sample.tabulate`."""
        return per_sample.tabulate(self.rows, self.source, self.config.data.root)


def evaluate_in_detail(
    path: str | Path,
    split: str,
    *,
    overrides: Sequence[str] = (),
    device: torch.device | str = "cpu",
) -> Evaluation:
    """`evaluate_checkpoint`, with the rows that the metrics were computed from. A collective call."""
    run = load_run(path, overrides=overrides, device=device)
    log_guided_rule(run.config, run.model)
    source = build_source(run.config, split)
    if source.classes != run.classes:
        raise ValueError(
            f"{path} was trained on the classes {', '.join(run.classes)}, "
            f"but {source.name} {split} has {', '.join(source.classes)}"
        )
    # The training split only tells how large its groups are.
    train = build_source(run.config, run.config.data.train_split) if source.groups else source
    preflight(source, pixels=False, on_error=run.config.data.on_error, threads=run.config.data.num_workers)
    evaluator = build_evaluator(run.config, build_evaluation_dataset(run.config, source), train, torch.device(device))
    wanted = run.config.evaluation.iou_threshold
    threshold = run.metrics.get("iou_threshold") if wanted == "fit" else float(wanted)
    if threshold is None:
        raise ValueError(f"{path} holds no fitted IoU threshold; set evaluation.iou_threshold to a number")
    metrics, rows = evaluator.with_rows(run.model, iou_threshold=threshold)
    return Evaluation(metrics, rows, source, run.config)
