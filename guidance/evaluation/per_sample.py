"""One row for each (image, class) of an evaluated split, as CSV: what happened to this image, and to compare two runs."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from guidance.data import Source
from guidance.evaluation.localization import SCORES
from guidance.evaluation.rows import Rows
from guidance.regions import KINDS

Cell = str | int | float | None
Table = list[dict[str, Cell]]

SETTINGS = ("split", "attribution", "depth", "iou_threshold", "iou_threshold_from")
COLUMNS = ("image", "index", "class", "target", "logit", "predicted", "group", "region", *SCORES, *SETTINGS)


def tabulate(rows: Rows, source: Source, root: Path, *, settings: Mapping[str, Any] | None = None) -> Table:
    """A row for each positive class and each explained class of each sample, ordered by (index, class).

    `image` is relative to `root` where the image lies below it. `index` is the position in the split, `target` whether the
    class is a label of the image, `predicted` whether the net decides for it (see `Rows.decisions`), `group` the name
    of the group or empty, `region` where the mask comes from ("box", "segment" or "never"), `area` its share of the pixels.
    Region and scores are empty for a class that was not explained, and a score where it is undefined or was not asked for.
    Each row ends with what of the `settings` of the evaluation decides the scores (`SETTINGS`).
    """
    images = [_relative(record.path, root) for record in source.records]
    return tabulate_as(rows, images.__getitem__, source.classes, source.groups, settings=settings)


def tabulate_as(
    rows: Rows,
    name: Callable[[int], str],
    classes: Sequence[str],
    groups: Sequence[str],
    *,
    settings: Mapping[str, Any] | None = None,
) -> Table:
    """`tabulate` for images that have a `name` by their index, and these names of classes and groups."""
    shown: dict[str, Cell] = {setting: (settings or {}).get(setting) for setting in SETTINGS}
    decided = rows.decisions()
    scores = {key: (score.values(rows).tolist(), score.defined(rows).tolist()) for key, score in SCORES.items()}
    pairs = {
        pair: r for r, pair in enumerate(zip(rows.region_index.tolist(), rows.region_target.tolist(), strict=True))
    }
    explained: dict[int, set[int]] = {}
    for index, target in pairs:
        explained.setdefault(index, set()).add(target)
    table: Table = []
    for n, index in enumerate(rows.index.tolist()):
        positive = torch.nonzero(rows.targets[n]).flatten().tolist()
        for target in sorted({*positive, *explained.get(index, ())}):
            group = int(rows.groups[n])
            row: dict[str, Cell] = {
                "image": name(index),
                "index": index,
                "class": classes[target],
                "target": int(rows.targets[n, target]),
                "logit": float(rows.logits[n, target]),
                "predicted": int(decided[n, target]),
                "group": groups[group] if 0 <= group < len(groups) else None,
            }
            pair = pairs.get((index, target))
            row["region"] = KINDS[int(rows.kind[pair])] if pair is not None else None
            for score, (values, defined) in scores.items():
                row[score] = values[pair] if pair is not None and defined[pair] else None
            table.append(row | shown)
    return table


def write_table(path: Path, table: Table) -> None:
    """Write `tabulate`'s rows as CSV with a header; floats so that they are read back exactly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)


def _relative(path: Path, root: Path) -> str:
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
