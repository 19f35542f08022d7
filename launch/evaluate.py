"""Evaluate checkpoints on a split; prints the metrics and writes them beside the checkpoint (or to --output).

    python launch/evaluate.py --checkpoint runs/demo/checkpoints/last.pt --split test
    torchrun --nproc_per_node=4 launch/evaluate.py --checkpoint RUN --split test --set data.root=/data/VOCdevkit
    python launch/evaluate.py --checkpoint RUN --split test --per-sample scores.csv   # a row for each (image, class)

A run folder stands for its last checkpoint. The IoU threshold is the checkpoint's own (fitted on validation where the config
says so). The results do not depend on the number of processes.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import sys
from pathlib import Path

from guidance import distributed
from guidance.inference import Evaluation, evaluate_in_detail
from guidance.logs import report_error
from guidance.per_sample import write_table
from guidance.plots import plot_size_bins
from guidance.size_bias import epg_by_size


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--checkpoint", type=Path, required=True, help="a checkpoint, or a run folder")
    parser.add_argument("--split", default="test", help="a split of the checkpoint's data set (default: test)")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="A.B=VALUE", help="change config values"
    )
    parser.add_argument("--output", type=Path, help="JSON file; by default beside the checkpoint, or in the run folder")
    parser.add_argument("--per-sample", type=Path, metavar="CSV", help="also write one row for each (image, class)")
    parser.add_argument("--size-plot", type=Path, metavar="PNG", help="also draw EPG by the size of the mask")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    return parser.parse_args(argv)


def write_results(args: argparse.Namespace, found: Evaluation) -> None:
    """Print the metrics; write them, and what else was asked for."""
    beside = args.checkpoint / "last.pt" if args.checkpoint.is_dir() else args.checkpoint
    output = args.output or beside.with_name(f"{beside.stem}.{args.split}.json")
    plain = {name: None if math.isnan(value) else value for name, value in found.metrics.items()}
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(plain, indent=2) + "\n")
    width = max(map(len, found.metrics))
    print("\n".join(f"{name:<{width}}  {value:.4f}" for name, value in found.metrics.items()))
    written = [output]
    if args.per_sample:
        write_table(args.per_sample, found.table())
        written.append(args.per_sample)
    if args.size_plot:
        bins = epg_by_size(found.rows)
        print(f"\n{'share of the image':<{width}}   pairs     EPG  chance")
        for b in (b for b in bins if b.pairs):
            print(f"{f'{b.low:.2f} to {b.high:.2f}':<{width}}  {b.pairs:6}  {b.epg:6.4f}  {b.chance:6.4f}")
        args.size_plot.parent.mkdir(parents=True, exist_ok=True)
        plot_size_bins(bins).savefig(args.size_plot, dpi=200)
        written.append(args.size_plot)
    print(f"written to {', '.join(map(str, written))}")


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    main_process = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(level=logging.INFO if main_process else logging.ERROR, format="%(message)s")
    try:
        with distributed.process_group(args.device) as device:
            every = ["evaluation.scores=all"] if args.per_sample else []
            found = evaluate_in_detail(args.checkpoint, args.split, overrides=every + args.set, device=device)
        if main_process:
            write_results(args, found)
    except (ValueError, OSError) as error:
        return report_error(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
