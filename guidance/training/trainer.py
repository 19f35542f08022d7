"""The training loop. It parses nothing and names nothing: objective, data, metrics and files are handed to it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader
from tqdm import tqdm

from guidance import distributed
from guidance.data import TrainBatches, abandon_workers, naming_killed_workers, read
from guidance.objectives import Objective
from guidance.progress import Progress
from guidance.runs.logs import Loggers
from guidance.training.guard import LossGuard, NonFiniteError, raise_non_finite
from guidance.training.run_state import (
    Means,
    StoppedWaitingError,
    StopRequest,
    get_rng,
    load_optimizer,
    natural,
    numbers,
    part,
    set_rng,
)
from guidance.types import COUNTED, Batch, Step

LOG = logging.getLogger(__name__)
# Counted over an epoch: by each process on its own, and (the last two) over the global batches.
TALLIED = (*COUNTED, "regions", "images")


class Saver(Protocol):
    """Where the trainer's results go; the run folder implements it."""

    def last(self, state: Callable[[], dict[str, Any]], *, metrics: Mapping[str, float]) -> None:
        """Write the checkpoint to resume from. Every process calls it."""

    def offer(self, *, epoch: int, step: int, metrics: Mapping[str, float]) -> bool:
        """Keep the current weights if they are Pareto-optimal. Every process calls it."""


class Trainer:
    """Trains an objective over epochs; every epoch ends with an evaluation, the Pareto front and a checkpoint.

    `loader` yields this process's share of the batches that `batches` plans. `evaluate(step)` returns the metrics of the
    current weights, the same on every process. `minimum` (metric name, value, epochs): stop when the best value so far is
    under `value` after that many epochs. `max_batches` shortens each epoch (dry run). A global batch is split into
    `accumulate` chunks. `precision` "bf16" runs the forward in autocast; attributions and losses stay in fp32.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: Optimizer,
        schedule: LRScheduler,
        loader: DataLoader[Batch],
        batches: TrainBatches,
        *,
        device: torch.device,
        evaluate: Callable[[int], dict[str, float]],
        saver: Saver,
        log: Loggers,
        epochs: int,
        accumulate: int = 1,
        clip_norm: float | None = None,
        precision: str = "fp32",
        minimum: tuple[str, float, int] | None = None,
        log_every: int = 10,
        checkpoint_every: int | None = None,
        max_batches: int | None = None,
    ) -> None:
        self.objective, self.optimizer, self.schedule = objective, optimizer, schedule
        self.loader, self.batches, self.device = loader, batches, device
        self.evaluate, self.saver, self.log = evaluate, saver, log
        self.epochs, self.accumulate, self.clip_norm, self.precision = epochs, accumulate, clip_norm, precision
        self.minimum, self.log_every, self.checkpoint_every = minimum, log_every, checkpoint_every
        self.max_batches = max_batches
        self.epoch, self.position, self.step = 0, 0, 0  # epochs done, batches done in this epoch, updates done
        self.best: dict[str, float] = {}
        self.metrics: dict[str, float] = {}
        self.window, self.total = Means(), Means()
        self.tally = dict.fromkeys(TALLIED, 0.0)
        self.guard = LossGuard()
        self.lines: int | None = None  # of the log, when it was last flushed
        self._resumed_rng: dict[str, Any] | None = None

    def fit(self) -> bool:
        """Train until the last epoch; False if a signal ended it early (a checkpoint to resume from was written)."""
        ddp = distributed.parallel(self.objective, self.device)
        if self._resumed_rng is not None:
            set_rng(self._resumed_rng)
        with StopRequest().listening() as stop, naming_killed_workers("go on with --resume"):
            while self.epoch < self.epochs and not self._hopeless():
                if not self._train_epoch(ddp, stop):
                    return False
                try:
                    self._finish_epoch(stop)
                except StoppedWaitingError:
                    abandon_workers()
                    self._say_stopped("during the evaluation")  # before which the weights were saved
                    return False
                if self.epoch < self.epochs and stop.agreed():
                    self._say_stopped()
                    return False
        return True

    def _say_stopped(self, when: str = "") -> None:
        if distributed.is_main():
            at = f"step {self.step}{f', {when}' if when else ''}"
            tqdm.write(f"stopped by a signal at {at}; the checkpoint is written, go on with --resume")

    def _give_up_waiting(self) -> None:
        """After a stop request, with data that do not come: save, where no other process is in the middle of a step."""
        abandon_workers()
        if distributed.world_size() == 1:
            self._save()
            self._say_stopped("while waiting for data")
        else:
            tqdm.write(
                f"process {distributed.rank()} was stopped by a signal while waiting for data that did not come; go on from "
                "the last checkpoint with --resume"
            )

    def _train_epoch(self, ddp: nn.Module, stop: StopRequest) -> bool:
        """One pass over the training data, from where the last one was interrupted; False if asked to stop."""
        self.objective.train()
        self.objective.begin_epoch(self.epoch)
        self.batches.epoch, self.batches.start = self.epoch, self.position
        length = self._length()
        size = self.batches.batch_size
        with Progress(f"epoch {self.epoch + 1}/{self.epochs}", length, unit="batch", initial=self.position,
                      shown=distributed.is_main()) as bar:  # fmt: skip
            begin, seen = time.perf_counter(), 0
            batches = read(self.loader)
            while self.position < length:
                try:
                    with stop.waiting():
                        batch = next(batches)
                except StoppedWaitingError:
                    self._give_up_waiting()
                    return False
                self._train_step(ddp, batch)
                seen += size
                bar.update()
                if self.step % self.log_every == 0 or self.position == length:
                    rate = seen / (time.perf_counter() - begin)
                    self._log_step(bar, rate)
                stopping = self._agree(stop)
                due = self.checkpoint_every is not None and self.step % self.checkpoint_every == 0
                if stopping or (due and self.position < length):  # the end of the epoch saves anyway
                    self._save()
                if stopping:
                    self._say_stopped()
                    return False
        return True

    def _agree(self, stop: StopRequest) -> bool:
        """Whether any process was asked to stop; raises on all of them if the loss of an earlier step was not finite."""
        failure = self.guard.failure(before=self.step - 1)
        stopping, failed = distributed.max_numbers([float(stop.received), float(bool(failure))])
        if failed:
            raise_non_finite(failure)
        return stopping > 0

    def _length(self) -> int:
        full = self.batches.batches_per_epoch
        return full if self.max_batches is None else min(full, self.max_batches)

    def _train_step(self, ddp: nn.Module, batch: Batch) -> None:
        """One update of the weights from one global batch."""
        counts = self.objective.counts(batch)
        self.optimizer.zero_grad(set_to_none=True)
        terms: dict[str, Tensor] = {}
        chunks = batch.chunk(self.accumulate)
        for i, chunk in enumerate(chunks):
            with distributed.no_sync(ddp, active=i + 1 < len(chunks)):
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
                    step: Step = ddp(chunk.to(self.device), counts)
                self.guard.watch(self.step, step)
                torch.autograd.backward(step.loss)
            terms = {name: value + terms.get(name, 0.0) for name, value in step.terms.items()}
        if self.clip_norm is not None:
            terms["grad_norm"] = nn.utils.clip_grad_norm_(self.objective.parameters(), self.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        self.position += 1
        for name in TALLIED:
            self.tally[name] += getattr(batch if name in COUNTED else counts, name)
        self.window.add(terms)
        self.total.add(terms)

    def _check_weights(self) -> None:
        """Raise, on every process, before anything that is not finite is evaluated or saved."""
        failure = self.guard.failure(before=self.step)
        if distributed.max_numbers([float(bool(failure))])[0]:
            raise_non_finite(failure)
        bad = [name for name, p in self.objective.named_parameters() if not bool(torch.isfinite(p).all())]
        if bad:
            raise NonFiniteError(
                f"weights are not finite after step {self.step} although the loss was: {', '.join(bad[:5])}. "
                "The checkpoints on disk are from before. Lower optimizer.lr or set trainer.clip_norm."
            )

    def _log_step(self, bar: Progress, rate: float) -> None:
        values = self.window.read()
        self.window = Means()
        step = {f"step/{name}": value for name, value in values.items()}
        groups = self.optimizer.param_groups
        rates = {f"step/lr{'/' + group['name'] if 'name' in group else ''}": group["lr"] for group in groups}
        self.log.log(self.step, step | rates | {"step/images_per_second": rate})
        shown = {name: f"{values[name]:.4f}" for name in ("classification", "localization") if name in values}
        bar.note(shown | {"images/s": f"{rate:.0f}"})

    def _finish_epoch(self, stop: StopRequest) -> None:
        """Save, evaluate, offer to the front, log, save; in this order, so that a kill repeats what was not saved."""
        self._save()  # an evaluation may take longer than the grace of a scheduler
        train = {f"train/{name}": value for name, value in (self.total.read() | self._read_tally()).items()}
        # Each process has its own running statistics; the main process's are the ones that are saved.
        distributed.broadcast_buffers(self.objective)
        with stop.waiting():
            metrics = self.evaluate(self.step)
        self.metrics = metrics
        for name, value in self.metrics.items():
            if not math.isnan(value):
                self.best[name] = max(value, self.best.get(name, value))
        self.saver.offer(epoch=self.epoch + 1, step=self.step, metrics=self.metrics)
        val = {f"val/{name}": value for name, value in self.metrics.items()}
        self.log.log(self.step, {"epoch": self.epoch + 1} | train | val)
        for advice in self.objective.advise(train | val):
            LOG.warning(advice)
        self.epoch, self.position, self.total = self.epoch + 1, 0, Means()
        self.tally = dict.fromkeys(TALLIED, 0.0)
        self._save()

    def _read_tally(self) -> dict[str, float]:
        """What was left out in this epoch, over all processes, and the share of images that had a region."""
        sums = distributed.sum_numbers([self.tally[name] for name in COUNTED])
        return dict(zip(COUNTED, sums, strict=True)) | {"annotated": self.tally["regions"] / self.tally["images"]}

    def _hopeless(self) -> bool:
        """Whether the best value of the `minimum` metric is too low after its patience."""
        if self.minimum is None:
            return False
        name, value, patience = self.minimum
        hopeless = self.epoch >= max(1, patience) and self.best.get(name, -math.inf) < value
        if hopeless and distributed.is_main():
            tqdm.write(
                f"early stop after epoch {self.epoch}: best {name} {self.best.get(name, math.nan):.4f} < {value}"
            )
        return hopeless

    def _save(self) -> None:
        self._check_weights()
        self.lines = self.log.flush()
        self.saver.last(self.state_dict, metrics=self.metrics)

    def state_dict(self) -> dict[str, Any]:
        """Everything beside the model's weights that resuming exactly needs. A collective call."""
        means = [distributed.gather_objects(m.state_dict()) for m in (self.window, self.total)]
        return {
            "epoch": self.epoch, "position": self.position, "step": self.step,
            "optimizer": self.optimizer.state_dict(), "schedule": self.schedule.state_dict(),
            "best": dict(self.best), "metrics": dict(self.metrics),
            "window": means[0], "total": means[1], "tally": distributed.gather_objects(dict(self.tally)),
            "rng": distributed.gather_objects(get_rng()), "lines": self.lines,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken, exactly; another number of processes only between two epochs.

        Raises ValueError for another number of processes in the middle of an epoch, and for a part that is missing or damaged.
        """
        with part("epoch, position and step"):
            self.epoch, self.position, self.step = (natural(state[name]) for name in ("epoch", "position", "step"))
            if self.position > self.batches.batches_per_epoch:
                raise ValueError("beyond the epoch")
        with part("rng"):
            processes = len(list(state["rng"]))
        same = processes == distributed.world_size()
        if not same and self.position > 0:
            raise ValueError(
                f"the checkpoint was written by {processes} processes in the middle of an epoch, but "
                f"{distributed.world_size()} are running: resume with --nproc_per_node={processes}"
            )
        with part("optimizer"):
            load_optimizer(self.optimizer, state["optimizer"])
        with part("schedule"):
            self.schedule.load_state_dict(state["schedule"])
            natural(self.schedule.last_epoch)
        with part("best and metrics"):
            self.best, self.metrics = numbers(state["best"]), numbers(state["metrics"])
        if same:
            self._load_own(state, distributed.rank())

    def _load_own(self, state: Mapping[str, Any], rank: int) -> None:
        """What each process has for itself."""
        for name, means in (("window", self.window), ("total", self.total)):
            with part(name):
                means.load_state_dict(state[name][rank], self.device)
        with part("tally"):  # an earlier release did not count everything
            self.tally |= numbers({name: state["tally"][rank].get(name, 0.0) for name in TALLIED})
        with part("rng"):
            self._resumed_rng = dict(state["rng"][rank])
            set_rng(self._resumed_rng)
