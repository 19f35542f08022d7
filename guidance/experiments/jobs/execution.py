"""Executes the runs of an experiment, each when what it starts from is finished; one that fails does not stop the rest."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from tqdm import tqdm

from guidance.experiments.evaluation import missing
from guidance.experiments.jobs.executors import Executor, undisturbed
from guidance.experiments.jobs.work import Work
from guidance.experiments.keeping import prune
from guidance.experiments.outcomes import FAILED, FINISHED, INTERRUPTED, Outcome, write_outcome
from guidance.experiments.planning import Planned, save, with_weights
from guidance.experiments.states import RunState, epochs_logged
from guidance.progress import Progress

NOT_STARTED, UNREADABLE = "not started", "unreadable"
HOW = {FAILED: "failed", INTERRUPTED: "was interrupted", NOT_STARTED: "was not started"}


class SweepInterruptedError(Exception):
    """The sweep was asked to stop, and has stopped."""


@dataclass
class Sweep:
    """Runs that are to be executed, being executed, and done."""

    planned: Planned
    executor: Executor
    make: Callable[[Planned, str, Mapping[str, str]], Work]  # (plan, run, environment of its slot)
    waiting: list[str]  # in the order in which they are started
    jobs: dict[str, Any] = field(default_factory=dict)  # submitit jobs of those that run
    ended: dict[str, Outcome] = field(default_factory=dict)
    slots: dict[str, int] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)  # runs whose training is finished, also those of earlier starts
    preempted: dict[str, int] = field(default_factory=dict)  # the step at which each was, the last time
    noted: float = 0.0  # when the progress of the running ones was last read

    def run(self) -> dict[str, Outcome]:
        """How each run ended. Raises SweepInterruptedError after ctrl-C or SIGTERM, when those that ran have saved."""
        total = len(self.waiting)
        self.jobs |= {name: job for name, job in self.executor.adopt().items() if name in self.waiting}
        self.waiting = [name for name in self.waiting if name not in self.jobs]
        try:
            with _interrupted_by_signals(), Progress("runs", total, unit="run") as bar:
                while self.waiting or self.jobs:
                    self._start()
                    self._collect(bar)
                    self._note(bar)
                    if self.jobs:
                        time.sleep(self.executor.poll)
        except KeyboardInterrupt:
            self._stop()
            raise SweepInterruptedError from None
        return self.ended

    def _note(self, bar: Progress) -> None:
        if time.monotonic() - self.noted > 2:
            self.noted, configs = time.monotonic(), self.planned.configs
            done = {name: epochs_logged(self.planned.run_folder(name)) for name in self.jobs}
            bar.note({name: f"{epoch}/{configs[name].trainer.epochs}" for name, epoch in done.items()})

    def _start(self) -> None:
        """Submit what can be started, and tell what cannot."""
        works: list[Work] = []
        for name in list(self.waiting):
            if self.executor.slots is not None and len(self.jobs) + len(works) >= self.executor.slots:
                break
            if not self._ready(name):
                continue
            self.waiting.remove(name)
            if self.planned.drawn[name].candidates:
                try:
                    self.planned = with_weights(self.planned, name)
                except ValueError as error:
                    self._tell(name, Outcome(FAILED, str(error)))
                    continue
                save(self.planned)
            used = set(self.slots.values())
            slot = next(i for i in range(len(used) + 1) if i not in used)
            environments = self.executor.environments
            works.append(self.make(self.planned, name, environments[slot % len(environments)]))
            self.slots[name] = slot
        if works:
            with undisturbed():
                jobs = self.executor.submit(works)
                self.jobs |= {work.name: job for work, job in zip(works, jobs, strict=True)}

    def _ready(self, name: str) -> bool:
        """Whether all that a run may start from is finished; where that will not happen, it is told and waits no more."""
        candidates = self.planned.drawn[name].candidates
        lost = [other for other in candidates if other in self.ended and other not in self.finished]
        if lost:
            self.waiting.remove(name)
            self._tell(name, Outcome(NOT_STARTED, f"it starts from {', and from '.join(map(self._how, lost))}"))
            return False
        return all(other in self.finished for other in candidates)

    def _how(self, name: str) -> str:
        """How a run ended that others wait for in vain, and if it waited itself, for what."""
        ended = self.ended[name]
        return f"{name}, which {HOW[ended.kind]}" + (f" ({ended.remark})" if ended.kind == NOT_STARTED else "")

    def _collect(self, bar: Progress) -> None:
        """Take note of the jobs that have ended."""
        for name, job in list(self.jobs.items()):
            if not job.done():
                continue
            step = self._state(name).step
            del self.jobs[name]
            self.slots.pop(name, None)
            outcome = self._outcome(name, job)
            if outcome.kind == FINISHED:
                prune(self.planned, name)
            if outcome.kind == INTERRUPTED and self.executor.again and step > self.preempted.get(name, -1):
                self.waiting.insert(0, name)  # it comes further each time
                self.preempted[name] = step
                continue
            bar.update()
            self._tell(name, outcome)

    def _state(self, name: str) -> RunState:
        """Of the run's folder. A checkpoint that cannot be read, as after a fault of the disk, is the end of that run only."""
        try:
            return self.planned.state(name)
        except (OSError, ValueError) as error:
            return RunState(UNREADABLE, remark=str(error))

    def _outcome(self, name: str, job: Any) -> Outcome:
        """How a job ended: what it returned, and what lies in the folder of its run."""
        try:
            outcome: Outcome = job.results()[0]
        except Exception as error:  # submitit's, of a job that has left nothing
            lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
            outcome = Outcome(FAILED, f"its job has ended without a word ({lines[-1].strip()})")
        state = self._state(name)
        if state.kind == FINISHED:
            self.finished.add(name)
            if outcome.kind != FAILED and not missing(self.planned.run_folder(name), self.planned.experiment.evaluate):
                return Outcome(FINISHED, "", outcome.seconds, outcome.steps)
        if outcome.kind != FAILED and state.kind == UNREADABLE:
            outcome = Outcome(FAILED, state.remark, outcome.seconds, outcome.steps)
        if outcome.kind == FAILED:
            write_outcome(self.planned.log(name, ".json"), outcome)
            return outcome
        return Outcome(INTERRUPTED, state.remark, outcome.seconds, outcome.steps)

    def _tell(self, name: str, outcome: Outcome) -> None:
        self.ended[name] = outcome
        tqdm.write(f"{name}: {outcome.kind}{f': {outcome.remark}' if outcome.remark else ''}")

    def _stop(self) -> None:
        """Make what runs save and end, and wait for it."""
        if self.jobs:
            tqdm.write(f"stopping: {', '.join(self.jobs)} write their checkpoints; this may take a minute")
        if not self.executor.stop(self.jobs):
            return
        with _deaf():
            while self.jobs:
                for name, job in list(self.jobs.items()):
                    if job.done():
                        del self.jobs[name]
                        self._tell(name, self._outcome(name, job))
                time.sleep(self.executor.poll)


STOPS = ("SIGTERM", "SIGHUP")


@contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """SIGTERM and a closed terminal do what ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handling(dict.fromkeys(STOPS, interrupt)):
        yield


@contextmanager
def _deaf() -> Iterator[None]:
    """Being asked to stop once is enough."""
    with _handling(dict.fromkeys((*STOPS, "SIGINT"), signal.SIG_IGN)):
        yield


@contextmanager
def _handling(handlers: Mapping[str, Any]) -> Iterator[None]:
    former = {name: signal.getsignal(getattr(signal, name)) for name in handlers}
    for name, handler in handlers.items():
        if former[name] != signal.SIG_IGN:  # as under nohup
            signal.signal(getattr(signal, name), handler)
    try:
        yield
    finally:
        for name, handler in former.items():
            signal.signal(getattr(signal, name), handler)


def execute(
    planned: Planned,
    executor: Executor,
    make: Callable[[Planned, str, Mapping[str, str]], Work],
    *,
    names: Sequence[str],
    finished: Sequence[str] = (),
) -> dict[str, Outcome]:
    """Execute the runs `names`; `finished` are trained already. Returns how each ended, see `Sweep.run`."""
    return Sweep(planned, executor, make, list(names), finished=set(finished)).run()
