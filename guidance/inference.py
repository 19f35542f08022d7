"""Use of a finished run, or of a net that was trained elsewhere: load it, explain an image, evaluate it on a split."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision import tv_tensors

from guidance.assembly import (
    build_attribution,
    build_classifier,
    build_eval_transform,
    build_evaluation_dataset,
    build_evaluator,
    build_source,
    data_section,
    describe_evaluation,
    in_classes,
    log_remark,
    pretrained_classes,
    pretrained_config,
)
from guidance.assembly.compiling import compiled_for_evaluation
from guidance.assembly.evaluation import Evaluator
from guidance.assembly.threshold import refit_threshold, stored_threshold
from guidance.attribution import explain_classes
from guidance.config import Config, free_on_resume, override_config, parse_config
from guidance.data import Source
from guidance.data.reading.decode import read_image
from guidance.data.reading.preflight import preflight
from guidance.data.workers import naming_killed_workers
from guidance.evaluation import per_sample
from guidance.evaluation.localization import describe_fit
from guidance.evaluation.rows import Rows
from guidance.maps import upsample
from guidance.models import Classifier
from guidance.models.weights import restore
from guidance.runs import checkpoint
from guidance.runs.paths import last_checkpoint
from guidance.runs.settings import flatten
from guidance.types import lookup

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A trained classifier with what is needed to use it."""

    model: Classifier  # in eval mode
    config: Config
    classes: tuple[str, ...]
    metrics: dict[str, float]  # on the validation split, when the checkpoint was written
    trained: Config  # as the checkpoint holds it, without changes
    epoch: int = 0
    step: int = 0
    pretrained: bool = False  # elsewhere: data may have some of its classes, in an order of their own

    def read(self, path: str | Path) -> Tensor:
        """The image file as the net takes it: [1, C, H, W]."""
        return self.prepare(read_image(Path(path), displayed=self.config.data.orientation == "displayed"))

    def prepare(self, pixels: Tensor) -> Tensor:
        """An image [3, H, W], uint8 or float in [0, 1], as the net takes it: [1, C, H, W]."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # evaluation.crop: shifted draws, and should draw the same again
            image: Tensor = build_eval_transform(self.config)({"image": tv_tensors.Image(pixels)})["image"]
        return image[None].to(next(self.model.parameters()).device)

    def predict(self, path: str | Path) -> dict[str, float]:
        """The logit of every class."""
        with torch.no_grad():
            logits = self.model(self.read(path)).logits[0]
        return dict(zip(self.classes, logits.tolist(), strict=True))

    def explain(self, path: str | Path, target: str, *, against: Sequence[str] = ()) -> Tensor:
        """Attribution map [H, W] of class `target`, signed, upsampled to the net's input, by the run's own method.

        `against`: the classes that compete with it, where the method has a lens (evaluation.attribution.lens), instead of
        those that the lens would choose. Raises ValueError for an unknown class, and for `against` without a lens.
        """
        classes = {name: i for i, name in enumerate(self.classes)}
        images = self.read(path)
        method, depth = build_attribution(self.config)
        if against and self.config.evaluated_attribution.lens is None:
            raise ValueError(
                "against names classes, but no lens lets them compete; load the run with "
                "overrides=['evaluation.attribution.lens.classes=top2'], or another class set"
            )
        chosen = torch.tensor([lookup(classes, name, "class") for name in (target, *against)], device=images.device)
        raw = explain_classes(
            self.model, images, lambda logits: chosen[None, :1], method=method, depth=depth,
            against=chosen[1:] if against else None,
        ).maps  # fmt: skip
        return upsample(raw.detach(), (images.shape[2], images.shape[3]))[0].cpu()


def load_run(path: str | Path, *, overrides: Sequence[str] = (), device: torch.device | str = "cpu") -> Run:
    """Load a checkpoint, or the last one of a run folder. Raises ValueError for a missing, broken or foreign file."""
    path = Path(path)
    state: dict[str, Any] = checkpoint.load(last_checkpoint(path) if path.is_dir() else path)
    trained = parse_config(state["config"], source=str(path))
    config = override_config(trained, overrides)
    classes = tuple(state["classes"])
    model = build_classifier(config, len(classes), pretrained=False)
    restore(model.to(device).eval(), state["model"], source=str(path))
    return Run(model, config, classes, dict(state["metrics"] or {}), trained, state["epoch"], state["step"])


def load_model(
    name: str,
    *,
    weights: str | Path = "imagenet",
    data: str | Path | None = None,
    classes: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    device: torch.device | str = "cpu",
) -> Run:
    """A net that this project has not trained, to be used as a run: explained, evaluated and pictured.

    `name`: a backbone. `weights`: what its row names, such as "imagenet" (downloaded once), or a file. `data`: a folder with
    a folder of images for each class, the root of a set of one's own (`data.name: custom`), or a config (.yaml) whose data
    section is meant; None for a net that only explains files. `classes`: names of its outputs, where they are not
    ImageNet's 1000 nor those of the data. `overrides`: settings of the config, as in `load_run`, such as
    "evaluation.attribution.method=gradcam"; pre-processing is as in `pretrained_config`. Raises ValueError for what does not
    fit.
    """
    config = pretrained_config(name, weights, data_section(data), overrides)
    names = pretrained_classes(config, classes)
    model = build_classifier(config, len(names), pretrained=True).to(device).eval()
    return Run(model, config, names, {}, config, pretrained=True)


def evaluate_checkpoint(
    path: str | Path, split: str, *, overrides: Sequence[str] = (), device: torch.device | str = "cpu"
) -> dict[str, float]:
    """Metrics of a checkpoint on a split, with the IoU threshold that the checkpoint holds. A collective call."""
    return evaluate_in_detail(path, split, overrides=overrides, device=device).metrics


class Evaluation(NamedTuple):
    """What `evaluate_in_detail` returns; the same on every process."""

    metrics: dict[str, float]
    rows: Rows
    source: Source
    config: Config
    settings: dict[str, Any]  # everything that decides the metrics, as plain types
    description: str  # the same for people, in a line

    def table(self) -> per_sample.Table:
        """A row for each (image, class), see `per_sample.tabulate`."""
        return per_sample.tabulate(self.rows, self.source, self.config.data.root, settings=self.settings)


def evaluate_in_detail(
    path: str | Path, split: str, *, overrides: Sequence[str] = (), device: torch.device | str = "cpu", refit: bool = False,
    compiled: bool = False,
) -> Evaluation:  # fmt: skip
    """`evaluate_checkpoint`, with the rows that the metrics were computed from. A collective call."""
    run = load_run(path, overrides=overrides, device=device)
    return evaluate_run(run, split, device=device, refit=refit, compiled=compiled, path=path)


def evaluate_run(
    run: Run, split: str, *, device: torch.device | str = "cpu", refit: bool = False, compiled: bool = False,
    path: str | Path = "the net",
) -> Evaluation:  # fmt: skip
    """Metrics of a run on a split, with the rows that they were computed from. A collective call.

    `refit`: fit the IoU threshold on the validation split, with the settings of this evaluation, instead of taking the
    checkpoint's, which was fitted with those of the run. `compiled`: run the net as torch.compile does; ValueError where it
    cannot. `path`: where the run comes from, for messages.
    """
    if refit:
        run = replace(run, config=refit_threshold(run.config, run.trained))
    log_remark(run.config, run.model)
    net = compiled_for_evaluation(run.config, run.model) if compiled else None
    source = split_of(run, split, path)
    # The training split only tells how large its groups and classes are.
    needed = source.groups or run.config.objective.class_weights == "balanced"
    train = split_of(run, run.config.data.train_split, path) if needed else source

    def evaluator(part: Source) -> Evaluator:
        data = run.config.data
        preflight(part, pixels=False, segmentations=False, on_error=data.on_error, threads=data.num_workers)
        dataset = build_evaluation_dataset(run.config, part)
        return build_evaluator(run.config, dataset, train, torch.device(device), compiled=net)

    with naming_killed_workers("evaluate again"):
        if refit:
            val = split_of(run, run.config.data.val_split, path)
            fraction = run.config.evaluation.threshold_fraction
            threshold = evaluator(val)(run.model)["iou_threshold"]
            origin = f"{describe_fit(val.split, fraction)}, for this"
        else:
            threshold, origin = stored_threshold(run.config, run.trained, run.metrics, path)
        chosen = evaluator(source)
        metrics, rows = chosen.with_rows(run.model, iou_threshold=threshold)
    description = describe_evaluation(run.config, f"{threshold:g} ({origin})") + chosen.without
    return Evaluation(metrics, rows, source, run.config, _settings(run, split, threshold, origin), description)


def split_of(run: Run, split: str, path: str | Path) -> Source:
    """A split whose classes are those of the run, which `path` names in errors; ValueError where they are others."""
    source = build_source(run.config, split)
    if run.pretrained:
        return in_classes(source, run.classes)
    _check_classes(run, source, path)
    return source


def _check_classes(run: Run, source: Source, path: str | Path) -> None:
    """Raise ValueError for a split of other classes; log where they are other names for those of the run by intention."""
    if source.classes == run.classes:
        return
    asked, trained = run.config.data, run.trained.data
    other = [name for name in asked.relabels if getattr(asked, name) != getattr(trained, name, None)]
    if asked.name != trained.name or not other or len(source.classes) != len(run.classes):
        raise ValueError(
            f"{path} was trained on the classes {', '.join(run.classes)}, "
            f"but {source.name} {source.split} has {', '.join(source.classes)}"
        )
    pairs = ", ".join(f"{new} for {old}" for new, old in zip(source.classes, run.classes, strict=True))
    # A guided net has learnt where to look for its own classes.
    level = logging.WARNING if run.trained.guides else logging.INFO
    LOG.log(level, "data.%s is not that of the run: its classes now stand for others (%s)", other[0], pairs)


def _settings(run: Run, split: str, threshold: float, origin: str) -> dict[str, Any]:
    """What decides the metrics. Settings that only decide how fast they come are left out, so that they make no other file."""
    attribution, evaluation = run.config.evaluated_attribution, run.config.evaluation
    free = set(free_on_resume(run.config)) - {"data.root", "data.on_error"}
    flat = flatten(run.config.model_dump(mode="json"))
    config = {k: v for k, v in flat.items() if not any(k == name or k.startswith(f"{name}.") for name in free)}
    config["data.root"] = str(run.config.data.root.resolve())
    return {
        "split": split, "epoch": run.epoch, "step": run.step,
        "attribution": attribution.title, "depth": attribution.depth, "region": evaluation.region,
        "iou_threshold": threshold, "iou_threshold_from": origin, "config": config,
    }  # fmt: skip
