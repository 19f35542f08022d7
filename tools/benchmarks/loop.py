"""Where the time of a whole training run goes, and what it takes over its steps alone."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from guidance import distributed
from guidance.assembly import build_trainer
from guidance.config import Config, parse_config
from guidance.runs.logs.json_lines import read_log
from guidance.runs.paths import METRICS
from guidance.training.stopwatch import OTHER, SPANS
from guidance.training.trainer import Trainer

SAMPLE = Path(__file__).resolve().parents[3] / "shared" / "data" / "waterbirds100"
NET = "resnet18"
LIMIT = 1.03  # training over its steps alone


def config_of(scratch: Path, args: argparse.Namespace) -> Config:
    """A guided net on the Waterbirds sample from a decoded cache; on shapes that are generated where it is not there."""
    data: dict[str, Any] = {"name": "waterbirds", "root": SAMPLE, "version": "100", "task": "birds"}
    if not SAMPLE.is_dir():
        data = {"name": "demo", "root": scratch / "demo", "num_train": 10 * args.batch, "num_val": 100, "num_test": 10}
    return parse_config({
        "data": data | {
            "image_size": args.size, "augmentation": "flip", "on_error": "skip", "cache": scratch / "cache",
            "num_workers": args.workers,
        },
        "model": {"name": NET},
        "objective": {"reduction": "mean", "localization": {"loss": "energy", "weight": 1.0}, "attribution": {"depth": "mid2"}},
        "trainer": {"epochs": args.rounds + 1, "batch_size": args.batch, "device": args.device},
        "evaluation": {"batch_size": 60, "iou_threshold": "fit"},
    })  # fmt: skip


def seconds_of_steps(trainer: Trainer) -> float:
    """The steps of the epoch before, from batches that are there already, and nothing else."""
    trainer.loader.seek(epoch=trainer.epoch - 1)
    batches = list(trainer.loader)
    step, model = trainer.step, distributed.parallel(trainer.objective, trainer.options.device)
    trainer.objective.train()
    begin = time.perf_counter()
    for batch in batches:
        trainer._train_step(model, batch)
    if trainer.options.device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - begin
    trainer.step, trainer.position = step, 0
    trainer.history.begin_epoch()
    return seconds


class Measured(NamedTuple):
    """A run, and its steps alone."""

    batches: str  # of an epoch
    epochs: list[dict[str, float]]  # what the log says of each
    alone: list[float]  # seconds of the steps of each

    def ratio(self) -> float:
        """How much longer an epoch without its evaluation takes than its steps alone."""
        return statistics.median(
            line["time/epoch"] * (1 - line["time/evaluation"]) / seconds
            for line, seconds in zip(self.epochs, self.alone, strict=True)
        )


def measure(args: argparse.Namespace) -> Measured:
    """Epochs and their steps alone, which take turns; the first of each warms up and is left out."""
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "run"
        device = torch.device("cuda" if args.device == "cuda" else "cpu")
        trainer = build_trainer(config_of(Path(temporary), args), folder, device)
        alone = []
        for epoch in range(1, args.rounds + 2):
            trainer.epochs = epoch
            trainer.fit()
            alone.append(seconds_of_steps(trainer))
        trainer.log.close()
        epochs = [line for line in read_log(folder / METRICS) if "epoch" in line]
    batches = f"{trainer.loader.batches_per_epoch} batches of {trainer.loader.batch_size}"
    return Measured(batches, epochs[1:], alone[1:])


def benchmark_loop(args: argparse.Namespace) -> None:
    """Print the shares of an epoch, and how much longer training takes than its steps alone; medians."""
    found = measure(args)
    print(f"\n{'an epoch: ' + found.batches:<34}{'seconds':>9}{'share':>9}")
    for name in (*SPANS, OTHER):
        shares = [line[f"time/{name}"] for line in found.epochs]
        seconds = [line["time/epoch"] * share for line, share in zip(found.epochs, shares, strict=True)]
        print(f"{name:<34}{statistics.median(seconds):>9.3f}{statistics.median(shares):>9.1%}")
    print(f"{'epoch':<34}{statistics.median(line['time/epoch'] for line in found.epochs):>9.3f}{1:>9.1%}")
    print(f"{'its steps alone':<34}{statistics.median(found.alone):>9.3f}")
    print(f"{'without evaluation / steps alone':<34}{found.ratio():>8.3f}x{f'at most {LIMIT}':>14}")
