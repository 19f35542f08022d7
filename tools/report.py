"""Compare runs on a split: one table of metrics, and a picture of the same images with each run's attribution maps.

    python tools/report.py runs/demo_unguided runs/demo_guided --split test --output runs/demo

A run folder stands for its last checkpoint; checkpoints can be named too. Writes report.json and maps.png.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from guidance.assembly import build_attribution, build_evaluation_dataset, build_source
from guidance.inference import evaluate_in_detail, load_run
from guidance.models import BACKBONES
from guidance.pictures.panels import write_png
from guidance.pictures.probe import Probe
from guidance.results.files import plain
from guidance.runs.logs import Image, report_error

COLUMNS = ("worst_group_accuracy", "accuracy", "f1", "map", "epg", "epg_chance", "iou")


def table(results: Mapping[str, Mapping[str, float]]) -> str:
    """One line per run, one column per metric that any run has."""
    names = [name for name in COLUMNS if not all(math.isnan(r[name]) for r in results.values())]
    first = max(len("run"), *map(len, results))
    lines = [f"{'run':<{first}}  " + "  ".join(names)]
    for run, metrics in results.items():
        cells = [f"{'-' if math.isnan(metrics[n]) else format(metrics[n], '.3f'):>{len(n)}}" for n in names]
        lines.append(f"{run:<{first}}  " + "  ".join(cells))
    return "\n".join(lines)


def draw_maps(paths: Sequence[Path], titles: Sequence[str], split: str, count: int, device: torch.device) -> Image:
    """The same `count` annotated images of the split, explained by every run."""
    runs = [load_run(path, device=device) for path in paths]
    first = runs[0].config
    dataset = build_evaluation_dataset(first, build_source(first, split))
    probe = Probe.choose(dataset, count, encoding=BACKBONES[first.model.name].encoding)
    if probe is None:
        raise ValueError(f"{split} has no annotated image to draw")
    maps = {}
    for title, run in zip(titles, runs, strict=True):
        if run.classes != runs[0].classes or run.config.data.image_size != first.data.image_size:
            raise ValueError("the runs must share classes and data.image_size to be drawn side by side")
        method, depth = build_attribution(run.config)
        maps[title] = probe.maps(run.model, attribution=method, depth=depth, device=device)
    return probe.picture(maps)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders or checkpoints")
    parser.add_argument("--split", default="test")
    parser.add_argument("--output", type=Path, default=Path("report"), help="folder for report.json and maps.png")
    parser.add_argument("--images", type=int, default=6, help="rows of the picture")
    args = parser.parse_args(argv)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    names = [path.name if path.is_dir() else str(path) for path in args.runs]
    names = [str(path) if names.count(name) > 1 else name for name, path in zip(names, args.runs, strict=True)]
    try:
        found = {n: evaluate_in_detail(p, args.split, device=device) for n, p in zip(names, args.runs, strict=True)}
        picture = draw_maps(args.runs, names, args.split, args.images, device)
        results = {run: each.metrics for run, each in found.items()}
        content = {run: {"metrics": plain(each.metrics), "settings": each.settings} for run, each in found.items()}
        args.output.mkdir(parents=True, exist_ok=True)
        (args.output / "report.json").write_text(json.dumps(content, indent=2) + "\n")
        write_png(args.output / "maps.png", picture)
    except (ValueError, OSError) as error:
        return report_error(error)
    print(f"\n{args.split} split\n{table(results)}\n")
    print("\n".join(f"{run}: {each.description}" for run, each in found.items()))
    print(f"written to {args.output}/report.json and {args.output}/maps.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
