"""Where runs are executed: submitit's local, debug and SLURM executors, and what differs between them here."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guidance.experiments.jobs.work import GRACE, Work
from guidance.runs.files import write_atomically

LOG = logging.getLogger(__name__)
JOBS = "jobs.json"
YEARS = 60 * 24 * 3650  # minutes: on this machine nothing ends a run for the time that it takes


@dataclass(frozen=True)
class Executor:
    """Where runs are executed."""

    submit: Callable[[Sequence[Work]], list[Any]]  # the submitit job of each
    stop: Callable[
        [Mapping[str, Any]], bool
    ]  # asks jobs, by the names of their runs, to save and end; False: they go on
    slots: int | None = None  # runs at a time; None: all that are ready are handed over at once
    environments: Sequence[Mapping[str, str]] = field(default=({},))  # of each slot
    adopt: Callable[[], dict[str, Any]] = dict  # jobs of an earlier start that are not done, by the names of their runs
    poll: float = 0.2  # seconds between two looks at the jobs
    again: bool = False  # whether a run that was interrupted from outside, by preemption, is submitted again


def import_submitit() -> Any:
    """The library, which nothing else here needs. Raises ValueError where it is not installed."""
    try:
        import submitit
    except ImportError as error:
        raise ValueError(
            f"experiments are run by submitit, which is not here ({error}): pip install -e .[sweeps]"
        ) from error
    return submitit


def local_executor(folder: Path, *, slots: int, gpus: Sequence[str] = (), gpus_per_run: int = 1) -> Executor:
    """`slots` runs at a time on this machine. `gpus`: the ids of its GPUs, of which each slot has `gpus_per_run` of its own.

    Without GPUs the slots share the cores. Raises ValueError where there are not as many GPUs.
    """
    submitit = import_submitit()
    if gpus and slots * gpus_per_run > len(gpus):
        raise ValueError(
            f"{slots} run(s) at a time with {gpus_per_run} GPU(s) each need {slots * gpus_per_run}, but there are {len(gpus)}: "
            "lower --slots or --gpus"
        )
    executor = submitit.LocalExecutor(folder)
    executor.update_parameters(timeout_min=YEARS)

    def submit(works: Sequence[Work]) -> list[Any]:
        return [executor.submit(work) for work in works]

    def stop(jobs: Mapping[str, Any]) -> bool:
        for job in jobs.values():
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(int(job.job_id), signal.SIGTERM)  # submitit's controller hands it on
        return True

    return Executor(submit, stop, slots, [_slot(i, slots, gpus, gpus_per_run) for i in range(slots)])


def _slot(index: int, slots: int, gpus: Sequence[str], gpus_per_run: int) -> dict[str, str]:
    own = gpus[index * gpus_per_run : (index + 1) * gpus_per_run]
    shown = {"CUDA_VISIBLE_DEVICES": ",".join(own)}
    if slots > 1 and not gpus and "OMP_NUM_THREADS" not in os.environ:
        shown["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // slots))  # more threads only wait for each other
    return shown


@contextmanager
def undisturbed() -> Iterator[None]:
    """Around starting jobs and taking note of them: who asks this process to stop meanwhile is heard when that is done.

    What is started has SIGINT blocked for good: a terminal sends ctrl-C to all, and submitit's controller would kill at once.
    To be used in the main thread, which signals come to.
    """
    heard: list[int] = []
    numbers = [
        number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None
    ]
    former = {number: signal.getsignal(number) for number in numbers}
    for number, handler in former.items():
        if handler != signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda received, _: heard.append(received))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in former.items():
            signal.signal(number, handler)
    if heard:
        signal.raise_signal(heard[0])


def debug_executor(folder: Path) -> Executor:
    """One run after another, watched by this process itself, so that a debugger can look at what submits it."""
    executor = import_submitit().DebugExecutor(folder)
    return Executor(lambda works: [executor.submit(work) for work in works], lambda jobs: False, slots=1)


def slurm_executor(folder: Path, *, parameters: Mapping[str, Any], slots: int | None = None) -> Executor:
    """Runs as SLURM job arrays, of which `slots` run at a time. `parameters` as `submitit.SlurmExecutor` takes them.

    A job that is preempted or runs out of time saves and is queued again. Jobs outlive the command that submitted them, and are
    found again by the next one. Raises ValueError for an unknown parameter, and where there is no SLURM.
    """
    submitit = import_submitit()
    try:
        executor = submitit.SlurmExecutor(folder, max_num_timeout=1000)
    except RuntimeError as error:
        raise ValueError(f"{error} Without --slurm the runs are executed on this machine") from error
    fixed: dict[str, Any] = {"ntasks_per_node": 1, "signal_delay_s": int(GRACE) + 60}
    if slots is not None:
        fixed["array_parallelism"] = slots
    executor.update_parameters(**(fixed | dict(parameters)))
    log = folder / JOBS

    def submit(works: Sequence[Work]) -> list[Any]:
        with executor.batch():
            jobs: list[Any] = [executor.submit(work) for work in works]
        write_atomically(
            log, json.dumps(_read_jobs(log) | {w.name: j.job_id for w, j in zip(works, jobs, strict=True)})
        )
        return jobs

    def adopt() -> dict[str, Any]:
        tasks = list(range(int(parameters.get("nodes", 1))))
        jobs: dict[str, Any] = {
            name: submitit.SlurmJob(folder, job, tasks=tasks) for name, job in _read_jobs(log).items()
        }
        return {name: job for name, job in jobs.items() if not job.done()}

    def stop(jobs: Mapping[str, Any]) -> bool:
        if jobs:
            ids = " ".join(str(job.job_id) for job in jobs.values())
            print(f"{len(jobs)} jobs go on in SLURM; `scancel --signal=TERM {ids}` makes them save and end")
        return False

    return Executor(submit, stop, adopt=adopt, poll=10.0, again=True)


def _read_jobs(path: Path) -> dict[str, str]:
    return dict(json.loads(path.read_text())) if path.is_file() else {}
