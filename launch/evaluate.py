"""Evaluate a checkpoint on a split; prints the metrics and writes them, with all that decides them, into the run's results/.

    python launch/evaluate.py --checkpoint runs/demo/checkpoints/last.pt --split test
    torchrun --nproc_per_node=4 launch/evaluate.py --checkpoint RUN --split test --set data.root=/data/VOCdevkit
    python launch/evaluate.py --checkpoint RUN --split test --per-sample scores.csv   # a row for each (image, class)
    python launch/evaluate.py --model resnet50 --weights imagenet --data FOLDER       # a net that was trained elsewhere

A run folder stands for its last checkpoint. The IoU threshold is the checkpoint's own (fitted on validation where the config
says so); where another attribution, depth or region is set, it is that of the run's unless --refit fits it again. Other
settings make another file. A net of --model has no run: FOLDER holds a folder of images for each class (ImageNet's by name or
WordNet id), or is the root of a set of your own, or a config (.yaml) whose data section is meant; results go to
runs/<model>_<weights>/results/. The results do not depend on the number of processes. Beside the metrics stand p-value and 95 %
interval of the correlations of EPG with the size of the mask, and intervals of accuracies.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from guidance import cli

if not cli.asks_for_help():
    from guidance import distributed
    from guidance.evaluation.per_sample import write_table
    from guidance.evaluation.size_bias import epg_by_size
    from guidance.inference import Evaluation, evaluate_in_detail, evaluate_run, load_model
    from guidance.pictures.plots import plot_size_bins
    from guidance.results.files import result_path, write_result
    from guidance.results.tables import metric_table, size_table
    from guidance.runs.paths import last_checkpoint


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.build_parser(__doc__, abbreviations=False)
    net = parser.add_mutually_exclusive_group(required=True)
    net.add_argument("--checkpoint", type=Path, help="a checkpoint, or a run folder")
    net.add_argument("--model", help="a backbone (as model.name) whose weights were trained elsewhere")
    parser.add_argument("--weights", help="of --model: imagenet (default), another name in its row, or a file")
    parser.add_argument("--data", type=Path, help="of --model: a labelled folder, or a config")
    parser.add_argument("--split", default="test", help="a split of the data set (default: test)")
    cli.add_overrides(parser)
    parser.add_argument(
        "--refit", action="store_true", help="fit the IoU threshold on the validation split, with these settings"
    )
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the net first, which takes minutes: for sets of many thousand images",
    )
    parser.add_argument("--output", type=Path, help="JSON file; by default one of its own in the run's results/")
    parser.add_argument("--per-sample", type=Path, metavar="CSV", help="also write one row for each (image, class)")
    parser.add_argument("--size-plot", type=Path, metavar="PNG", help="also draw EPG by the size of the mask")
    cli.add_device(parser)
    args = parser.parse_args(argv)
    if args.checkpoint is not None and (args.weights or args.data):
        parser.error("--weights and --data belong to --model; change the data of a checkpoint with --set data.root=...")
    if args.model is not None and args.data is None:
        parser.error("--model needs --data: a folder of images for each class, or a config whose data section is meant")
    return args


def evaluated_file(args: argparse.Namespace) -> Path:
    """What is evaluated; for a net without a run a name where one would be."""
    if args.model is not None:
        weights = args.weights or "imagenet"
        name = args.model.replace("/", "_").replace(":", "_")
        return Path("runs", f"{name}_{Path(weights).stem}", "checkpoints", f"{Path(weights).stem}.pth")
    return last_checkpoint(args.checkpoint) if args.checkpoint.is_dir() else args.checkpoint  # type: ignore[no-any-return]


def write_results(args: argparse.Namespace, found: Evaluation) -> None:
    """Print the metrics; write them, and what else was asked for."""
    file = evaluated_file(args)
    output = args.output or result_path(file, args.split, found.settings)
    from guidance.evaluation.significance import accuracy_intervals, size_correlations  # needs scipy
    from guidance.results.comparison import significance_table

    correlations, accuracies = size_correlations(found.rows), accuracy_intervals(found.rows)
    write_result(
        output, found.metrics, found.settings,
        significance={name: row._asdict() for name, row in {**correlations, **accuracies}.items()},
    )  # fmt: skip
    name = f"{file}, epoch {found.settings['epoch']}," if args.model is None else f"{args.model} ({file.stem})"
    print(f"{name} on {args.split}: {found.description}")
    print(metric_table(found.metrics))
    print(significance_table(correlations, accuracies))
    written = [output]
    if args.per_sample:
        write_table(args.per_sample, found.table())
        written.append(args.per_sample)
    if args.size_plot:
        bins = epg_by_size(found.rows)
        print(f"\n{size_table(bins)}")
        args.size_plot.parent.mkdir(parents=True, exist_ok=True)
        plot_size_bins(bins).savefig(args.size_plot, dpi=200)
        written.append(args.size_plot)
    print(f"written to {', '.join(map(str, written))}")


def evaluate(args: argparse.Namespace) -> None:
    """Do what the command does."""
    with distributed.process_group(args.device) as device:
        every = ["evaluation.scores=all"] if args.per_sample else []
        settings = every + args.set
        if args.model is None:
            found = evaluate_in_detail(
                args.checkpoint, args.split, overrides=settings, device=device, refit=args.refit, compiled=args.compile
            )
        else:
            weights = args.weights or "imagenet"
            run = load_model(args.model, weights=weights, data=args.data, overrides=settings, device=device)
            found = evaluate_run(
                run, args.split, device=device, refit=args.refit, compiled=args.compile, path=args.model
            )
    if cli.is_main_process():
        write_results(args, found)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    cli.set_up_logging()
    return cli.run(lambda: evaluate(args))


if __name__ == "__main__":
    sys.exit(main())
