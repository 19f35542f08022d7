"""Train one run.

    torchrun --nproc_per_node=8 launch/train.py --config configs/waterbirds100_resnet18_energy.yaml
    python launch/train.py --config configs/demo.yaml --set optimizer.lr=3e-4 --output runs/demo
    python launch/train.py --resume --output runs/demo          # go on after an interruption
    python launch/train.py --config configs/demo.yaml --dry-run # two batches through every stage, nothing kept
    python launch/train.py --schema > configs/schema.json       # with which editors complete and check a config

SIGTERM or SIGUSR1 to the training processes writes a checkpoint and ends them with exit code 0.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from guidance import cli

if not cli.asks_for_help():
    from guidance import distributed
    from guidance.assembly import build_trainer
    from guidance.config import Config, check_processes, dump_schema, load_config
    from guidance.runs.paths import CONFIG, suggest_folder


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.build_parser(__doc__, abbreviations=False)
    parser.add_argument("--config", type=Path, help="YAML file; with --resume the run's own config.yaml is the default")
    cli.add_overrides(parser)
    parser.add_argument("--output", type=Path, help="run folder; runs/<name of the config file> by default")
    parser.add_argument("--resume", action="store_true", help="go on from checkpoints/last.pt if the run has one")
    parser.add_argument("--dry-run", action="store_true", help="two batches through every stage, in a temporary folder")
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of configs (configs/schema.json)")
    return parser.parse_args(argv)


def read_arguments(args: argparse.Namespace) -> tuple[Config, Path]:
    """The config and the run folder. Raises ValueError for contradictions."""
    if args.config is None:
        if not (args.resume and args.output and (args.output / CONFIG).is_file()):
            hint = suggest_folder(args.output) if args.output else ""
            raise ValueError(
                f"give --config FILE, or --resume --output RUN for a run folder that has a config.yaml{hint}"
            )
        args.config = args.output / CONFIG
    config = load_config(args.config, args.set, imports=args.imports or ())
    check_processes(config, int(os.environ.get("WORLD_SIZE", "1")))
    return config, args.output or Path("runs") / args.config.stem


def train(config: Config, output: Path, args: argparse.Namespace) -> None:
    """Train, or with `--dry-run` try every stage."""
    group = distributed.process_group(config.trainer.device, minutes=config.trainer.timeout_minutes)
    with group as device, tempfile.TemporaryDirectory() as scratch:
        folder = Path(distributed.broadcast_object(scratch)) / "run" if args.dry_run else output
        trainer = build_trainer(config, folder, device, resume=args.resume, dry_run=args.dry_run)
        finished = trainer.fit()
        trainer.log.close()
        if cli.is_main_process():
            print("dry run: every stage works" if args.dry_run else f"{'done' if finished else 'stopped'}: {folder}")


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    if args.schema:
        print(dump_schema(), end="")
        return 0
    cli.set_up_logging()
    try:
        config, output = read_arguments(args)
    except ValueError as error:
        return cli.report_error(error) if cli.is_main_process() else 2  # every process finds the same mistake
    interrupted = "--resume goes on from the last checkpoint, if there is one"
    return cli.run(lambda: train(config, output, args), interrupted=interrupted)


if __name__ == "__main__":
    sys.exit(main())
