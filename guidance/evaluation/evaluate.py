"""Loader x model -> tables of every sample and every annotated (image, class) pair. One pipeline, whatever the loss was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice

import torch

from guidance import distributed
from guidance.attribution import CompiledNet, Method, Request, check_explainable, explain, needed_classes, one_hot
from guidance.data import EvaluationBatches, Loader
from guidance.evaluation.tables import BatchTables, Scoring, collect
from guidance.models.classifier import Classifier
from guidance.progress import Progress
from guidance.types import COUNTED, Batch


def evaluate(
    model: Classifier,
    loader: Loader[EvaluationBatches],
    *,
    device: torch.device,
    attribution: str | Method,
    depth: str,
    scoring: Scoring,
    max_batches: int | None = None,
    compiled: CompiledNet | None = None,
) -> tuple[list[BatchTables], dict[str, float]]:
    """Score every sample and every annotated pair of a split, once, however many processes share the work.

    `loader` yields this process's share. Returns the tables of all processes, the same on every process, for `rows.merge`;
    and what is not among them: "skipped", faulty samples and annotations, "dropped", annotated pairs without a pixel
    at the evaluated size, and "clipped", boxes that stuck out of their images. The model's mode is restored; its
    statistics and weights are untouched. `compiled`: the same net, to be run in its compiled form.
    """
    check_explainable(model)
    total = len(loader) if max_batches is None else min(max_batches, len(loader))
    bar = Progress(loader.dataset.source.split, total, unit="batch", keep=False, shown=distributed.is_main())
    with bar:
        batches = (batch.to(device) for batch in bar.track(islice(loader, max_batches)))
        return score(model, batches, attribution=attribution, depth=depth, scoring=scoring, compiled=compiled)


def score(
    model: Classifier,
    batches: Iterable[Batch],
    *,
    attribution: str | Method,
    depth: str,
    scoring: Scoring,
    compiled: CompiledNet | None = None,
) -> tuple[list[BatchTables], dict[str, float]]:
    """`evaluate` for any `batches` on the device of the model: this process's share, in which no sample comes twice."""
    parts, counts = [], Counter(dict.fromkeys(COUNTED, 0))
    for batch in batches:
        counts.update({name: getattr(batch, name) for name in COUNTED})
        if len(batch.images):
            parts.append(_tables(model, batch, attribution, depth, scoring, compiled))
    missing = dict(zip(COUNTED, distributed.sum_numbers([counts[name] for name in COUNTED]), strict=True))
    gathered = distributed.gather_objects(parts)
    return [part for parts in gathered for part in parts], missing


def _tables(
    model: Classifier,
    batch: Batch,
    attribution: str | Method,
    depth: str,
    scoring: Scoring,
    compiled: CompiledNet | None,
) -> BatchTables:
    """The tables of one batch: as many backward passes as its busiest image has classes."""
    regions = batch.regions
    seed = one_hot(regions.target, batch.targets.shape[1])
    classes = needed_classes(attribution, batch.targets, regions.image, regions.target)
    request = Request(attribution, depth, regions.image, seed, classes, rounds=regions.rounds)
    maps, out = explain(model, batch.images, request, compiled=compiled)
    return collect(batch, out.logits, maps, out.masks, scoring=scoring)
