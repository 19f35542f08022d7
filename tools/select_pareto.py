"""Merge the checkpoints of several runs into one Pareto front.

    python tools/select_pareto.py runs/baseline runs/energy [--evaluate test]

Each DIR is the folder of a run (its `checkpoints/pareto/` is read), or a folder of checkpoints (`*.pt`). Metrics and
resolution are those of the runs' own configs unless they are given here. A table goes to the screen; `front.json`,
`front.csv` and `front.png` go to --output: by default the closest folder that holds all DIRs (DIR itself if there is
only one, the first if they have nothing in common). The knee is the member nearest to the ideal point after each metric
is scaled to [0, 1] over the front; the hypervolume is measured from 0 in every metric. A metric that is better lower, such
as never_energy, counts as 1 less its value.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from guidance import distributed
from guidance.evaluation.metrics import metric_of
from guidance.pictures.plots import plot_front
from guidance.results.files import plain
from guidance.runs.checkpoint import Saved, flatten, read_candidates, similar
from guidance.runs.logs import report_error
from guidance.runs.pareto import ParetoFront, hypervolume, knee, non_dominated

OUTPUTS = ("front.json", "front.csv", "front.png")
METRICS, RESOLUTION = ["f1", "epg", "iou"], 0.005  # where the configs do not say
# What a line of front.csv says of its run, whether or not the runs differ in it.
SETTINGS = (
    "seed", "data.name", "model.name", "objective.mode", "objective.localization.loss", "objective.localization.weight",
    "objective.attribution.method", "objective.attribution.depth",
)  # fmt: skip


class Member(NamedTuple):
    """A checkpoint of the merged front."""

    run: str
    saved: Saved
    is_knee: bool
    evaluated: Mapping[str, float]  # "test_f1": 0.8, ...; empty unless evaluated
    evaluated_with: Mapping[str, Any]  # the settings of that evaluation


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parse(arguments)
    try:
        select(args.folders, args.metrics, args.resolution, args.output, args.evaluate, args.set)
    except (ValueError, OSError) as error:
        return report_error(error)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    about, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        description=about, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", metavar="DIR", nargs="+", type=Path, help="run, or folder of checkpoints")
    parser.add_argument(
        "--metrics", nargs="+", action="extend", metavar="NAME", help="default: those of the runs' configs"
    )
    parser.add_argument("--resolution", type=float, help="values are rounded to multiples of it before comparing")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where front.json, front.csv and front.png go")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="A.B=VALUE",
        help="change config values to evaluate with",
    )
    parser.add_argument("--evaluate", metavar="SPLIT", help="also evaluate every member on this split, such as test")
    return parser.parse_args(arguments)


def select(
    folders: Sequence[Path],
    metrics: Sequence[str] | None = None,
    resolution: float | None = None,
    output: Path | None = None,
    evaluate: str | None = None,
    overrides: Sequence[str] = (),
) -> list[Member]:
    """Do what the command does; returns the members, best first in the first metric."""
    # `runs/*` also names what this command wrote there before.
    folders = [folder for folder in folders if folder.name not in OUTPUTS]
    runs = read_runs(folders)
    metrics = defined(list(metrics or _from_configs(runs, "metrics", METRICS)), runs)
    resolution = float(_from_configs(runs, "resolution", RESOLUTION) if resolution is None else resolution)
    members = merge(runs, metrics, resolution)
    output = output or _common_folder(folders)
    volume = _volume(members, metrics)
    write(output, runs, members, metrics, resolution, volume)
    if evaluate is not None:
        members = evaluate_members(members, evaluate, overrides)
        write(output, runs, members, metrics, resolution, volume)
    print(table(members, metrics, evaluate))
    print(f"\n{len(members)} of {sum(map(len, runs.values()))} checkpoints are on the front; * marks the knee")
    lower = [metric for metric in metrics if metric_of(metric).higher_is_better is False]
    turned = f" (of {', '.join(lower)}, which {'is' if len(lower) == 1 else 'are'} better lower, 1 less the value)"
    print(f"hypervolume over {', '.join(metrics)} from 0{turned if lower else ''}: {volume:.4f}")
    print(f"written: {', '.join(str(output / name) for name in OUTPUTS)}")
    return members


def read_runs(folders: Sequence[Path]) -> dict[str, list[Saved]]:
    """Name of each run -> its checkpoints; a folder that is given twice counts once. ValueError if one has none."""
    if not folders:
        raise ValueError("no folder is given; give one run or more, such as runs/NAME")
    places: dict[Path, Path] = {}
    for folder in folders:
        place = _checkpoints(folder)
        run = place.parent.parent if (place.parent.name, place.name) == ("checkpoints", "pareto") else place
        places.setdefault(place.resolve(), run.resolve())
    common = Path(os.path.commonpath([*places.values()])) if len(places) > 1 else next(iter(places.values())).parent
    return {
        run.relative_to(common).as_posix() if run != common else run.name: read_candidates(place)
        for place, run in places.items()
    }


def _checkpoints(folder: Path) -> Path:
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; give the folder of a run, such as runs/NAME{similar(folder)}")
    looked = [folder / "checkpoints" / "pareto", folder / "pareto", folder]
    for place in looked:
        if any(place.glob("*.pt")):
            return place
    raise ValueError(f"{folder} has no checkpoints; looked for " + ", ".join(f"{place}/*.pt" for place in looked))


def _from_configs(runs: Mapping[str, Sequence[Saved]], key: str, default: Any) -> Any:
    """What the configs of all runs say about the front; ValueError if they differ."""
    values = {}
    for run, saved in runs.items():
        section = saved[0].config.get("pareto", {})
        value = section.get(key, default) if isinstance(section, Mapping) else section
        # A list of names, or a number.
        if type(value) not in ((list,) if key == "metrics" else (int, float)) or (
            isinstance(value, list) and not all(isinstance(name, str) for name in value)
        ):
            raise ValueError(f"run {run}: pareto.{key} of its config is {value!r}; choose with --{key}")
        values[run] = value
    first = next(iter(values.values()))
    if any(value != first for value in values.values()):
        listed = "; ".join(f"{run}: {value}" for run, value in values.items())
        raise ValueError(f"the configs of the runs differ in pareto.{key} ({listed}); choose with --{key}")
    return first


def defined(metrics: Sequence[str], runs: Mapping[str, Sequence[Saved]]) -> list[str]:
    """The metrics that any checkpoint has a value of; says which are left out. ValueError if none is left."""
    values = [saved.candidate.values for checkpoints in runs.values() for saved in checkpoints]
    empty = [m for m in metrics if all(m in found and math.isnan(found[m]) for found in values)]
    if len(empty) == len(metrics):
        raise ValueError(
            f"no checkpoint has a value of {', '.join(metrics)}, so there is no front; choose others with --metrics"
        )
    if empty:
        hint = (
            "; EPG and IoU need images with a region of the kind evaluation.region"
            if any("regions" in metric_of(m).needs for m in empty)
            else ""
        )
        print(f"without {', '.join(empty)}: no checkpoint has a value{hint}", file=sys.stderr)
    return [metric for metric in metrics if metric not in empty]


def merge(runs: Mapping[str, Sequence[Saved]], metrics: Sequence[str], resolution: float) -> list[Member]:
    """The members of one front over all runs, best first in the first metric."""
    row = ParetoFront(metrics, resolution=resolution).row
    pool = [(run, saved) for run, checkpoints in runs.items() for saved in checkpoints]
    points = []
    for run, saved in pool:
        try:
            points.append(row(saved.candidate))
        except ValueError as error:
            raise ValueError(f"run {run}: {error} Choose among them with --metrics.") from error
    front = sorted(non_dominated(points, resolution), key=lambda i: _descending(points[i]))
    balanced = knee([points[i] for i in front])
    return [
        Member(*pool[i], is_knee=place == balanced, evaluated={}, evaluated_with={}) for place, i in enumerate(front)
    ]


def _descending(point: Sequence[float]) -> list[float]:
    return [math.inf if math.isnan(value) else -value for value in point]


def _volume(members: Sequence[Member], metrics: Sequence[str]) -> float:
    points = [ParetoFront(metrics).row(member.saved.candidate) for member in members]
    return hypervolume(points, [0.0] * len(metrics))


def _common_folder(folders: Sequence[Path]) -> Path:
    if len({folder.resolve() for folder in folders}) == 1:
        return folders[0]
    common = Path(os.path.commonpath([folder.resolve() for folder in folders]))
    if common == Path(common.anchor):
        return folders[0]
    return Path(os.path.relpath(common)) if common.is_relative_to(Path.cwd()) else common


def evaluate_members(members: Sequence[Member], split: str, overrides: Sequence[str] = ()) -> list[Member]:
    """Evaluate every member on a split: its metrics are added as `<split>_<metric>`."""
    # Not above: merging runs should not need the data sets and nets.
    from guidance.inference import evaluate_in_detail

    done = []
    with distributed.process_group() as device:
        for number, member in enumerate(members, start=1):
            print(f"evaluating {number} of {len(members)} on {split}: {member.saved.path}", flush=True)
            found = evaluate_in_detail(member.saved.path, split, overrides=overrides, device=device)
            print(f"  {found.description}", flush=True)
            values = {f"{split}_{name}": float(value) for name, value in found.metrics.items()}
            done.append(member._replace(evaluated=values, evaluated_with=found.settings))
    return done


def table(members: Sequence[Member], metrics: Sequence[str], split: str | None = None) -> str:
    """The front as aligned text, with the metrics of the front on the split if its members were evaluated there."""
    evaluated = list(dict.fromkeys(name for member in members for name in member.evaluated))
    shown = [name for name in evaluated if name in {f"{split}_{metric}" for metric in metrics}] or evaluated
    rows = [["", "run", "checkpoint", "epoch", *metrics, *shown]]
    for member in members:
        values = [member.saved.candidate.values[metric] for metric in metrics]
        values += [member.evaluated.get(name, math.nan) for name in shown]
        name, epoch = member.saved.candidate.name, str(member.saved.epoch)
        rows.append(["*" if member.is_knee else "", member.run, name, epoch, *(f"{value:.4f}" for value in values)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        texts = [text.ljust(width) for text, width in zip(row[:3], widths, strict=False)]
        numbers = [text.rjust(width) for text, width in zip(row[3:], widths[3:], strict=True)]
        lines.append("  ".join([*texts, *numbers]))
    return "\n".join(lines)


def write(
    output: Path,
    runs: Mapping[str, Sequence[Saved]],
    members: Sequence[Member],
    metrics: Sequence[str],
    resolution: float,
    volume: float,
) -> None:
    """front.json (everything), front.csv (a line per checkpoint) and front.png (each pair of metrics)."""
    output.mkdir(parents=True, exist_ok=True)
    settings = read_settings(runs)
    records = [_record(member, settings[member.run]) for member in members]
    others = [
        _record(Member(run, saved, False, {}, {}), settings[run]) | {"front": False}
        for run, checkpoints in runs.items()
        for saved in checkpoints
        if not any(member.saved is saved for member in members)
    ]
    content = {
        "metrics": list(metrics), "resolution": resolution, "hypervolume": volume, "reference": [0.0] * len(metrics),
        "checkpoints": {run: len(checkpoints) for run, checkpoints in runs.items()}, "members": records, "others": others,
    }  # fmt: skip
    (output / "front.json").write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    nested = ("settings", "metrics", "evaluated", "evaluated_with")
    flat = [
        {name: value for name, value in record.items() if name not in nested}
        | record["settings"] | record["metrics"] | record["evaluated"]
        for record in [*records, *others]
    ]  # fmt: skip
    columns = list(dict.fromkeys(name for record in flat for name in record))
    with open(output / "front.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(flat)
    candidates = {run: [saved.candidate for saved in checkpoints] for run, checkpoints in runs.items()}
    front = [(member.run, member.saved.candidate.name) for member in members]
    ringed = next((member.run, member.saved.candidate.name) for member in members if member.is_knee)
    plot_front(candidates, front, metrics, knee=ringed).savefig(output / "front.png", dpi=200)


def read_settings(runs: Mapping[str, Sequence[Saved]]) -> dict[str, dict[str, Any]]:
    """What tells the runs apart: `SETTINGS`, and every other setting that is not the same in all of them."""
    configs = {run: flatten(saved[0].config) for run, saved in runs.items()}
    every = dict.fromkeys(name for config in configs.values() for name in config)
    values = {name: [config.get(name) for config in configs.values()] for name in every}
    varying = [name for name, found in values.items() if any(value != found[0] for value in found)]
    shown = [name for name in dict.fromkeys((*SETTINGS, *varying)) if name in every]
    return {run: {name: config.get(name) for name in shown} for run, config in configs.items()}


def _record(member: Member, settings: Mapping[str, Any]) -> dict[str, Any]:
    saved = member.saved
    return {
        "run": member.run, "checkpoint": saved.candidate.name, "path": str(saved.path), "epoch": saved.epoch,
        "step": saved.step, "front": True, "knee": member.is_knee, "settings": dict(settings),
        "metrics": plain(saved.candidate.values), "evaluated": plain(member.evaluated),
        "evaluated_with": dict(member.evaluated_with),
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
