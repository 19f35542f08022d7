"""Judge attribution methods on a trained net, with and without the lens: localisation, insertion and deletion, randomisation.

    python launch/judge.py runs/demo --benchmark localization --methods ixg gradcam --count 50 --output runs/judged
    python launch/judge.py RUN0 RUN1 RUN2 --benchmark localization insertion_deletion --scenes grid --output OUT   # seeds
    torchrun --nproc_per_node=4 launch/judge.py RUN --benchmark randomization --scenes images --output OUT
    python launch/judge.py --model resnet50 --weights imagenet --data FOLDER --output OUT   # a net that was trained elsewhere
    python launch/judge.py RUN --scenes images --temperatures --output OUT   # the lens with other inverse temperatures

Scenes are images with several classes, each with its region: "grid" (of images of different classes; Grid Pointing Game),
"pairs" (two crops side by side), "images" (annotated images as they are). Rows are written as they are measured; the same
command goes on where the last one stopped, on any number of processes. For each benchmark OUTPUT holds a folder of rows for
each net, NAME.csv (all of them), NAME.json, NAME.md (the table) and NAME.png.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import torch

from guidance import cli, distributed
from guidance.assembly import build_source
from guidance.assembly.judging import (
    SCENES,
    SceneChoices,
    build_scenes,
    judged_methods,
    scene_settings,
)
from guidance.assembly.sets import encoding
from guidance.benchmarks.class_maps import VARIANTS
from guidance.benchmarks.class_names import read_classes
from guidance.benchmarks.figures import FIGURES
from guidance.benchmarks.judges import BENCHMARKS, Choices, temperatures
from guidance.benchmarks.running import Row, run_benchmark
from guidance.benchmarks.summary import as_csv, records, table
from guidance.data.transforms.encodings import mean_pixel
from guidance.inference import Run, load_model, load_run, split_of
from guidance.runs.files import finite, write_atomically
from guidance.runs.locks import lock_folder


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.build_parser(__doc__, abbreviations=False)
    parser.add_argument(
        "runs", nargs="*", type=Path, metavar="RUN", help="run folders or checkpoints; one for each seed"
    )
    parser.add_argument("--model", help="instead of runs, a backbone whose weights were trained elsewhere")
    parser.add_argument(
        "--weights", default="imagenet", help="of --model: a name in its row, or a file (default: imagenet)"
    )
    parser.add_argument("--data", type=Path, help="of --model: a labelled folder, or a config")
    parser.add_argument("--benchmark", nargs="+", default=["localization"], choices=sorted(BENCHMARKS), metavar="NAME",
                        help=f"of {', '.join(BENCHMARKS)} (default: localization)")  # fmt: skip
    parser.add_argument(
        "--methods", nargs="+", default=["all"], metavar="METHOD[@DEPTH]", help="default: all of the net's"
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the results")
    parser.add_argument("--split", default="test", help="a split of the data set (default: test)")
    add_scenes(parser.add_argument_group("scenes"))
    measures = parser.add_argument_group("measures")
    measures.add_argument("--temperatures", action="store_true", help="the lens with each pair of inverse temperatures")
    measures.add_argument(
        "--threshold", type=float, default=0.0, help="of active pixels, as a share of the largest value"
    )
    measures.add_argument("--blurred-pixels", action="store_true", help="blur before pixels are binarised")
    measures.add_argument(
        "--step", type=int, metavar="PIXELS", help="of insertion and deletion (default: those of a row)"
    )
    parser.add_argument("--batch-size", type=int, default=4, help="scenes at a time (default: 4)")
    cli.add_overrides(parser)
    cli.add_device(parser)
    args = parser.parse_args(argv)
    if bool(args.runs) == bool(args.model) or bool(args.model) != bool(args.data):
        parser.error("give one RUN or more, or --model and --data")
    return args


def add_scenes(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--scenes", default="grid", choices=sorted(SCENES), help="default: grid")
    group.add_argument("--grid", default="2x2", metavar="ROWSxCOLUMNS", help="default: 2x2")
    group.add_argument(
        "--region", default="cell", choices=["cell", "mask"], help="of a class in a grid (default: cell)"
    )
    group.add_argument("--count", type=int, metavar="N", help="at most so many scenes (default: all)")
    group.add_argument(
        "--full-size", action="store_true", help="cells as large as images, a larger grid (Rao et al. 2022)"
    )
    group.add_argument(
        "--confidence", type=float, default=0.0, metavar="P", help="only classes of at least this probability"
    )
    group.add_argument(
        "--smallest", type=float, default=0.01, metavar="SHARE", help="of an image that a region covers (0.01)"
    )
    group.add_argument(
        "--classes", metavar="NAME", help="how the classes of the data mean those of the net: coco_to_imagenet"
    )
    group.add_argument("--seed", type=int, default=0, help="of the scenes, and of weights drawn anew")


def grid_of(text: str) -> tuple[int, int]:
    """ROWSxCOLUMNS. Raises ValueError for anything else."""
    rows, _, columns = text.partition("x")
    if not (rows.isdigit() and columns.isdigit() and int(rows) * int(columns) > 1):
        raise ValueError(f"--grid is ROWSxCOLUMNS of at least two cells, such as 2x2, not {text!r}")
    return int(rows), int(columns)


def judge_run(args: argparse.Namespace, run: Run, net: str) -> dict[str, list[Row]]:
    """The rows of one net for each benchmark, on the same scenes. A collective call."""
    methods = judged_methods(run.config, args.methods)
    source = build_source(run.config, args.split) if args.classes else split_of(run, args.split, net)
    mapping = None if args.classes is None else read_classes(args.classes, source.classes, run.classes)
    chosen = SceneChoices(
        kind=args.scenes, grid=grid_of(args.grid), region=args.region, count=args.count, seed=args.seed,
        confidence=args.confidence, smallest=args.smallest, full_size=args.full_size, classes=mapping,
    )  # fmt: skip
    scenes = build_scenes(run.config, source, run.model, chosen)
    choices = Choices(
        variants=temperatures() if args.temperatures else dict(VARIANTS), threshold=args.threshold,
        blurred_pixels=args.blurred_pixels, step=args.step, single_label=run.config.objective.exclusive,
        removed=mean_pixel(encoding(run.config)), seed=args.seed,
    )  # fmt: skip
    settings = scene_settings(chosen, source, run.config.data.root) | {
        "variants": {k: v and list(v) for k, v in choices.variants.items()}, "threshold": args.threshold,
        "blurred_pixels": args.blurred_pixels, "step": args.step, "epoch": run.epoch, "set": sorted(args.set),
    }  # fmt: skip
    found = {}
    for name in args.benchmark:
        judge, decides = BENCHMARKS[name].judge(run.model, choices), settings | {"benchmark": name}
        folder = args.output / name / net
        found[name] = run_benchmark(judge, methods, scenes, folder, settings=decides, batch_size=args.batch_size)
    return found


def write(output: Path, name: str, found: dict[str, list[Row]]) -> None:
    """The table, everything as CSV and JSON, and the figure of a benchmark."""
    benchmark = BENCHMARKS[name]
    text = table(found, benchmark)
    lines = [
        {k: finite(v) if isinstance(v, float) else v for k, v in line.items()} for line in records(found, benchmark)
    ]
    write_atomically(output / f"{name}.json", json.dumps(lines, indent=2, allow_nan=False) + "\n")
    write_atomically(output / f"{name}.csv", as_csv(found, benchmark))
    write_atomically(output / f"{name}.md", f"# {benchmark.title}\n\n{text}\n")
    FIGURES[name](found, benchmark).savefig(output / f"{name}.png", dpi=150)
    print(f"\n{text}\n\nwritten to {output / name}.csv, .json, .md, .png")


def names_of(paths: list[Path]) -> list[str]:
    """A name for each net: that of its folder, numbered where two are the same."""
    names = [path.name if path.is_dir() else f"{path.parent.parent.name}-{path.stem}" for path in paths]
    return [name if names.count(name) == 1 else f"{name}-{i}" for i, name in enumerate(names)]


def load(args: argparse.Namespace, device: torch.device) -> Iterator[tuple[str, Run]]:
    """The nets, one after another, with their names."""
    if args.model:
        name = f"{args.model}_{Path(args.weights).stem}".replace("/", "_").replace(":", "_")
        yield name, load_model(args.model, weights=args.weights, data=args.data, overrides=args.set, device=device)
    for path, net in zip(args.runs, names_of(args.runs), strict=True):
        yield net, load_run(path, overrides=args.set, device=device)


def _lock(output: Path) -> IO[str] | None:
    """One command at a time writes there."""
    output.mkdir(parents=True, exist_ok=True)
    return lock_folder(output)


def judge(args: argparse.Namespace) -> None:
    """Do what the command does."""
    lock: list[IO[str] | None] = []  # held until this process ends
    with distributed.process_group(args.device) as device:
        distributed.main_does(lambda: lock.append(_lock(args.output)))
        results: dict[str, dict[str, list[Row]]] = {name: {} for name in args.benchmark}
        for net, run in load(args, device):
            for name, rows in judge_run(args, run, net).items():
                results[name][net] = rows
        if distributed.is_main():
            for name, found in results.items():
                write(args.output, name, found)
        distributed.barrier()


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    cli.set_up_logging()
    interrupted = f"what was measured is in {args.output}, and the same command goes on"
    return cli.run(lambda: judge(args), interrupted=interrupted)


if __name__ == "__main__":
    sys.exit(main())
