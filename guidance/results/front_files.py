"""A front over several runs as files: JSON, CSV and a picture."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guidance.pictures.plots import plot_front
from guidance.results.fronts import Member, MergedFront
from guidance.results.reading import read_settings
from guidance.runs.files import finite, plain

JSON, CSV, PNG = FRONT_FILES = ("front.json", "front.csv", "front.png")
NESTED = ("settings", "metrics", "evaluated", "evaluated_with")  # tables in a line of the JSON


def write_front(output: Path, front: MergedFront) -> None:
    """front.json (everything), front.csv (a line per checkpoint) and front.png (each pair of metrics)."""
    output.mkdir(parents=True, exist_ok=True)
    settings = read_settings(front.runs)
    records = [_record(member, settings[member.run]) for member in front.members]
    others = [
        _record(Member(run, saved, False, {}, {}), settings[run]) | {"front": False}
        for run, checkpoints in front.runs.items()
        for saved in checkpoints
        if not any(member.saved is saved for member in front.members)
    ]
    content = {
        "metrics": list(front.metrics), "resolution": front.resolution, "hypervolume": finite(front.volume),
        "reference": dict(zip(front.bounded, front.reference, strict=True)),
        "checkpoints": {run: len(checkpoints) for run, checkpoints in front.runs.items()},
        "members": records, "others": others,
    }  # fmt: skip
    (output / JSON).write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    _write_csv(output / CSV, [*records, *others])
    candidates = {run: [saved.candidate for saved in checkpoints] for run, checkpoints in front.runs.items()}
    members = [(member.run, member.saved.candidate.name) for member in front.members]
    ringed = front.knee.run, front.knee.saved.candidate.name
    plot_front(candidates, members, front.metrics, knee=ringed).savefig(output / PNG, dpi=200)


def _record(member: Member, settings: Mapping[str, Any]) -> dict[str, Any]:
    saved = member.saved
    return {
        "run": member.run, "checkpoint": saved.candidate.name, "path": str(saved.path), "epoch": saved.epoch,
        "step": saved.step, "front": True, "knee": member.is_knee, "settings": dict(settings),
        "metrics": plain(saved.candidate.values), "evaluated": plain(member.evaluated),
        "evaluated_with": dict(member.evaluated_with),
    }  # fmt: skip


def _write_csv(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    flat = [
        {name: value for name, value in record.items() if name not in NESTED}
        | record["settings"] | record["metrics"] | record["evaluated"]
        for record in records
    ]  # fmt: skip
    columns = list(dict.fromkeys(name for record in flat for name in record))
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(flat)
