"""Merge the checkpoints of several runs into one Pareto front.

    python tools/select_pareto.py runs/baseline runs/energy [--evaluate test]

Each DIR is the folder of a run (its `checkpoints/pareto/` is read), or a folder of checkpoints (`*.pt`). Metrics and
resolution are those of the runs' own configs unless they are given here. A table goes to the screen; `front.json`,
`front.csv` and `front.png` go to --output: by default the closest folder that holds all DIRs (DIR itself if there is
only one, the first if they have nothing in common). The knee is the member nearest to the ideal point after each metric
is scaled to [0, 1] over the front; the hypervolume is measured from the worst value of every metric whose range has ends. A
metric that is better lower, such as never_energy, counts as 1 less its value.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guidance import cli

if not cli.asks_for_help():
    from guidance import distributed
    from guidance.results.front_files import FRONT_FILES, write_front
    from guidance.results.fronts import Member, MergedFront, defined, merge
    from guidance.results.reading import common_folder, front_setting, read_runs
    from guidance.results.tables import front_table
    from guidance.runs.front_folder import Saved


def main(arguments: Sequence[str] | None = None) -> int:
    args = _parse(arguments)
    return cli.run(lambda: _select(args))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    about, _, details = (__doc__ or "").partition("\n\n")
    parser = cli.build_parser(about)
    parser.epilog = details
    parser.add_argument("folders", metavar="DIR", nargs="+", type=Path, help="run, or folder of checkpoints")
    parser.add_argument(
        "--metrics", nargs="+", action="extend", metavar="NAME", help="default: those of the runs' configs"
    )
    parser.add_argument("--resolution", type=float, help="values are rounded to multiples of it before comparing")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where front.json, front.csv and front.png go")
    cli.add_overrides(parser, purpose=" to evaluate with")
    parser.add_argument("--evaluate", metavar="SPLIT", help="also evaluate every member on this split, such as test")
    return parser.parse_args(arguments)


def _select(args: argparse.Namespace) -> None:
    select(args.folders, args.metrics, args.resolution, args.output, args.evaluate, args.set)


def select(
    folders: Sequence[Path],
    metrics: Sequence[str] | None = None,
    resolution: float | None = None,
    output: Path | None = None,
    evaluate: str | None = None,
    overrides: Sequence[str] = (),
) -> tuple[Member, ...]:
    """Do what the command does; returns the members, best first in the first metric."""
    # `runs/*` also names what this command wrote there before.
    folders = [folder for folder in folders if folder.name not in FRONT_FILES]
    runs = read_runs(folders)
    metrics = defined(list(metrics or front_setting(runs, "metrics")), runs)
    front = merge(runs, metrics, float(front_setting(runs, "resolution") if resolution is None else resolution))
    output = output or common_folder(folders)
    write_front(output, front)
    if evaluate is not None:
        front = evaluate_members(front, evaluate, overrides)
        write_front(output, front)
    print(f"{front_table(front, evaluate)}\n\n{front.describe()}")
    print(f"written: {', '.join(str(output / name) for name in FRONT_FILES)}")
    return front.members


def evaluate_members(front: MergedFront, split: str, overrides: Sequence[str] = ()) -> MergedFront:
    """Evaluate every member on a split, and say how far this is."""
    # Not above: merging runs should not need the data sets and nets.
    from guidance.inference import evaluate_in_detail

    number = iter(range(1, len(front.members) + 1))
    with distributed.process_group() as device:

        def evaluate(saved: Saved) -> tuple[Mapping[str, float], Mapping[str, Any]]:
            print(f"evaluating {next(number)} of {len(front.members)} on {split}: {saved.path}", flush=True)
            found = evaluate_in_detail(saved.path, split, overrides=overrides, device=device)
            print(f"  {found.description}", flush=True)
            return found.metrics, found.settings

        return front.evaluate(split, evaluate)


if __name__ == "__main__":
    sys.exit(main())
