"""What a run will take: told when a few of its steps have been timed, long before its first epoch is over."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from guidance.objectives import Counts, Losses, Objective, Term
from guidance.progress import duration
from guidance.training.stopwatch import OTHER, TRAINING, Clock
from guidance.types import Batch, Forward

if TYPE_CHECKING:
    from guidance.training.trainer import Trainer

TIMED = 5  # steps, after a first one that warms up


class GuidanceTimer:
    """Times the terms of annotated regions inside the steps of training: their maps and losses, and the way back through these.

    Nothing is computed for it. Autograd works off what was computed last first, so of a backward pass the time of these terms
    is what goes by from the gradient of their losses to that of the logits; where maps are made by autograd itself, on a GPU,
    the order is not promised, and the time may be too short.
    """

    def __init__(self, objective: Objective, clock: Clock) -> None:
        self.objective, self.clock, self._terms = objective, clock, objective.terms
        self._laps: list[tuple[Any, Any]] = []
        self._since: Any = None  # the beginning of the backward pass that goes on
        objective.terms = tuple(self._watched(term) if term.items == "regions" else term for term in self._terms)

    @property
    def guided(self) -> bool:
        """Whether the objective has such terms."""
        return any(term.items == "regions" for term in self._terms)

    def seconds(self) -> float:
        """Of all steps since the last call. Waits for the device."""
        laps, self._laps = self._laps, []
        return sum(self.clock.seconds(*lap) for lap in laps)

    def detach(self) -> None:
        """Leave the objective as it was."""
        self.objective.terms = self._terms

    def _watched(self, term: Term) -> Term:
        return replace(term, losses=partial(self._timed, term.losses))

    def _timed(
        self, losses: Callable[[Forward, Batch, Counts], Losses], out: Forward, batch: Batch, counts: Counts
    ) -> Losses:
        begin = self.clock.now()
        found = losses(out, batch, counts)
        self._laps.append((begin, self.clock.now()))
        if found.values is not None and found.values.requires_grad and out.logits.requires_grad:
            found.values.register_hook(self._backward_begins)  # type: ignore[no-untyped-call]
            out.logits.register_hook(self._logits_reached)  # type: ignore[no-untyped-call]
        return found

    def _backward_begins(self, gradient: Tensor) -> None:
        self._since = self._since or self.clock.now()

    def _logits_reached(self, gradient: Tensor) -> None:
        if self._since is not None:
            self._laps.append((self._since, self.clock.now()))
            self._since = None


@dataclass(frozen=True)
class Foreseen:
    """What was measured of a run, and what it has still to do."""

    steps: int  # of the whole run
    left: int  # steps to go
    length: int  # steps of an epoch
    timed: int  # steps; 0: there was only the first
    step: float  # seconds
    guidance: float | None  # share of a step; None without guidance
    evaluation: float  # seconds
    images: int  # of an evaluation
    memory: float  # bytes
    where: str  # the memory is
    compiled: bool = False  # and guided, so that the time of the maps is not seen

    def lines(self) -> list[str]:
        """For people, three of them."""
        epoch = self.length * self.step + self.evaluation
        total = self.left * epoch / self.length
        timed = f"{self.timed} timed" if self.timed else "the first one, which is slower than others"
        guidance = "no guidance"
        if self.compiled:
            guidance = "what guidance takes is a part of the compiled net and not timed alone"
        elif self.guidance is not None:
            guidance = (
                f"guidance about {self.guidance:.0%} of a step (maps, losses and their gradient, in the same steps)"
            )
        return [
            f"forecast: {self.left} of {self.steps} steps to go, {self.length} in an epoch; {self.step:.3g} s a step "
            f"({timed}), about {duration(epoch)} an epoch, {duration(total)} in all",
            f"forecast: {guidance}; evaluation about {self.evaluation / epoch:.0%} of an epoch "
            f"({self.images} images, as fast as some of the training images were)",
            f"forecast: peak memory so far {self.memory / 1e9:.3g} GB {self.where}",
        ]


class Forecast:
    """Called after each step of training, it tells what it foresees after the first few, once, and then leaves things alone.

    `epochs`: of the whole run. `evaluation`: seconds of one evaluation, from the latest batch of training, of `images` images.
    """

    def __init__(
        self, objective: Objective, clock: Clock, *, epochs: int, evaluation: Callable[[Batch], float], images: int,
        tell: Callable[[str], object],
    ) -> None:  # fmt: skip
        self.epochs, self.evaluation, self.images, self.tell = epochs, evaluation, images, tell
        self.objective = objective
        self._guidance: GuidanceTimer | None = GuidanceTimer(objective, clock)
        self._steps, self._begin, self._graphs = 0, 0.0, 0

    def __call__(self, trainer: Trainer, batch: Batch) -> None:
        """After a step from `batch`, the whole share of this process."""
        if self._guidance is None or not len(batch.images):  # all of them unreadable, and left out
            return
        graphs = 0 if self.objective.compiled is None else self.objective.compiled.graphs
        waited = graphs > self._graphs  # for the compiler, which says nothing of other steps
        self._steps, self._graphs = 0 if waited else self._steps, graphs
        self._steps += 1
        last = not waited and trainer.position == trainer.options.length(trainer.loader.batches_per_epoch)
        if self._steps > TIMED or last:
            lines = self._foresee(trainer, batch, self._guidance).lines()
            self._guidance.detach()
            self._guidance = None
            for line in lines:
                self.tell(line)
        elif self._steps == 1:
            self._begin = training_seconds(trainer)
            self._guidance.seconds()

    def _foresee(self, trainer: Trainer, batch: Batch, guidance: GuidanceTimer) -> Foreseen:
        seconds, timed = training_seconds(trainer) - self._begin, self._steps - 1
        length, device = trainer.loader.batches_per_epoch, trainer.options.device
        steps = self.epochs * length
        evaluation = self.evaluation(batch.chunk(trainer.options.accumulate)[0])
        memory, where = peak_memory(device)
        return Foreseen(
            steps=steps, left=max(steps - trainer.step, 0), length=length, timed=timed, step=seconds / max(timed, 1),
            guidance=guidance.seconds() / seconds if guidance.guided else None, evaluation=evaluation,
            images=self.images, memory=memory, where=where,
            compiled=guidance.guided and self.objective.compiled is not None,
        )  # fmt: skip


def training_seconds(trainer: Trainer) -> float:
    """What the steps took so far in this epoch, with all that comes again with each of them."""
    seconds = trainer.stopwatch.seconds()
    return sum(seconds.get(name, 0.0) for name in (*TRAINING, OTHER))


def peak_memory(device: torch.device) -> tuple[float, str]:
    """Bytes that were in use at once so far, and where; NaN where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device), "on the GPU"
    try:
        import resource
    except ImportError:  # Windows
        return math.nan, "in this process"
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "in this process, without loader workers"
