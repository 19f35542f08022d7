"""One Pareto front for each group of an experiment, over all its weights, epochs and seeds, beside the baseline.

    python tools/fronts.py EXPERIMENT [--split val test] [--metrics f1 epg iou]
    python tools/fronts.py --group "Energy=runs/a,runs/b" --group "Baseline=runs/c" --baseline Baseline

EXPERIMENT is a folder with a plan.json, as launch/sweep.py writes it; --group names run folders by hand. The validation
metrics of every epoch count, whether it was saved or not; those of other splits are what launch/evaluate.py wrote. What is on
a front is always selected on validation. A table goes to the screen, with mean and standard deviation over seeds;
fronts.json, fronts.csv (a line per epoch) and a fronts_SPLIT.png for each split go to --output.

The hypervolume is measured from the worst value of every metric whose range has ends; a metric that is better lower counts as 1
less its value. The probability that one group's front is better than another's comes from resampling seeds; with one seed it
is not defined. Runs that are unfinished or cannot be read, and epochs with NaN, are named and do not count.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from guidance import cli
from guidance.results.groups.asking import add_arguments, choose_metrics, choose_resolution, read_asked
from guidance.results.groups.epochs import VAL
from guidance.results.groups.files import describe_fronts, report_fronts, write_fronts
from guidance.results.groups.group_fronts import Selection


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
    cli.add_imports(parser)
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Do what the command does."""
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
    return cli.run(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
