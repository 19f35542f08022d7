"""Config -> what evaluates a model on a split."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from guidance import distributed
from guidance.assembly.compiling import compiled_beside_training
from guidance.assembly.nets import build_attribution
from guidance.assembly.objectives import build_classification, build_localization
from guidance.assembly.sets import as_dilated, build_evaluation_dataset, encoding
from guidance.assembly.threshold import describe_evaluation, threshold_images
from guidance.attribution import ATTRIBUTIONS, CompiledNet
from guidance.config import Config
from guidance.data import EvaluationBatches, GuidanceDataset, Loader, Source
from guidance.evaluation.classification import per_class
from guidance.evaluation.evaluate import evaluate
from guidance.evaluation.localization import describe_fit, fit_iou_threshold
from guidance.evaluation.metrics import METRICS, summarize
from guidance.evaluation.rows import Rows, RowSettings, merge
from guidance.evaluation.scores import IOU_THRESHOLDS, all_scores
from guidance.evaluation.statistics import mean
from guidance.evaluation.tables import Scoring
from guidance.models import Classifier
from guidance.objectives import Classification
from guidance.pictures.probe import Probe
from guidance.runs.logs import Loggers

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluator:
    """Evaluates a model on one split; a collective call with the same result on every process."""

    config: Config
    loader: Loader[EvaluationBatches]
    source: Source
    training_groups: tuple[int, ...]  # training images of each group, for the adjusted accuracy
    classification: Classification
    device: torch.device
    max_batches: int | None = None
    # Positions of the images on which the IoU threshold is fitted and no metric is computed; see `threshold_images`.
    apart: frozenset[int] = frozenset()
    compiled: CompiledNet | None = None  # the evaluated net

    def __call__(self, model: Classifier, *, iou_threshold: float | None = None) -> dict[str, float]:
        """The metrics. IoU uses `iou_threshold`, else the config's; "fit" takes the best on the images `apart`, or on all."""
        return self.with_rows(model, iou_threshold=iou_threshold)[0]

    def with_rows(self, model: Classifier, *, iou_threshold: float | None = None) -> tuple[dict[str, float], Rows]:
        """The metrics, and the rows that they were computed from: those of the whole split, but for the images `apart`."""
        wanted = self.config.evaluation.iou_threshold if iou_threshold is None else iou_threshold
        thresholds = IOU_THRESHOLDS if wanted == "fit" else (float(wanted),)
        method, depth = build_attribution(self.config)
        tables, missing = evaluate(
            model, self.loader, device=self.device, attribution=method, depth=depth, scoring=self._scoring(thresholds),
            max_batches=self.max_batches, compiled=self.compiled,
        )  # fmt: skip
        rows = merge(tables, RowSettings(
            thresholds=thresholds, iou_threshold=0.5 if wanted == "fit" else float(wanted),
            single_label=self.source.single_label,
            decision="argmax" if self.config.objective.exclusive else "threshold",
            group_names=self.source.groups, training_groups=self.training_groups, fixed_group=self.source.fixed_group,
        ))  # fmt: skip
        fitting = rows
        if self.apart:
            apart = torch.isin(rows.index, torch.tensor(sorted(self.apart)))
            fitting, rows = rows.of_samples(apart), rows.of_samples(~apart)
        if wanted == "fit":
            rows = rows.at(fit_iou_threshold(fitting))
        missing["skipped"] += self.source.skipped
        found = summarize(rows) | self._losses(rows) | {"iou_threshold": rows.settings.iou_threshold} | missing
        return found | per_class(rows, self.source.classes), rows

    @property
    def without(self) -> str:
        """What is left out, for people; empty where nothing is."""
        if not self.apart:
            return ""
        total = len(self.source.records)
        return f", on {total - len(self.apart)} of {total} images ({len(self.apart)} are set apart for the threshold)"

    def _scoring(self, thresholds: tuple[float, ...]) -> Scoring:
        choices = self.config.evaluation
        blurred = choices.pixel_map == "blurred"
        every = partial(all_scores, threshold=choices.pixel_threshold, sigma=choices.blur, blurred_pixels=blurred)
        return Scoring(thresholds, every if choices.scores == "all" else None, evaluated_localization(self.config))

    def _losses(self, rows: Rows) -> dict[str, float]:
        """The unweighted terms of the training loss, under the names that they have there."""
        weights = self.classification.weights
        losses = self.classification.per_image(
            rows.logits, rows.targets.double(), None if weights is None else weights.double()
        )
        found = {"classification": mean(losses.tolist())}
        return found | (
            {"localization": mean(rows.more["localization"].tolist())} if "localization" in rows.more else {}
        )


def evaluated_localization(config: Config) -> Callable[[Tensor, Tensor], Tensor] | None:
    """The localisation loss of the run, where the maps that evaluation makes are those that are guided."""
    guided = config.objective.localization.weight > 0
    return (
        build_localization(config) if guided and config.evaluated_attribution == config.objective.attribution else None
    )


def build_evaluator(
    config: Config, dataset: GuidanceDataset, train: Source, device: torch.device, *, max_batches: int | None = None,
    compiled: CompiledNet | None = None,
) -> Evaluator:  # fmt: skip
    """The evaluator of one split; `train` gives the sizes of its groups and classes. `compiled`: the net, to be run so."""
    batches = EvaluationBatches(
        len(dataset), config.evaluation.batch_size, rank=distributed.rank(), world_size=distributed.world_size()
    )
    loader = Loader(dataset, batches, num_workers=config.data.num_workers, pin_memory=device.type == "cuda")
    classification = build_classification(config, train)
    return Evaluator(
        config, loader, dataset.source, group_counts(train), classification, device, max_batches,
        apart=threshold_images(config, dataset.source), compiled=compiled,
    )  # fmt: skip


def log_remark(config: Config, model: Classifier) -> None:
    """Say what the method that evaluation uses means for this net, where that differs between nets."""
    name = config.evaluated_attribution.method
    remark = ATTRIBUTIONS[name].remark
    if remark is not None:
        LOG.info("%s: %s", name, remark(model))


def group_counts(source: Source) -> tuple[int, ...]:
    """Number of images of each group."""
    counts = Counter(record.group for record in source.records)
    return tuple(counts[g] for g in range(len(source.groups)))


def check_selection(config: Config, val: Source) -> None:
    """Raise ValueError for a selection that this validation split cannot serve, before anything is written."""
    evaluation, wanted = config.evaluation, [*config.pareto.metrics]
    if evaluation.threshold_fraction > 0 and evaluation.iou_threshold != "fit":
        raise ValueError(
            f"evaluation.threshold_fraction {evaluation.threshold_fraction:g} sets images apart for a threshold that is not "
            f"fitted (evaluation.iou_threshold: {evaluation.iou_threshold:g}); set one to 0, or the other to fit"
        )
    apart = threshold_images(config, val)
    if config.trainer.early_stop is not None:
        wanted.append(config.trainer.early_stop.metric)
    fixed = [name for name in wanted if "fixed group" in METRICS[name].needs]
    groups = {record.group for i, record in enumerate(val.records) if i not in apart}
    if fixed and val.fixed_group not in groups:
        group = val.groups[val.fixed_group or 0]
        raise ValueError(
            f"{fixed[0]} selects, but {val.name} {val.split} has no image of {group} here; use another metric, or a validation "
            "split that has them"
        )


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
    compiled = compiled_beside_training(config, model)
    evaluator = build_evaluator(config, dataset, train, device, max_batches=max_batches, compiled=compiled)
    log_remark(config, model)
    wanted, fraction = config.evaluation.iou_threshold, config.evaluation.threshold_fraction
    threshold = f"{describe_fit(val.split, fraction)}, after each epoch" if wanted == "fit" else f"{wanted:g}"
    LOG.info("validation: %s%s", describe_evaluation(config, threshold), evaluator.without)
    method, depth = build_attribution(config)
    title = method.title or config.evaluated_attribution.method
    count = config.log.probe_images if config.log.tensorboard and distributed.is_main() else 0
    probe = Probe.choose(dataset, count, encoding=encoding(config), trained=as_dilated(config, dataset))

    def evaluation(step: int) -> dict[str, float]:
        metrics = evaluator(model)
        if probe is not None:
            maps = probe.maps(model, attribution=method, depth=depth, device=device)
            log.image(step, "probe", probe.picture({f"{title} at {depth}": maps}))
            masks = probe.masks(model, device=device)
            if masks:
                log.image(step, "masks", probe.mask_picture(masks))
        return metrics

    return evaluation
