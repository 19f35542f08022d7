"""Compare runs on a split: one table of metrics, and a picture of the same images with each run's attribution maps.

    python tools/report.py runs/demo_unguided runs/demo_guided --split test --output runs/demo
    python tools/report.py EXPERIMENT --split test --output runs/report --html

A run folder stands for its last checkpoint; checkpoints can be named too. Writes report.json and maps.png. With --html it
writes report.html in place of maps.png: one file that needs no network, with fronts, curves, tables, maps, masks and EPG by
size, of run folders or of the folder of an experiment; nets are loaded, and report.json is written, of --detailed runs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from guidance import cli
from guidance.assembly import build_attribution, build_evaluation_dataset, build_source
from guidance.inference import Evaluation, evaluate_in_detail, load_run
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
    write_png(output / "maps.png", picture)
    write_numbers(found, split, output)
    print(f"written to {output}/report.json and {output}/maps.png")


def report_as_html(paths: Sequence[Path], split: str, output: Path, *, images: int, detailed: int) -> None:
    """The same with --html."""
    from reports.page import Choices, write_html  # beside this file

    choices = Choices(split, images, detailed)
    found = write_html(paths, output / "report.html", choices, cli.available_device())
    write_numbers(found, split, output)
    print(f"written to {output}/report.json and {output}/report.html")


def write_numbers(found: Mapping[str, Evaluation], split: str, output: Path) -> None:
    """report.json, and the table of it."""
    write_report(output / "report.json", {run: (each.metrics, each.settings) for run, each in found.items()})
    if found:
        print(f"\n{split} split\n{run_table({run: each.metrics for run, each in found.items()})}\n")
    print("\n".join(f"{run}: {each.description}" for run, each in found.items()))


def main(argv: list[str] | None = None) -> int:
    parser = cli.build_parser(__doc__)
    cli.add_imports(parser)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders or checkpoints; with --html, or an experiment")
    parser.add_argument("--split", default="test")
    parser.add_argument("--output", type=Path, default=Path("report"), help="folder of what is written")
    parser.add_argument("--images", type=int, default=6, help="rows of the picture")
    parser.add_argument("--html", action="store_true", help="write report.html")
    parser.add_argument("--detailed", type=int, default=12, metavar="N", help="with --html: runs whose maps it shows")
    args = parser.parse_args(argv)
    if args.html:
        counts = {"images": args.images, "detailed": args.detailed}
        return cli.run(lambda: report_as_html(args.runs, args.split, args.output, **counts))
    return cli.run(lambda: report(args.runs, args.split, args.output, args.images))


if __name__ == "__main__":
    sys.exit(main())
