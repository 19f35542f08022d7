"""What an evaluation adds to a model card: metrics with intervals, and images with maps."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from guidance.api.explaining import explain
from guidance.assembly import build_evaluation_dataset
from guidance.evaluation.rows import Rows
from guidance.evaluation.significance import Interval, accuracy_intervals, mean_interval
from guidance.inference import Evaluation, Run, evaluate_run
from guidance.pictures.panels import panel
from guidance.results.samples import by_image
from guidance.runs.logs import Image

SHOWN = 3  # images of each kind


@dataclass(frozen=True)
class EvaluatedSplit:
    """A split, as a card shows it."""

    split: str
    lines: tuple[str, ...]  # of Markdown
    picture: Image | None  # [height, width, 3] uint8; None where no pair of image and class has a known place


def evaluate_for_card(run: Run, split: str) -> EvaluatedSplit:
    """Metrics of a split with 95 % intervals, and its typical and its worst images with their maps.

    Intervals of accuracies are Wilson's; those of EPG and IoU are percentiles of bootstrap means over images, each with the
    mean of its classes. Typical images have an EPG near the median, the worst the lowest. Raises ValueError for a split that
    there is not.
    """
    found = evaluate_run(run, split)
    intervals = {name: Interval(share.low, share.high) for name, share in accuracy_intervals(found.rows).items()}
    intervals |= located_intervals(found.rows)
    rows = [
        f"| {name} | {value:.4f} | {'' if name not in intervals else '{:.4f} to {:.4f}'.format(*intervals[name])} |"
        for name, value in sorted(found.metrics.items())
    ]
    lines = [f"On the split {split}, {len(found.rows.index)} images ({found.description}):", ""]
    lines += ["| metric | value | 95 % interval |", "|---|---|---|", *rows]
    return EvaluatedSplit(split, tuple(lines), _picture(run, found))


def located_intervals(rows: Rows) -> dict[str, Interval]:
    """Of the means of "epg" and "iou" over images, each with the mean of its located classes."""
    located = rows.located
    columns = (rows.region_index[located].tolist(), rows.region_target[located].tolist())
    pairs = [(str(image), str(target)) for image, target in zip(*columns, strict=True)]
    found: dict[str, Interval] = {}
    for name, values in (("epg", rows.epg), ("iou", rows.iou_column())):
        means = by_image(dict(zip(pairs, values[located].tolist(), strict=True)))
        if means:
            found[name] = mean_interval([*means.values()])
    return found


def _picture(run: Run, found: Evaluation) -> Image | None:
    """Two kinds of rows: images near the median EPG, and those with the lowest."""
    pairs = found.rows.located.nonzero()[:, 0]
    if not len(pairs):
        return None
    order = pairs[found.rows.epg[pairs].argsort(stable=True)].tolist()
    middle = max(0, len(order) // 2 - SHOWN // 2)
    typical, worst = order[middle : middle + SHOWN], order[:SHOWN]
    chosen = [("typical", pair) for pair in typical] + [("worst", pair) for pair in worst]
    dataset = build_evaluation_dataset(run.config, found.source)
    indices = [int(found.rows.region_index[pair]) for _, pair in chosen]
    targets = torch.stack([found.rows.region_target[pair] for _, pair in chosen])
    samples = [dataset[0, index] for index in indices]
    masks = [sample.masks[sample.classes == target].any(0) for sample, target in zip(samples, targets, strict=True)]
    explained = explain(run, [found.source.records[index].path for index in indices], targets)
    assert explained.shown is not None  # a run takes pictures
    title = run.config.evaluated_attribution.title
    names = [f"{kind}: {run.classes[target]}" for (kind, _), target in zip(chosen, targets.tolist(), strict=True)]
    captions = {title: [f"EPG {float(found.rows.epg[pair]):.2f}" for _, pair in chosen]}
    return panel(explained.shown, {title: explained.maps}, torch.stack(masks), captions, names=names)
