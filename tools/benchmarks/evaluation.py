"""Time of an evaluation with maps and all scores over a plain forward pass of the same net, and of scoring alone."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from guidance.attribution import CompiledNet, Request, explain, one_hot
from guidance.evaluation.scores import all_scores
from guidance.evaluation.tables import Scoring, collect
from guidance.models.classifier import Classifier
from guidance.types import Batch, Regions

from . import step  # not by its name, which is another in tests

DEPTHS = {"input": 3.6, "mid2": 2.2, "final": 1.1}  # depth -> how many forward passes maps and scores may take there
CLASSES = (1, 2, 4)  # of one image, whose maps cost at most 1 + 0.7 for each further one
SHARE = 0.02  # of an evaluation at the input that scoring may take
POSITIVE = (1, 3, 2, 1, 5, 1, 2, 1, 3, 1, 2, 4, 1, 2, 1, 3)  # classes of an image, again and again: 2.06 in the mean
SCORING = Scoring(more=all_scores)


@dataclass(frozen=True)
class Timed:
    """What is timed, and what its time is divided by and may be at most."""

    family: str
    what: str
    over: str = "forward"
    at_most: float | None = None

    def __str__(self) -> str:
        return f"{self.family}, {self.what}"


def batch_of(channels: int, counts: tuple[int, ...], size: int) -> Batch:
    """Images with `counts` classes of their own, and for each a box of a quarter of the image, half of it the object."""
    draw = torch.Generator().manual_seed(0)
    image = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    target = torch.cat([torch.randperm(step.CLASSES, generator=draw)[:count] for count in counts])
    mask = torch.zeros(len(image), size, size, dtype=torch.bool)
    mask[:, size // 4 : size * 3 // 4, size // 4 : size * 3 // 4] = True
    segment = mask.clone()
    segment[:, : size // 2] = False
    targets = torch.zeros(len(counts), step.CLASSES)
    targets[image, target] = 1.0
    index = torch.arange(len(counts))
    images = torch.rand(len(counts), channels, size, size, generator=draw)
    return Batch(images, targets, Regions(image, target, mask, segment, max(counts)), torch.full_like(index, -1), index)


def maps(model: Classifier, batch: Batch, depth: str, net: CompiledNet | None = None) -> tuple[Tensor, Tensor]:
    """Maps and logits, as an evaluation asks for them."""
    regions = batch.regions
    seed = one_hot(regions.target, batch.targets.shape[1])
    request = Request("ixg", depth, regions.image, seed, rounds=regions.rounds)
    found, out = explain(model, batch.images, request, compiled=net)
    return found, out.logits


def evaluated(model: Classifier, batch: Batch, depth: str, net: CompiledNet | None = None) -> None:
    found, logits = maps(model, batch, depth, net)
    collect(batch, logits, found, scoring=SCORING)


@torch.no_grad()
def forward(net: Classifier | CompiledNet, batch: Batch) -> None:
    net(batch.images)


def prepare(family: str, args: argparse.Namespace) -> dict[Timed, Callable[[], object]]:
    """What is timed of a family."""
    model = step.build(family, args).eval()
    assert isinstance(model, Classifier)
    channels = 6 if family == "bcos" else 3
    batch = batch_of(channels, counts(args.batch), args.size).to(args.device)
    found, logits = maps(model, batch, "input")
    calls: dict[Timed, Callable[[], object]] = {}
    ways = {"": None} | ({", compiled": CompiledNet(model)} if args.compile else {})
    for way, net in ways.items():
        calls[Timed(family, f"forward{way}")] = partial(forward, net or model, batch)
        for depth, limit in DEPTHS.items():
            calls[Timed(family, depth + way, at_most=limit)] = partial(evaluated, model, batch, depth, net)
    calls[Timed(family, "scores alone", "input", SHARE)] = partial(collect, batch, logits, found, scoring=SCORING)
    for count in CLASSES:
        one = batch_of(channels, (count,), args.size).to(args.device)
        limit = 1 + 0.7 * (count - 1)
        calls[Timed(family, f"{count} of 1 image", "1 of 1 image", limit)] = partial(maps, model, one, "input")
    return calls


def measure(args: argparse.Namespace) -> dict[Timed, float]:
    """Median seconds of what is timed of each family; interleaved."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    calls: dict[Timed, Callable[[], object]] = {}
    for family in args.family:
        calls |= prepare(family, args)

    def finished(call: Callable[[], object]) -> None:
        call()
        if torch.device(args.device).type == "cuda":
            torch.cuda.synchronize()

    return step.interleaved({timed: partial(finished, call) for timed, call in calls.items()}, args.rounds)


def ratios(times: dict[Timed, float]) -> dict[Timed, float]:
    """What is timed -> its time over that of what it is divided by."""
    by_name = {(timed.family, timed.what): seconds for timed, seconds in times.items()}
    return {timed: seconds / by_name[timed.family, timed.over] for timed, seconds in times.items()}


def benchmark_evaluation(args: argparse.Namespace) -> None:
    """Print the table; what is timed is interleaved, the median of the rounds counts."""
    times = measure(args)
    print(f"{'evaluation':<30}{'seconds':>9}{'ratio':>8}{'at most':>9}  over")
    for timed, ratio in ratios(times).items():
        limit = "" if timed.at_most is None else f"{timed.at_most:.2f}x"
        print(f"{timed!s:<30}{times[timed]:>9.3f}{ratio:>7.2f}x{limit:>9}  {timed.over}")
    pairs = sum(counts(args.batch))
    print(f"input, mid2, final: forward pass, maps there of {pairs} pairs of {args.batch} images, and all scores")


def counts(batch: int) -> tuple[int, ...]:
    """How many classes each image of a batch has."""
    return (POSITIVE * batch)[:batch]
