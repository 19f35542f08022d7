"""Config -> what evaluates a model on a split."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch.utils.data import DataLoader

from guidance import checkpoint, distributed
from guidance.attribution.guided import guided_rule
from guidance.build.parts import build_attribution, evaluation_attribution
from guidance.build.sets import build_evaluation_dataset, encoding
from guidance.config import Config
from guidance.data import (
    EvaluationBatches,
    GuidanceDataset,
    Source,
    build_loader,
)
from guidance.evaluation import evaluate
from guidance.logs import Loggers
from guidance.metrics import IOU_THRESHOLDS, Rows, all_scores, collect, fit_iou_threshold, summarize
from guidance.models import Classifier
from guidance.probe import Probe
from guidance.types import Batch

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluator:
    """Evaluates a model on one split; a collective call with the same result on every process."""

    config: Config
    loader: DataLoader[Batch]
    source: Source
    training_groups: tuple[int, ...]  # training images of each group, for the adjusted accuracy
    device: torch.device
    max_batches: int | None = None

    def __call__(self, model: Classifier, *, iou_threshold: float | None = None) -> dict[str, float]:
        """The metrics. IoU uses `iou_threshold`, else the config's; "fit" takes the best on this split."""
        return self.with_rows(model, iou_threshold=iou_threshold)[0]

    def with_rows(self, model: Classifier, *, iou_threshold: float | None = None) -> tuple[dict[str, float], Rows]:
        """The metrics, and the rows of the whole split that they were computed from."""
        choices = self.config.evaluation
        wanted = iou_threshold if iou_threshold is not None else choices.iou_threshold
        method, depth = build_attribution(self.config)
        settings = partial(
            collect,
            thresholds=IOU_THRESHOLDS if wanted == "fit" else (float(wanted),),
            iou_threshold=0.5 if wanted == "fit" else float(wanted),
            single_label=self.source.single_label,
            decision="argmax" if self.config.objective.classification == "cross_entropy" else "threshold",
            group_names=self.source.groups,
            training_groups=self.training_groups,
            more=partial(all_scores, threshold=choices.pixel_threshold, sigma=choices.blur)
            if choices.scores == "all" else None,
        )  # fmt: skip
        rows, missing = evaluate(
            model, self.loader, device=self.device, attribution=method, depth=depth, collect=settings,
            max_batches=self.max_batches, description=self.source.split,
        )  # fmt: skip
        threshold = fit_iou_threshold(rows) if wanted == "fit" else float(wanted)
        missing["skipped"] += self.source.skipped
        rows = replace(rows, iou_threshold=threshold)
        return summarize(rows) | {"iou_threshold": threshold} | missing, rows


def build_evaluator(
    config: Config, dataset: GuidanceDataset, train: Source, device: torch.device, *, max_batches: int | None = None
) -> Evaluator:
    """The evaluator of one split; `train` gives the group sizes for the adjusted accuracy."""
    batches = EvaluationBatches(
        len(dataset), config.evaluation.batch_size, rank=distributed.rank(), world_size=distributed.world_size()
    )
    loader = build_loader(dataset, batches, num_workers=config.data.num_workers, pin_memory=device.type == "cuda")
    return Evaluator(config, loader, dataset.source, group_counts(train), device, max_batches)


def log_guided_rule(config: Config, model: Classifier) -> None:
    """Say what Guided Backprop means for this net, where it is what evaluation uses."""
    method = evaluation_attribution(config).method
    if method.startswith("guided_"):
        LOG.info("%s: gradients are clamped at %s", method, guided_rule(model))


def group_counts(source: Source) -> tuple[int, ...]:
    """Number of images of each group."""
    counts = Counter(record.group for record in source.records)
    return tuple(counts[g] for g in range(len(source.groups)))


def build_epoch_evaluation(
    config: Config,
    model: Classifier,
    train: Source,
    val: Source,
    device: torch.device,
    log: Loggers,
    *,
    max_batches: int | None = None,
) -> Callable[[int], dict[str, float]]:
    """What the trainer calls after each epoch: validation metrics, and pictures of the probe set in the log."""
    dataset = build_evaluation_dataset(config, val)
    evaluator = build_evaluator(config, dataset, train, device, max_batches=max_batches)
    log_guided_rule(config, model)
    method, depth = build_attribution(config)
    name = evaluation_attribution(config).method
    count = config.log.probe_images if config.log.tensorboard and distributed.is_main() else 0
    probe = Probe.choose(dataset, count, encoding=encoding(config))
    flat = checkpoint.flatten(config.model_dump(mode="json"))

    def evaluation(step: int) -> dict[str, float]:
        metrics = evaluator(model)
        if probe is not None:
            maps = probe.maps(model, attribution=method, depth=depth, device=device)
            log.image(step, "probe", probe.picture({f"{name} at {depth}": maps}))
            masks = probe.masks(model, device=device)
            if masks:
                log.image(step, "masks", probe.mask_picture(masks))
        log.hparams(flat, {name: metrics[name] for name in config.pareto.metrics})
        return metrics

    return evaluation
