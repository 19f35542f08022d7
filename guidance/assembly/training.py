"""Config -> a trainer, ready to fit."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from guidance import distributed
from guidance.assembly.evaluation import build_epoch_evaluation, check_selection
from guidance.assembly.forecast import build_forecast
from guidance.assembly.nets import build_classifier
from guidance.assembly.objectives import build_objective
from guidance.assembly.optimizers import build_optimizer, parameter_groups
from guidance.assembly.pretrained import like_weights
from guidance.assembly.sets import build_caches, build_source, build_training_dataset
from guidance.config import Config, dump_config, free_on_resume, parse_config
from guidance.data import GuidanceDataset, Loader, TrainBatches
from guidance.data.reading.preflight import preflight
from guidance.models.weights import restore
from guidance.results.tables import RUN_METRICS
from guidance.runs import checkpoint
from guidance.runs.folder import RunFolder, write_annotated
from guidance.runs.locks import RunLock
from guidance.runs.logs import open_loggers
from guidance.runs.paths import last_checkpoint
from guidance.runs.settings import check_config, flatten
from guidance.runs.shedding import is_shed
from guidance.training.options import Minimum, TrainingOptions
from guidance.training.random_states import seed_rng
from guidance.training.stopwatch import OTHER, SPANS
from guidance.training.trainer import Trainer

# beside the front's metrics
CONSOLE = ("accuracy", "worst_group_accuracy", "worst_group_images", "fixed_group_accuracy", "epg", "epg_chance")
LOG = logging.getLogger(__name__)


def build_trainer(
    config: Config, folder: Path, device: torch.device, *, resume: bool = False, dry_run: bool = False
) -> Trainer:
    """Everything that a run needs, ready to `fit()`. Raises ValueError, before anything is written, for wrong settings."""
    lock = RunLock(folder)
    lock.claim(resume=resume)
    config = like_weights(config, folder if resume else None)
    seed_rng(config.seed)  # fresh weights are the same on every process
    train, val = build_source(config, config.data.train_split), build_source(config, config.data.val_split)
    check_selection(config, val)
    state = resumable_state(folder, config) if resume else None
    model = build_classifier(config, len(train.classes), pretrained=state is None)
    objective = build_objective(config, model, train).to(device)
    model.checkpoint_activations = config.trainer.checkpoint_activations
    # A run that is resumed has done so, and a cache decodes the images itself. A dry run shall be quick, but says whether the
    # annotations can be used, of which segmentations are a part.
    decode = config.data.check == "pixels" and state is None
    pixels = decode and config.data.cache is None and not dry_run
    for source in (train, val):
        preflight(
            source, pixels=pixels, segmentations=decode, on_error=config.data.on_error,
            threads=config.data.num_workers,
        )  # fmt: skip
    if not dry_run:
        build_caches(config, train, val)
    dataset, annotated = build_training_dataset(config, train)
    loader = build_training_loader(config, dataset, device)
    optimizer, schedule = build_optimizer(config, parameter_groups(config, model), loader.batches_per_epoch)
    lock.prepare(dump_config(config))
    write_annotated(folder, annotated, config.data.annotated_fraction, config.data.annotated_of)
    options = training_options(config, device, dry_run=dry_run)
    lines = state["trainer"].get("lines") if state else None
    shown = dict.fromkeys((*config.pareto.metrics, *CONSOLE))
    log = open_loggers(
        folder, resume_step=state["step"] if state else None, resume_epoch=state["epoch"] if state else math.inf,
        resume_lines=lines if isinstance(lines, int) else None, tensorboard=config.log.tensorboard, epochs=options.epochs,
        shown=[*(f"train/{name}" for name in objective.names), "val/classification", *(f"val/{name}" for name in shown)],
    )  # fmt: skip
    log.begin(flatten(config.model_dump(mode="json")), compared(config), charts(config, objective.names))
    saver = RunFolder(
        folder, model, config=config.model_dump(mode="json"), classes=train.classes,
        metrics=config.pareto.metrics, resolution=config.pareto.resolution, resumed=state, lock=lock,
    )  # fmt: skip
    evaluate = build_epoch_evaluation(config, model, train, val, device, log, max_batches=options.max_batches)
    trainer = Trainer(objective, optimizer, schedule, loader, options, evaluate=evaluate, saver=saver, log=log)
    trainer.after_step = build_forecast(config, objective, val, device) or trainer.after_step
    seed_rng(config.seed + distributed.rank())  # dropout is not
    if state:
        go_on(trainer, state, folder)
    return trainer


def compared(config: Config) -> list[str]:
    """The numbers by which runs are compared; the same for all runs, but for what they select by beside them."""
    return [f"val/{name}" for name in dict.fromkeys((*RUN_METRICS, *config.pareto.metrics))]


def charts(config: Config, losses: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """What is shown in one chart: the metrics of the front, each term of the loss in training and validation, and the time."""
    front = [f"val/{name}" for name in config.pareto.metrics]
    return {
        "front": {", ".join(config.pareto.metrics): front},
        "losses": {name: [f"train/{name}", f"val/{name}"] for name in losses},
        "time": {"shares of an epoch": [f"time/{name}" for name in (*SPANS, OTHER)]},
    }


def go_on(trainer: Trainer, state: Mapping[str, Any], folder: Path) -> None:
    """Put a trainer where `state`, a checkpoint of the run in `folder`, was written. ValueError for what does not fit."""
    restore(trainer.objective.model, state["model"], source=str(last_checkpoint(folder)))
    try:
        trainer.load_state_dict(state["trainer"])
    except ValueError as error:
        raise ValueError(f"{last_checkpoint(folder)} cannot be resumed: {error}") from error
    LOG.info("resumed %s at step %d", folder, trainer.step)


def build_training_loader(config: Config, dataset: GuidanceDataset, device: torch.device) -> Loader[TrainBatches]:
    """The batches of this process."""
    batches = TrainBatches(
        len(dataset), config.trainer.batch_size, seed=config.seed,
        rank=distributed.rank(), world_size=distributed.world_size(), chunks=config.trainer.accumulate,
    )  # fmt: skip
    return Loader(dataset, batches, num_workers=config.data.num_workers, pin_memory=device.type == "cuda")


def training_options(config: Config, device: torch.device, *, dry_run: bool = False) -> TrainingOptions:
    """How the trainer trains; a dry run is an epoch of two batches."""
    settings, stop = config.trainer, config.trainer.early_stop
    return TrainingOptions(
        device, epochs=1 if dry_run else settings.epochs, accumulate=settings.accumulate, clip_norm=settings.clip_norm,
        precision=settings.precision, minimum=Minimum(stop.metric, stop.minimum, stop.epochs) if stop else None,
        log_every=config.log.every, checkpoint_every=settings.checkpoint_every, max_batches=2 if dry_run else None,
    )  # fmt: skip


def resumable_state(folder: Path, config: Config) -> dict[str, Any] | None:
    """The checkpoint to go on from; None where the run has none yet. Raises ValueError if it is of another config."""
    path = last_checkpoint(folder)
    if not path.exists():
        LOG.info("nothing to resume in %s: starting from the beginning", folder)
        return None
    state = checkpoint.load(path)
    if is_shed(state):
        raise ValueError(
            f"{path} has finished, and its experiment kept its weights but not the state of its optimizer (`keep`), so it "
            f"cannot be trained further. To start a new run from its weights, set model.weights={path}, with another --output"
        )
    if not isinstance(state.get("trainer"), dict):
        raise ValueError(
            f"{path} holds weights, but nothing to go on with: it is a checkpoint of the Pareto front, which has no state of "
            f"the optimizer. To start a new run from its weights, set model.weights={path}, with another --output"
        )
    # Read again, so that settings that this release has added have their defaults.
    saved = parse_config(state["config"], source=str(path))
    check_config(saved.model_dump(mode="json"), config.model_dump(mode="json"), ignore=free_on_resume(config))
    return state
