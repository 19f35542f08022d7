"""The training loop. It parses nothing and names nothing: objective, data, metrics and files are handed to it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from guidance import distributed
from guidance.data.loader import Loader, TrainBatches
from guidance.data.workers import abandon_workers, naming_killed_workers
from guidance.objectives import Objective
from guidance.progress import Progress
from guidance.runs.logs import Loggers
from guidance.training.guard import LossGuard, check_finite, raise_non_finite
from guidance.training.history import History
from guidance.training.options import TrainingOptions
from guidance.training.random_states import get_rng, set_rng
from guidance.training.saver import Saver
from guidance.training.signals import StoppedWaitingError, StopRequest, say_gave_up, say_stopped
from guidance.training.state import load_optimizer, natural, part
from guidance.training.stopwatch import Stopwatch, clock_of, shares
from guidance.types import Batch, Step

LOG = logging.getLogger(__name__)


class Trainer:
    """Trains an objective over epochs; every epoch ends with an evaluation, the Pareto front and a checkpoint.

    `loader` yields this process's share of the batches. `evaluate(step)` returns the metrics of the current weights, the
    same on every process.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: Optimizer,
        schedule: LRScheduler,
        loader: Loader[TrainBatches],
        options: TrainingOptions,
        *,
        evaluate: Callable[[int], dict[str, float]],
        saver: Saver,
        log: Loggers,
    ) -> None:
        self.objective, self.optimizer, self.schedule = objective, optimizer, schedule
        self.loader, self.options = loader, options
        self.evaluate, self.saver, self.log = evaluate, saver, log
        self.epochs = options.epochs  # may be changed until `fit`
        self.epoch, self.position, self.step = 0, 0, 0  # epochs done, batches done in this epoch, updates done
        self.history, self.guard = History(), LossGuard()
        self.lines: int | None = None  # of the log, when it was last flushed
        self.stopwatch = Stopwatch(clock_of(options.device))
        # Called after each step with the batch that it was made of; may be changed until `fit`.
        self.after_step: Callable[[Trainer, Batch], None] = lambda trainer, batch: None
        self._resumed_rng: dict[str, Any] | None = None

    def fit(self) -> bool:
        """Train until the last epoch; False if a signal ended it early (a checkpoint to resume from was written)."""
        ddp = distributed.parallel(self.objective, self.options.device)
        self.stopwatch.restart()
        if self._resumed_rng is not None:
            set_rng(self._resumed_rng)
        with StopRequest().listening() as stop, naming_killed_workers("go on with --resume"):
            if self.epochs == 0 and not self.history.metrics and not self._judged(0, {}, stop):
                return False
            while self.epoch < self.epochs and not self._hopeless():
                if not self._train_epoch(ddp, stop) or not self._finish_epoch(stop):
                    return False
                if self.epoch < self.epochs and stop.agreed():
                    say_stopped(self.step)
                    return False
        return True

    def _give_up_waiting(self) -> None:
        """After a stop request, with data that do not come: save, where no other process is in the middle of a step."""
        abandon_workers()
        if distributed.world_size() == 1:
            self._save()
        say_gave_up(self.step)

    def _train_epoch(self, ddp: nn.Module, stop: StopRequest) -> bool:
        """One pass over the training data, from where the last one was interrupted; False if asked to stop."""
        self.objective.train()
        self.objective.begin_epoch(self.epoch)
        self.loader.seek(epoch=self.epoch, start=self.position)
        length = self.options.length(self.loader.batches_per_epoch)
        with Progress(f"epoch {self.epoch + 1}/{self.epochs}", length, unit="batch", initial=self.position,
                      shown=distributed.is_main()) as bar:  # fmt: skip
            begin, seen = time.perf_counter(), 0
            batches = iter(self.loader)
            while self.position < length:
                try:
                    with self.stopwatch.span("loading"), stop.waiting():
                        batch = next(batches)
                except StoppedWaitingError:
                    self._give_up_waiting()
                    return False
                with self.stopwatch.span("step"):
                    self._train_step(ddp, batch)
                seen += self.loader.batch_size
                bar.update()
                if self.step % self.options.log_every == 0 or self.position == length:
                    self._log_step(bar, seen / (time.perf_counter() - begin))
                with self.stopwatch.span("step"):  # of several processes, the slowest is waited for
                    stopping, every = self._agree(stop), self.options.checkpoint_every
                self.after_step(self, batch)
                due = every is not None and self.step % every == 0
                if stopping or (due and self.position < length):  # the end of the epoch saves anyway
                    self._save()
                if stopping:
                    say_stopped(self.step)
                    return False
        return True

    def _agree(self, stop: StopRequest) -> bool:
        """Whether any process was asked to stop; raises on all of them if the loss of an earlier step was not finite."""
        failure = self.guard.failure(before=self.step - 1)
        stopping, failed = distributed.max_numbers([float(stop.received), float(bool(failure))])
        if failed:
            raise_non_finite(failure)
        return stopping > 0

    def _train_step(self, ddp: nn.Module, batch: Batch) -> None:
        """One update of the weights from one global batch."""
        counts = self.objective.counts(batch)
        self.optimizer.zero_grad(set_to_none=True)
        terms: dict[str, Tensor] = {}
        chunks = batch.chunk(self.options.accumulate)
        for i, chunk in enumerate(chunks):
            with self.stopwatch.span("transfer"):
                chunk = chunk.to(self.options.device)
            with distributed.no_sync(ddp, active=i + 1 < len(chunks)):
                with self.options.autocast:
                    step: Step = ddp(chunk, counts)
                self.guard.watch(self.step, step)
                torch.autograd.backward(step.loss)
            terms = {name: value + terms.get(name, 0.0) for name, value in step.terms.items()}
        if self.options.clip_norm is not None:
            terms["grad_norm"] = nn.utils.clip_grad_norm_(self.objective.parameters(), self.options.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        self.position += 1
        self.history.add(terms, batch, counts)

    def _log_step(self, bar: Progress, rate: float) -> None:
        values = self.history.read_window()
        step = {f"step/{name}": value for name, value in values.items()}
        groups = self.optimizer.param_groups
        rates = {f"step/lr{'/' + group['name'] if 'name' in group else ''}": group["lr"] for group in groups}
        with self.stopwatch.span("logging"):
            self.log.log(self.step, step | rates | {"step/images_per_second": rate})
        shown = {name: f"{values[name]:.4f}" for name in self.objective.names if name in values}
        bar.note(shown | {"images/s": f"{rate:.0f}"})

    def _finish_epoch(self, stop: StopRequest) -> bool:
        """Save, evaluate, offer to the front, log, save; in this order, so that a kill repeats what was not saved."""
        self._save()  # an evaluation may take longer than the grace of a scheduler
        train = {f"train/{name}": value for name, value in self.history.read_epoch().items()}
        # Each process has its own running statistics; the main process's are the ones that are saved.
        distributed.broadcast_buffers(self.objective)
        return self._judged(self.epoch + 1, train, stop)

    def _judged(self, epoch: int, train: dict[str, float], stop: StopRequest) -> bool:
        """Evaluate the weights after `epoch` epochs, and save; False if a signal ended that, before which they were saved.

        A run of no epochs judges the weights that it starts from, which are those of another run, evaluated otherwise.
        """
        try:
            with self.stopwatch.span("evaluation"), stop.waiting():
                metrics = self.evaluate(self.step)
        except StoppedWaitingError:
            abandon_workers()
            say_stopped(self.step, "during the evaluation")
            return False
        self.history.evaluated(metrics)
        with self.stopwatch.span("checkpoint"):
            self.saver.offer(epoch=epoch, step=self.step, metrics=metrics)
        val = {f"val/{name}": value for name, value in metrics.items()}
        spent = shares(self.stopwatch.seconds())
        self.stopwatch.restart()  # what comes now is of the next epoch
        with self.stopwatch.span("logging"):
            self.log.log(self.step, {"epoch": epoch} | train | val | spent)
        for advice in self.objective.advise(train | val):
            LOG.warning(advice)
        self.epoch, self.position = epoch, 0
        self.history.begin_epoch()
        self._save()
        return True

    def _hopeless(self) -> bool:
        """Whether the best value of the `minimum` metric is too low after its patience."""
        minimum, best = self.options.minimum, self.history.best
        if minimum is None or not minimum.missed(self.epoch, best):
            return False
        if distributed.is_main():
            tqdm.write(minimum.describe_miss(self.epoch, best))
        return True

    def _save(self) -> None:
        with self.stopwatch.span("checkpoint"):
            check_finite(self.guard, self.objective, self.step)
            self.lines = self.log.flush()
            self.saver.last(self.state_dict, metrics=self.history.metrics)

    def state_dict(self) -> dict[str, Any]:
        """Everything beside the model's weights that resuming exactly needs. A collective call."""
        return {
            "epoch": self.epoch, "position": self.position, "step": self.step,
            "optimizer": self.optimizer.state_dict(), "schedule": self.schedule.state_dict(),
            **self.history.state_dict(), "rng": distributed.gather_objects(get_rng()), "lines": self.lines,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken, exactly; another number of processes only between two epochs.

        Raises ValueError for another number of processes in the middle of an epoch, and for a part that is missing or damaged.
        """
        with part("epoch, position and step"):
            self.epoch, self.position, self.step = (natural(state[name]) for name in ("epoch", "position", "step"))
            if self.position > self.loader.batches_per_epoch:
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
        self.history.load_common(state)
        if same:
            self.history.load_own(state, distributed.rank(), self.options.device)
            with part("rng"):
                self._resumed_rng = dict(state["rng"][distributed.rank()])
                set_rng(self._resumed_rng)
