"""Evaluate checkpoints on a split; prints the metrics and writes them beside the checkpoint (or to --output).

    python launch/evaluate.py --checkpoint runs/demo/checkpoints/last.pt --split test
    torchrun --nproc_per_node=4 launch/evaluate.py --checkpoint RUN --split test --set data.root=/data/VOCdevkit

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
from guidance.inference import evaluate_checkpoint
from guidance.logs import report_error


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
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    main_process = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(level=logging.INFO if main_process else logging.ERROR, format="%(message)s")
    try:
        with distributed.process_group(args.device) as device:
            metrics = evaluate_checkpoint(args.checkpoint, args.split, overrides=args.set, device=device)
        if main_process:
            checkpoint = args.checkpoint
            beside = checkpoint / "last.pt" if checkpoint.is_dir() else checkpoint
            output = args.output or beside.with_name(f"{beside.stem}.{args.split}.json")
            plain = {name: None if math.isnan(value) else value for name, value in metrics.items()}
            output.write_text(json.dumps(plain, indent=2) + "\n")
            width = max(map(len, metrics))
            print("\n".join(f"{name:<{width}}  {value:.4f}" for name, value in metrics.items()))
            print(f"written to {output}")
    except (ValueError, OSError) as error:
        return report_error(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
