"""Compare runs on a split: one table of metrics, and a picture of the same images with each run's attribution maps.

    python tools/report.py runs/demo_unguided runs/demo_guided --split test --output runs/demo

A run folder stands for its last checkpoint; checkpoints can be named too. Writes report.json and maps.png.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from guidance import cli
from guidance.assembly import build_attribution, build_evaluation_dataset, build_source
from guidance.inference import evaluate_in_detail, load_run
from guidance.models import BACKBONES
from guidance.pictures.layout import write_png
from guidance.pictures.probe import Probe
from guidance.results.files import write_report
from guidance.results.tables import run_table
from guidance.runs.logs import Image


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


def report(paths: Sequence[Path], split: str, output: Path, images: int) -> None:
    """Do what the command does."""
    device = cli.available_device()
    names = [path.name if path.is_dir() else str(path) for path in paths]
    names = [str(path) if names.count(name) > 1 else name for name, path in zip(names, paths, strict=True)]
    found = {n: evaluate_in_detail(p, split, device=device) for n, p in zip(names, paths, strict=True)}
    picture = draw_maps(paths, names, split, images, device)
    write_report(output / "report.json", {run: (each.metrics, each.settings) for run, each in found.items()})
    write_png(output / "maps.png", picture)
    print(f"\n{split} split\n{run_table({run: each.metrics for run, each in found.items()})}\n")
    print("\n".join(f"{run}: {each.description}" for run, each in found.items()))
    print(f"written to {output}/report.json and {output}/maps.png")


def main(argv: list[str] | None = None) -> int:
    parser = cli.build_parser(__doc__)
    cli.add_imports(parser)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders or checkpoints")
    parser.add_argument("--split", default="test")
    parser.add_argument("--output", type=Path, default=Path("report"), help="folder for report.json and maps.png")
    parser.add_argument("--images", type=int, default=6, help="rows of the picture")
    args = parser.parse_args(argv)
    return cli.run(lambda: report(args.runs, args.split, args.output, args.images))


if __name__ == "__main__":
    sys.exit(main())
