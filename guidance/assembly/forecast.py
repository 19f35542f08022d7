"""Config -> what tells how long a run will take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from tqdm import tqdm

from guidance import distributed
from guidance.assembly.nets import build_attribution
from guidance.attribution import Method, Request, explain, needed_classes, one_hot
from guidance.config import Config
from guidance.data import Source
from guidance.data.annotation import is_annotated
from guidance.models import Classifier
from guidance.objectives import Objective
from guidance.training.forecast import Forecast
from guidance.training.random_states import get_rng, set_rng
from guidance.training.stopwatch import clock_of
from guidance.training.trainer import Trainer
from guidance.types import Batch


def build_forecast(
    config: Config, objective: Objective, val: Source, device: torch.device
) -> Callable[[Trainer, Batch], None] | None:
    """What a trainer calls after each step (see `Forecast`); None on all but the main process, which alone tells it."""
    if not distributed.is_main():
        return None
    method, depth = build_attribution(config)
    annotated = sum(is_annotated(record, config.evaluation.region) for record in val.records)
    seconds = EvaluationSeconds(
        objective.model, method, depth, device, images=len(val.records), annotated=annotated / len(val.records),
        most=config.evaluation.batch_size, processes=distributed.world_size(),
    )  # fmt: skip
    return Forecast(
        objective, clock_of(device), epochs=config.trainer.epochs, evaluation=seconds, images=seconds.images,
        tell=tqdm.write,
    )  # fmt: skip


@dataclass(frozen=True)
class EvaluationSeconds:
    """How long an evaluation will take, from images of training: they are run and explained as the validation images will be.

    So no file is read for it, and loading is not in it. Weights, modes, statistics and random numbers are left as they are.
    """

    model: Classifier
    method: Method
    depth: str
    device: torch.device
    images: int  # of the evaluation
    annotated: float  # share of them with a region, which alone are explained, for each of their classes
    most: int  # images at once
    processes: int

    def __call__(self, batch: Batch) -> float:
        """Seconds, from a batch of training on the host. The first pass warms up."""
        clock, state = clock_of(self.device), get_rng()
        batch = batch.chunk(-(-len(batch.images) // self.most))[0].to(self.device)
        for _ in range(2):
            begin = clock.now()
            self._explain(batch)
            seconds = clock.seconds(begin, clock.now())
        set_rng(state)
        return seconds * self.images / len(batch.images) / self.processes

    def _explain(self, batch: Batch) -> None:
        rows, target = batch.targets.nonzero(as_tuple=True)
        count = round(self.annotated * len(rows))
        rows, target = rows[:count], target[:count]
        classes = needed_classes(self.method, batch.targets, rows, target)
        request = Request(self.method, self.depth, rows, one_hot(target, batch.targets.shape[1]), classes)
        explain(self.model, batch.images, request)
