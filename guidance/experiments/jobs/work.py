"""One run as it is submitted: the command that trains it, and the one that evaluates its front, both watched.

It is pickled and may start on another machine, so it holds plain types; while it waits, it needs no torch.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

from guidance.experiments.jobs.processes import ended_with_parent, is_locked, wait_for_end
from guidance.experiments.outcomes import (
    FAILED,
    FINISHED,
    INTERRUPTED,
    UNFINISHED,
    Outcome,
    error_line,
    last_step,
    write_outcome,
)
from guidance.runs.paths import METRICS

GRACE, FORCE = 90.0, 45.0  # seconds for a checkpoint; for torchrun to end its processes
STOPS = ("SIGTERM", "SIGHUP")
EVALUATION = (sys.executable, "-m", "guidance.experiments.jobs.evaluating")


@dataclass
class Work:
    """Calling it trains a run from where it stands, and returns how that ended; it never raises an error of the run."""

    name: str
    folder: Path  # of the run
    log: Path  # what the training prints is added to it
    train: Sequence[str]  # launch/train.py and its arguments; empty where only evaluations are missing
    processes: int = 1  # on each machine
    environment: Mapping[str, str] = field(default_factory=dict)
    timeout: float | None = (
        None  # minutes without anything new in log and metrics.jsonl, after which it hangs; None: never
    )
    evaluate: Sequence[Mapping[str, Any]] = ()  # as in the file of the experiment
    imports: Sequence[str] = ()

    def __post_init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._started, self._stopping = 0.0, False

    def __call__(self) -> Outcome:
        main = _node() == 0
        place = self.log.with_suffix(".json")
        if main:
            place.unlink(missing_ok=True)
        with self._stopped_by_signals(), _environment(self.environment):
            outcome = self._run()
        if main:
            write_outcome(place, outcome)
        return outcome

    def checkpoint(self) -> Any:
        """What submitit calls before the job is taken away: the training writes its checkpoint; the rest is for later."""
        from submitit.helpers import DelayedSubmission

        self._stopping = True
        if self._process is not None:
            self._ask_to_stop(self._process)
            wait_for_end(self._process, GRACE)
        return DelayedSubmission(replace(self))

    def command(self) -> list[str]:
        """How the training is started on this machine: through torchrun where the run has several processes."""
        nodes = _environ("num_nodes", 1)
        if self.processes == 1 and nodes == 1:
            return [sys.executable, *self.train]
        torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={self.processes}"]
        if nodes == 1:
            return [*torchrun, "--standalone", *self.train]
        job = str(_environ("job_id", "0"))
        port = 20000 + sum(int(part) for part in job.split("_") if part.isdigit()) % 20000
        main = _environ("hostnames", ["localhost"])[0]
        return [
            *torchrun, f"--nnodes={nodes}", f"--node_rank={_node()}", f"--master_addr={main}", f"--master_port={port}",
            *self.train,
        ]  # fmt: skip

    def evaluation(self) -> list[str]:
        """How the front is evaluated: in a process of its own, which can be watched and ended as the training is."""
        return [*EVALUATION, str(self.folder), json.dumps([dict(item) for item in self.evaluate]), *self.imports]

    def _run(self) -> Outcome:
        log = self.log if _node() == 0 else self.log.with_suffix(f".node{_node()}.log")
        log.parent.mkdir(parents=True, exist_ok=True)
        self._wait_for_lock()
        before, begin = last_step(self.folder / METRICS), time.monotonic()
        ended = self._execute(self.command(), log) if self.train else None
        if ended is not None:
            return ended
        seconds, steps = time.monotonic() - begin, max(0, last_step(self.folder / METRICS) - before)
        if self.evaluate and _node() == 0:
            ended = self._execute(self.evaluation(), log, "its evaluation: ")
        return replace(ended or Outcome(FINISHED), seconds=seconds, steps=steps)

    def _execute(self, command: list[str], log: Path, what: str = "") -> Outcome | None:
        """None where the command has ended well; else how it ended."""
        start = _size(log)
        try:
            code, hung = self._watch(command, log)
        except OSError as error:
            return Outcome(FAILED, f"{what}it cannot be started: {error}")
        if hung:
            quiet = f"nothing new in its log and metrics.jsonl for {self.timeout:g} minutes"
            return Outcome(FAILED, f"{what}it hangs: {quiet}, so it was ended")
        if self._stopping or code == UNFINISHED:
            return Outcome(INTERRUPTED)
        if code:
            with open(log, "rb") as file:
                file.seek(start)
                return Outcome(FAILED, what + error_line(file.read().decode(errors="replace"), code))
        return None

    def _watch(self, command: list[str], log: Path) -> tuple[int, bool]:
        """The exit code, and whether it was ended because nothing came any more."""
        with open(log, "ab") as file:
            file.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {shlex.join(command)}\n".encode())
            file.flush()
            # In a session of its own: signals to the group of this process, such as that of ctrl-C, reach it through us alone.
            self._started = time.time()
            self._process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=ended_with_parent()
            )
        process, hung = self._process, False
        try:
            seen, when = (-1, -1), time.monotonic()
            while process.poll() is None:
                now = _size(log), _size(self.folder / METRICS)  # guidance.progress adds a line once a minute
                seen, when = (seen, when) if now == seen else (now, time.monotonic())
                hung = self.timeout is not None and time.monotonic() - when > self.timeout * 60
                if hung or self._stopping:
                    break
                time.sleep(0.2)
        finally:
            self._end(process)
        return process.returncode, hung

    def _wait_for_lock(self) -> None:
        """Let a training whose watcher was killed write its checkpoint; who else holds the run, it will say itself."""
        end = time.monotonic() + GRACE
        while not self._stopping and time.monotonic() < end and is_locked(self.folder / ".lock"):
            time.sleep(0.2)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """End the training if it has not ended: after its checkpoint, if it can write one."""
        if process.poll() is None:
            self._ask_to_stop(process)
            if not wait_for_end(process, GRACE):
                process.terminate()
                wait_for_end(process, FORCE)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with what it has left behind, such as loader workers
        process.wait()

    def _ask_to_stop(self, process: subprocess.Popen[bytes]) -> None:
        # torchrun ends its processes and reports an error; one of these, asked itself, makes all of them save and end well.
        lock = self.folder / ".lock"
        with suppress(OSError, ValueError, KeyError, TypeError):
            if "torch.distributed.run" in process.args and lock.stat().st_mtime >= self._started:  # type: ignore[operator]
                holder = json.loads(lock.read_text())
                if holder["host"] == socket.gethostname():
                    os.kill(int(holder["pid"]), signal.SIGUSR1)
                    return
        process.terminate()

    @contextmanager
    def _stopped_by_signals(self) -> Iterator[None]:
        former = {name: signal.getsignal(getattr(signal, name)) for name in STOPS}

        def stop(number: int, frame: FrameType | None) -> None:
            self._stopping = True
            before = former[signal.Signals(number).name]
            if callable(before):  # such as that of the sweep, where this process is it
                before(number, frame)

        for name, handler in former.items():
            if handler != signal.SIG_IGN:  # as SIGHUP under nohup
                signal.signal(getattr(signal, name), stop)
        try:
            yield
        finally:
            for name, handler in former.items():
                signal.signal(getattr(signal, name), handler)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # it is not there yet
        return 0


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    former = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in former.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _environ(name: str, default: Any) -> Any:
    """What submitit says of the job that this process is in."""
    import submitit

    try:
        return getattr(submitit.JobEnvironment(), name)
    except RuntimeError:  # in none
        return default


def _node() -> int:
    return int(_environ("node", 0))
