"""One Pareto front for each group of an experiment, over all its weights, epochs and seeds, beside the baseline.

    python tools/fronts.py EXPERIMENT [--split val test] [--metrics f1 epg iou]
    python tools/fronts.py --group "Energy=runs/a,runs/b" --group "Baseline=runs/c" --baseline Baseline
    python tools/fronts.py EXPERIMENT --over data.dilation [--at knee] [--split test]     # metrics against a setting
    python tools/fronts.py EXPERIMENT --over aim.threshold --at best:accuracy

EXPERIMENT is a folder with a plan.json, as launch/sweep.py writes it; --group names run folders by hand. The validation
metrics of every epoch count, whether it was saved or not; those of other splits are what launch/evaluate.py wrote. What is on
a front is always selected on validation. A table goes to the screen, with mean and standard deviation over seeds;
fronts.json, fronts.csv (a line per epoch) and a fronts_SPLIT.png for each split go to --output.

The hypervolume is measured from the worst value of every metric whose range has ends; a metric that is better lower counts as 1
less its value. The probability that one group's front is better than another's comes from resampling seeds; with one seed it
is not defined. Runs that are unfinished or cannot be read, and epochs with NaN, are named and do not count.

--over SETTING shows how the metrics depend on a setting that a sweep has varied, such as data.annotated_fraction or
objective.attribution.depth, as in Figs. 8, 10 and 12 of the model-guidance paper. For each value of the setting and each seed
one epoch is chosen on validation, of all weights of the loss: the knee of the seed's front (the balanced compromise of its
metrics), or with --at best:METRIC the epoch whose METRIC is best. Means and standard deviations over seeds go to
robustness_SETTING.csv and robustness_SETTING.png, with the baseline as a line, and so does the speed of training, the median of
the images per second that metrics.jsonl holds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from guidance import cli
from guidance.pictures.robustness import plot_curves
from guidance.results.groups.asking import add_arguments, choose_metrics, choose_resolution, read_asked
from guidance.results.groups.epochs import VAL
from guidance.results.groups.files import describe_fronts, report_fronts, write_fronts
from guidance.results.groups.group_fronts import Selection
from guidance.results.groups.robustness import KNEE, curve_panels, robustness, robustness_table, write_csv


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    about, _, details = (__doc__ or "").partition("\n\n")
    parser = cli.build_parser(about)
    parser.epilog = details
    add_arguments(parser)
    parser.add_argument(
        "--split", nargs="+", help="what is shown (default: val, and test if anything was evaluated on it)"
    )
    parser.add_argument(
        "--by", nargs="+", default=[], metavar="SETTING", help="group by settings, such as data.dilation"
    )
    parser.add_argument(
        "--resamples", type=int, default=1000, help="of the seeds, for the probabilities (default: 1000)"
    )
    parser.add_argument("--over", metavar="SETTING", help="show metrics against what was varied, such as data.dilation")
    parser.add_argument("--at", default=KNEE, help="with --over: knee, or best:METRIC: which epoch of each seed (knee)")
    cli.add_imports(parser)
    return parser.parse_args(argv)


def show_robustness(args: argparse.Namespace) -> None:
    """Metrics against the setting --over, on one split."""
    if args.by or len(args.split or ()) > 1:
        raise ValueError("--over groups by its own setting and shows one split; leave out --by, and name one --split")
    (split,) = args.split or (VAL,)
    experiment, read = read_asked(args)
    metrics, empty = choose_metrics(experiment, args.metrics)
    selection = Selection(metrics, split, choose_resolution(experiment, args.resolution))
    found = robustness(experiment, args.over, selection, at=args.at)
    output = args.output or args.experiment or Path("fronts")
    output.mkdir(parents=True, exist_ok=True)
    table, picture = (output / f"robustness_{args.over}.{kind}" for kind in ("csv", "png"))
    write_csv(table, found, metrics)
    panels, ticks = curve_panels(found, metrics)
    title = f"{experiment.plan.name}, {split} split, at {args.at.replace(':', ' ')}"
    plot_curves(panels, args.over, ticks=ticks, title=title).savefig(picture, dpi=200)
    print(f"{title}; mean +- standard deviation over seeds\n{robustness_table(found, metrics)}")
    for note in dict.fromkeys([*read, *empty, *found.notes]):
        print(f"note: {note}", file=sys.stderr)
    print(f"written: {table}, {picture}")


def show_fronts(args: argparse.Namespace) -> None:
    """A front for each group, on each split."""
    experiment, read = read_asked(args, by=args.by)
    metrics, empty = choose_metrics(experiment, args.metrics)
    resolution = choose_resolution(experiment, args.resolution)
    evaluated = {split for run in experiment.runs for epoch in run.epochs for split in epoch.metrics}
    splits = dict.fromkeys(args.split or [VAL, *({"test"} & evaluated)])
    reports = [report_fronts(experiment, Selection(metrics, split, resolution), args.resamples) for split in splits]
    notes = [*read, *empty]
    written = write_fronts(args.output or args.experiment or Path("fronts"), reports, notes)
    for report in reports:
        print(f"{describe_fronts(report)}\n")
    for note in dict.fromkeys([*notes, *(note for report in reports for note in report.notes)]):
        print(f"note: {note}", file=sys.stderr)
    print(f"written: {', '.join(map(str, written))}")


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    return cli.run(lambda: (show_robustness if args.over else show_fronts)(args))


if __name__ == "__main__":
    sys.exit(main())
