"""How EPG, IoU and F1 depend on a setting that a sweep has varied, as in Figs. 8, 10 and 12 of the model-guidance paper.

    python tools/robustness.py EXPERIMENT --over data.dilation [--metrics epg iou f1] [--at knee] [--split test]
    python tools/robustness.py EXPERIMENT --over data.annotated_fraction
    python tools/robustness.py EXPERIMENT --over aim.threshold --at best:accuracy
    python tools/robustness.py EXPERIMENT --over objective.attribution.depth      # with the measured speed of training

EXPERIMENT is a folder with a plan.json; --group names run folders by hand. For each value of the setting and each seed one
epoch is chosen on validation, of all weights of the loss: the knee of the seed's front (the balanced compromise of its
metrics), or with --at best:METRIC the epoch whose METRIC is best. Means and standard deviations over seeds go to
robustness_SETTING.csv and robustness_SETTING.png in --output, with the baseline as a line. Speed is the median of the images
per second that metrics.jsonl holds.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from guidance import cli
from guidance.evaluation.statistics import Spread
from guidance.pictures.robustness import plot_curves
from guidance.results.groups.asking import add_arguments, choose_metrics, choose_resolution, read_asked
from guidance.results.groups.epochs import VAL
from guidance.results.groups.group_fronts import Selection
from guidance.results.groups.robustness import KNEE, SPEED, Robustness, curve_panels, robustness
from guidance.results.groups.tables import spread_text
from guidance.results.tables import align
from guidance.runs.files import finite


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    about, _, details = (__doc__ or "").partition("\n\n")
    parser = cli.build_parser(about)
    parser.epilog = details
    add_arguments(parser)
    parser.add_argument("--over", required=True, metavar="SETTING", help="what was varied, such as data.dilation")
    parser.add_argument("--at", default=KNEE, help="knee, or best:METRIC: which epoch of each seed (default: knee)")
    parser.add_argument("--split", default=VAL, help="whose values are shown (default: val)")
    cli.add_imports(parser)
    return parser.parse_args(argv)


def rows_of(found: Robustness, metrics: Sequence[str]) -> list[tuple[str, str, int, dict[str, Spread]]]:
    """(series, value, runs, spreads) line by line; the baseline last."""
    rows = [(cell.series, str(cell.value), cell.runs, cell.spreads) for cell in found.cells]
    if found.baseline:
        rows.append(("baseline", "", max(spread.seeds for spread in found.baseline.values()), found.baseline))
    return rows


def write_csv(path: Path, found: Robustness, metrics: Sequence[str]) -> None:
    """A line for each series and value: mean, standard deviation and number of seeds of each metric, and of the speed."""
    names = [*metrics, "images_per_second"]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        columns = [f"{name}{end}" for name in names for end in ("", "_deviation", "_seeds")]
        writer.writerow(["series", found.setting, "runs", *columns])
        for series, value, runs, spreads in rows_of(found, metrics):
            chosen = [spreads.get(name) for name in (*metrics, SPEED)]
            cells = [("", "", "") if s is None else (finite(s.mean), finite(s.deviation), s.seeds) for s in chosen]
            writer.writerow([series, value, runs, *(value for cell in cells for value in cell)])


def run(args: argparse.Namespace) -> None:
    """Do what the command does."""
    experiment, read = read_asked(args)
    metrics, empty = choose_metrics(experiment, args.metrics)
    selection = Selection(metrics, args.split, choose_resolution(experiment, args.resolution))
    found = robustness(experiment, args.over, selection, at=args.at)
    output = args.output or args.experiment or Path("fronts")
    output.mkdir(parents=True, exist_ok=True)
    table, picture = (output / f"robustness_{args.over}.{kind}" for kind in ("csv", "png"))
    write_csv(table, found, metrics)
    panels, ticks = curve_panels(found, metrics)
    title = f"{experiment.plan.name}, {args.split} split, at {args.at.replace(':', ' ')}"
    plot_curves(panels, args.over, ticks=ticks, title=title).savefig(picture, dpi=200)
    lines = [["group", args.over, "runs", *metrics, "images/s"]]
    for series, value, runs, spreads in rows_of(found, metrics):
        speed = spreads.get(SPEED)
        shown = "" if speed is None else f"{speed.mean:.0f}"
        lines.append([series, value, str(runs), *(spread_text(spreads[m]) for m in metrics), shown])
    print(f"{title}; mean +- standard deviation over seeds")
    print(align(lines))
    for note in dict.fromkeys([*read, *empty, *found.notes]):
        print(f"note: {note}", file=sys.stderr)
    print(f"written: {table}, {picture}")


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    return cli.run(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
