"""The model card: what a net was trained on and how, what it reached, and what is not known of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidance.data import Source
from guidance.inference import Run, split_of

if TYPE_CHECKING:  # which needs scipy
    from guidance.export.evaluated import EvaluatedSplit

SHOWN = 50  # classes that are named


def model_card(
    run: Run,
    metadata: Mapping[str, Any],
    differences: Mapping[str, float] | None,
    images: str,
    *,
    evaluated: EvaluatedSplit | None = None,
    picture: Path | None = None,
) -> str:
    """Markdown. `differences`: of the exported file from our net, on `images` (see `checking`).

    `evaluated`: what stands in place of the metrics of the run; `picture`: its images, beside the card.
    """
    metrics = _metrics(run) if evaluated is None else [*evaluated.lines]
    if picture is not None:
        metrics += ["", f"![Typical images, and those of the lowest EPG, with their maps]({picture.name})"]
    sections = {
        "Use": _use(metadata, differences, images),
        "Data": _data(run),
        "Training": _training(run),
        "Metrics": metrics,
        "Limits": _limits(run, evaluated),
    }
    parts = [f"# {metadata['architecture']}, {len(run.classes)} classes"]
    for title, lines in sections.items():
        parts.append(f"## {title}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _use(metadata: Mapping[str, Any], differences: Mapping[str, float] | None, images: str) -> list[str]:
    names = ("format", "input", "resize", "labels", "activation", "decision", "outputs", "guidance", "torch")
    lines = [f"- {name}: {_text(metadata[name])}" for name in names]
    if "maps" in metadata:
        lines.append(f"- maps: {_text(metadata['maps'])}")
    if differences is None:
        return [*lines, "- checked: no; onnxruntime was not installed"]
    found = ", ".join(f"{name} {value:.1e}" for name, value in differences.items())
    return [*lines, f"- checked on {images}: largest difference from the trained net over the largest value: {found}"]


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{name} {_text(x)}" for name, x in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _data(run: Run) -> list[str]:
    data = run.config.data
    lines = [f"- data set: {data.name}"]
    for split in dict.fromkeys((data.train_split, data.val_split, "test")):
        try:
            lines.append(f"- {split}: {_sizes(split_of(run, split, 'the net'))}")
        except (ValueError, OSError):
            lines.append(f"- {split}: not at hand when this card was written")
    more = f" and {len(run.classes) - SHOWN} more" if len(run.classes) > SHOWN else ""
    return [*lines, f"- classes: {', '.join(run.classes[:SHOWN])}{more}"]


def _sizes(source: Source) -> str:
    counts = Counter(record.group for record in source.records)
    groups = ", ".join(f"{name} {counts[i]}" for i, name in enumerate(source.groups))
    return f"{len(source.records)} images" + (f" (groups: {groups})" if groups else "")


def _training(run: Run) -> list[str]:
    config = run.config
    objective, guided = config.objective, config.guides
    if run.pretrained:
        return [f"- net: {config.model.name}, weights {config.model.weights}, not trained by this project"]
    lines = [
        f"- net: {config.model.name}, from weights: {config.model.weights}",
        f"- mode: {objective.mode}; classification loss: {objective.classification}; seed {config.seed}",
        f"- epoch {run.epoch}, step {run.step}; batches of {config.trainer.batch_size} images",
    ]
    for name, weight in config.guiding_weights.items():
        lines.append(f"- {name}: {weight:g}")
    if guided and objective.mode == "guided":
        lines.append(
            f"- guided by: {objective.localization.loss} loss on maps of {objective.attribution.title} at "
            f"{objective.attribution.depth}; regions: {config.data.region} of {config.data.annotated_fraction:g} of the images"
        )
    return lines if guided else [*lines, "- not guided: no region decided anything"]


def _metrics(run: Run) -> list[str]:
    if not run.metrics:
        return ["None: the net has not been evaluated by the run that wrote it."]
    rows = [f"| {name} | {value:.4f} |" for name, value in sorted(run.metrics.items())]
    return ["On the validation split, when the checkpoint was written:", "", "| metric | value |", "|---|---|", *rows]


def _limits(run: Run, evaluated: EvaluatedSplit | None) -> list[str]:
    settings = run.config.evaluated_attribution
    lines = ["- images of other sources, other resolutions and other classes than those above were not evaluated"]
    if evaluated is not None:
        lines.append("- intervals are over the images of the split, not over other trainings of the same net")
    if run.metrics and (evaluated is None or evaluated.split == run.config.data.val_split):
        lines.append(
            "- the validation split chose the checkpoint, so its metrics are too high; --evaluate takes another"
        )
    if run.metrics:
        lines.append("- the metrics are of one run" + (", without intervals" if evaluated is None else ""))
    if run.metrics and not any("group" in name for name in run.metrics):
        lines.append("- no metric is by group: how the net does where class and surroundings disagree is not known")
    return [*lines, f"- maps were only looked at by {settings.title} at {settings.depth}, if at all"]
