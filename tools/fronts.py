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
from guidance.results.groups.baseline import baselines
from guidance.results.groups.epochs import VAL, Experiment
from guidance.results.groups.files import FrontReport, write_fronts
from guidance.results.groups.group_fronts import Selection, group_fronts
from guidance.results.groups.tables import baseline_lines, compare_groups, comparison_table, group_rows, group_table


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


def compare(experiment: Experiment, selection: Selection, resamples: int) -> FrontReport:
    """The fronts of the groups on a split, beside each other and the baseline."""
    fronts, notes = group_fronts(experiment, selection)
    found = compare_groups(fronts, resamples=resamples)
    return FrontReport(experiment, selection, fronts, baselines(experiment, fronts), found, notes)


def tell(report: FrontReport) -> None:
    """Print the tables of a split."""
    metrics, split = report.selection.metrics, report.selection.split
    print(f"{split} split{'' if split == VAL else ', selected on validation'}; mean +- standard deviation over seeds")
    print(group_table(group_rows(report.experiment, report.fronts), metrics))
    for line in baseline_lines(report.baselines, metrics):
        print(line)
    if len(report.fronts) > 1 and report.comparisons:
        print("probability that the group of the line has the larger hypervolume than that of the column:")
        print(comparison_table(report.fronts, report.comparisons))
    print()


def run(args: argparse.Namespace) -> None:
    """Do what the command does."""
    experiment, read = read_asked(args, by=args.by)
    metrics, empty = choose_metrics(experiment, args.metrics)
    resolution = choose_resolution(experiment, args.resolution)
    evaluated = {split for run in experiment.runs for epoch in run.epochs for split in epoch.metrics}
    splits = dict.fromkeys(args.split or [VAL, *({"test"} & evaluated)])
    reports = [compare(experiment, Selection(metrics, split, resolution), args.resamples) for split in splits]
    notes = [*read, *empty]
    written = write_fronts(args.output or args.experiment or Path("fronts"), reports, notes)
    for report in reports:
        tell(report)
    for note in dict.fromkeys([*notes, *(note for report in reports for note in report.notes)]):
        print(f"note: {note}", file=sys.stderr)
    print(f"written: {', '.join(map(str, written))}")


def main(argv: Sequence[str] | None = None) -> int:
    args = parse(argv)
    return cli.run(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
