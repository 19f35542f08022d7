"""Run an experiment: all runs of a file, with their stages, seeds and grids.

    python launch/sweep.py configs/experiments/demo.yaml --plan     # what would run, and how long that may take
    python launch/sweep.py configs/experiments/demo.yaml            # one run after another
    python launch/sweep.py EXPERIMENT.yaml --slots 4                # four at a time on this machine; on GPUs, one each
    python launch/sweep.py EXPERIMENT.yaml --slurm --partition gpu --time 240 --gpus 4 --nodes 2
    python launch/sweep.py EXPERIMENT.yaml --only energy --seeds 0 1 --set data.root=/path/to/data
    python launch/sweep.py --schema > configs/experiments/schema.json   # with which editors complete and check such a file

The same command goes on where an earlier one stopped: finished runs are skipped, interrupted and failed ones resumed. Runs
whose settings have changed are refused. Ctrl-C (or SIGTERM) makes the running ones save, and ends. Exit code 0: all finished.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from guidance import cli

if not cli.asks_for_help():
    from guidance.config import dump_config, read_overrides
    from guidance.experiments.definition.json_schema import dump_experiment_schema
    from guidance.experiments.definition.reading import load_experiment
    from guidance.experiments.evaluation import missing
    from guidance.experiments.expansion import select
    from guidance.experiments.jobs.execution import SweepInterruptedError, execute
    from guidance.experiments.jobs.executors import Executor, debug_executor, local_executor, slurm_executor
    from guidance.experiments.jobs.work import Work
    from guidance.experiments.keeping import prune
    from guidance.experiments.outcomes import FINISHED
    from guidance.experiments.overview import ending, plan_table
    from guidance.experiments.planning import LOGS, Planned, prepare, refuse_changed, save
    from guidance.experiments.states import config_to_resume
    from guidance.runs.files import write_atomically
    from guidance.runs.locks import lock_folder

TRAIN = Path(__file__).absolute().with_name("train.py")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.build_parser(__doc__, abbreviations=False)
    parser.add_argument("experiment", type=Path, nargs="?", help="YAML file")
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of such files")
    parser.add_argument("--output", type=Path, help="its folder; runs/<name of the file> by default")
    parser.add_argument("--plan", action="store_true", help="print the runs, write and start nothing")
    parser.add_argument("--only", nargs="+", metavar="GROUP", help="these groups, and the stages that they start from")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="of the experiment's seeds, these")
    cli.add_overrides(parser, purpose=" of all runs")
    parser.add_argument("--slots", type=int, metavar="N", help="runs at a time (default: one for each GPU, else 1)")
    parser.add_argument(
        "--gpus", type=int, metavar="N", help="of each run, on each machine (default: 1 where there are any)"
    )
    parser.add_argument(
        "--processes", type=int, metavar="N", help="of each run, on each machine (default: one for each GPU)"
    )
    parser.add_argument(
        "--timeout", type=float, default=60, metavar="MINUTES",
        help="a run hangs, and is ended as failed, when its training or evaluation adds nothing to its log or metrics.jsonl "
        "for so long; both tell their progress once a minute (default: 60; 0: never)",
    )  # fmt: skip
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--slurm", action="store_true", help="submit job arrays to SLURM")
    where.add_argument(
        "--debug", action="store_true", help="submitit's debug executor: one run at a time, in this process"
    )
    parser.add_argument("--partition", help="of SLURM")
    parser.add_argument(
        "--time", type=int, default=240, metavar="MINUTES", help="of a SLURM job; longer runs are queued again"
    )
    parser.add_argument("--nodes", type=int, default=1, help="machines of each run (SLURM)")
    parser.add_argument(
        "--slurm-set", nargs="+", action="extend", default=[], metavar="NAME=VALUE",
        help="other parameters of submitit's SlurmExecutor, such as account=x cpus_per_task=8 mem=64GB",
    )  # fmt: skip
    args = parser.parse_args(argv)
    if args.experiment is None and not args.schema:
        parser.error("give the YAML file of an experiment")
    for name in ("slots", "gpus", "processes", "nodes", "time", "timeout"):
        value = getattr(args, name)
        if value is not None and (value < 0 or (value == 0 and name not in ("gpus", "timeout"))):
            parser.error(f"--{name} {value} is not above 0")
    if args.nodes > 1 and not args.slurm:
        parser.error("--nodes needs --slurm; on this machine a run has --processes")
    return args


def visible_gpus(args: argparse.Namespace) -> list[str]:
    """The ids of the GPUs that runs may use here; none where SLURM will give them."""
    import torch

    if args.slurm or args.gpus == 0 or not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]


def build_executor(args: argparse.Namespace, output: Path, gpus: list[str]) -> Executor:
    """Where the runs go."""
    folder = output / LOGS / "submitit"
    if args.slurm:
        parameters = {"time": args.time, "nodes": args.nodes, "job_name": output.name} | read_overrides(args.slurm_set)
        if args.partition:
            parameters["partition"] = args.partition
        if args.gpus:
            parameters["gpus_per_node"] = args.gpus
        return slurm_executor(folder, parameters=parameters, slots=args.slots)
    if args.debug:
        return debug_executor(folder)
    return local_executor(folder, slots=slots_of(args, gpus), gpus=gpus, gpus_per_run=args.gpus or 1)


def slots_of(args: argparse.Namespace, gpus: list[str]) -> int:
    """Runs at a time."""
    return args.slots or max(1, len(gpus) // (args.gpus or 1))


def processes_of(args: argparse.Namespace, gpus: list[str]) -> int:
    """Processes of a run on one machine."""
    return args.processes or (args.gpus or 1 if gpus or args.slurm else 1)


def make_work(
    args: argparse.Namespace, processes: int, planned: Planned, name: str, environment: Mapping[str, str]
) -> Work:
    """The run as it is submitted; the config that it is started with is written beside its log."""
    folder, config = planned.run_folder(name), planned.log(name, ".yaml")
    config.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(config, dump_config(config_to_resume(folder, planned.configs[name])))
    imports = [word for module in args.imports or () for word in ("--import", module)]
    train = [str(TRAIN), "--config", str(config), "--output", str(folder), "--resume", *imports]
    if planned.state(name).kind == FINISHED:
        train = []  # only evaluations are missing
    evaluate = [item.model_dump(mode="json", by_alias=True) for item in planned.experiment.evaluate]
    return Work(
        name,
        folder,
        planned.log(name),
        train,
        processes,
        environment,
        args.timeout or None,
        evaluate,
        args.imports or (),
    )


def sweep(args: argparse.Namespace) -> int:
    """Do what the command does; returns the exit code."""
    output = args.output or Path("runs") / args.experiment.stem
    gpus = visible_gpus(args)
    processes = processes_of(args, gpus)
    experiment = load_experiment(args.experiment, args.set)
    planned = prepare(experiment, output, processes=processes * args.nodes)
    chosen = [item.run.name for item in select(list(planned.drawn.values()), only=args.only, seeds=args.seeds)]
    if args.plan:
        print(
            plan_table(
                planned, {name: planned.state(name) for name in chosen}, slots=args.slots or slots_of(args, gpus)
            )
        )
        return 0
    planned = refuse_changed(planned)
    executor = build_executor(args, planned.folder, gpus)
    planned.folder.mkdir(parents=True, exist_ok=True)
    lock = lock_folder(planned.folder)  # one sweep at a time
    save(planned)
    finished = [name for name in planned.drawn if planned.state(name).kind == FINISHED]
    done = [n for n in finished if not missing(planned.run_folder(n), experiment.evaluate)]
    for name in done:
        prune(planned, name)  # what was interrupted, and what an earlier start was asked to keep
    names = [name for name in chosen if name not in done]
    print(f"{planned.folder}: {len(chosen)} runs, {len(chosen) - len(names)} of them finished", flush=True)
    again = f"go on with: python {shlex.join(sys.argv)}"
    try:
        ended = execute(
            planned, executor, lambda plan, name, slot: make_work(args, processes, plan, name, slot), names=names,
            finished=finished,
        )  # fmt: skip
    except SweepInterruptedError:
        print(f"interrupted; nothing is lost, {again}", file=sys.stderr)
        return 130
    finally:
        if lock is not None:
            lock.close()
    print(ending(planned, ended))
    failed = any(outcome.kind != FINISHED for outcome in ended.values())
    if failed:
        print(again)
    return int(failed)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    if args.schema:
        print(dump_experiment_schema(), end="")
        return 0
    cli.set_up_logging()
    logging.getLogger("submitit").setLevel(logging.WARNING)
    return cli.run(lambda: sweep(args))


if __name__ == "__main__":
    sys.exit(main())
