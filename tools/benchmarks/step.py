"""Time and memory of a training step, with and without guidance."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from guidance.attribution import ATTRIBUTIONS, CompiledNet, Explainable, Method, Request, with_lens
from guidance.attribution.gradient import forward_of, ixg
from guidance.losses import LOCALIZATION_LOSSES
from guidance.models import build_model
from guidance.objectives import Localization, Objective, guided_objective
from guidance.types import Batch, Regions

T = TypeVar("T")
FAMILIES = {  # name -> (backbone, batchnorm)
    "vanilla": ("resnet50", "local"),
    "vanilla_frozen": ("resnet50", "frozen"),
    "xdnn": ("xdnn_resnet50", "local"),
    "bcos": ("bcos_resnet50", "local"),
}
CLASSES = 20
COMMAND = Path(__file__).parents[1] / "benchmark.py"


@dataclass(frozen=True)
class Variant:
    """One kind of step: `depth` None is unguided; `annotated` None is the whole batch."""

    family: str
    depth: str | None = None
    double_backward: bool = False
    annotated: int | None = None
    default_layout: bool = False  # NCHW where the net prefers channels last: it suits the double backward
    lens: bool = False  # guided through the lens of the two most probable classes
    compiled: bool = False
    checkpointed: bool = False  # activations are computed again (trainer.checkpoint_activations)

    def __str__(self) -> str:
        way = " by double backward" if self.double_backward else ""
        way += ", NCHW" if self.default_layout else ""
        way += " through the lens" if self.lens else ""
        rest = f", {self.annotated} annotated" if self.annotated else ""
        rest += ", compiled" if self.compiled else ""
        rest += ", checkpointed" if self.checkpointed else ""
        return f"{self.family} " + (f"guided at {self.depth}{way}" if self.depth else "unguided") + rest


def variants(families: list[str], *, compiled: bool = False) -> list[Variant]:
    result = []
    for family in families:
        result.append(Variant(family))
        result += [Variant(family, depth) for depth in ("input", "mid2", "final")]
        result.append(Variant(family, "input", lens=True))
        result += [Variant(family, depth, checkpointed=True) for depth in (None, "input", "final")]
        if family != "vanilla":  # with batch statistics the double backward is the only way
            result.append(Variant(family, "input", double_backward=True))
            if family != "vanilla_frozen":
                result.append(Variant(family, "input", double_backward=True, default_layout=True))
            result.append(Variant(family, "input", annotated=1))
            if compiled:
                result += [Variant(family, compiled=True), Variant(family, "input", compiled=True)]
    return result


def by_double_backward(model: Explainable, request: Request) -> Tensor:
    return ixg(model, replace(request, out=forward_of(request)._replace(pullbacks={})))


def random_batch(channels: int, batch: int, size: int, annotated: int, device: torch.device) -> Batch:
    targets = torch.nn.functional.one_hot(torch.arange(batch) % CLASSES, CLASSES).float()
    image = torch.arange(annotated)
    mask = torch.zeros(annotated, size, size, dtype=torch.bool)
    mask[:, size // 4 : size // 2, size // 4 : size // 2] = True
    regions = Regions(image, image % CLASSES, mask, None, 1)
    index = torch.arange(batch)
    return Batch(torch.rand(batch, channels, size, size), targets, regions, torch.full_like(index, -1), index).to(
        device
    )


def objective_and_batch(variant: Variant, model: torch.nn.Module, args: argparse.Namespace) -> tuple[Objective, Batch]:
    """What a variant trains, and on what."""
    device = torch.device(args.device)
    batch = random_batch(
        6 if variant.family == "bcos" else 3, args.batch, args.size, variant.annotated or args.batch, device
    )
    method = Method(by_double_backward) if variant.double_backward else ATTRIBUTIONS["ixg"]
    method = with_lens(method) if variant.lens else method
    localization = Localization(
        LOCALIZATION_LOSSES["energy"].function,
        1e-3 if variant.depth else 0.0,
        attribution=method,
        depth=variant.depth or "input",
    )
    return guided_objective(model, localization=localization).train(), batch  # type: ignore[arg-type]


def prepare(variant: Variant, model: torch.nn.Module, args: argparse.Namespace) -> Callable[[], None]:
    """The step of a variant, as a function to time."""
    objective, batch = objective_and_batch(variant, model, args)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6, fused=True)
    counts = objective.counts(batch)
    objective.compiled = CompiledNet(model) if variant.compiled else None  # type: ignore[arg-type]
    channels_last = bool(model.channels_last) and not variant.default_layout

    def step() -> None:
        model.channels_last = channels_last  # type: ignore[assignment]  # variants of a family share the net
        model.checkpoint_activations = variant.checkpointed  # type: ignore[assignment]
        optimizer.zero_grad()
        objective(batch, counts).loss.backward()
        optimizer.step()
        if args.device == "cuda":
            torch.cuda.synchronize()

    return step


def build(family: str, args: argparse.Namespace) -> torch.nn.Module:
    name, batchnorm = FAMILIES[family]
    model = build_model(name, num_classes=CLASSES, batchnorm=batchnorm)
    if family == "xdnn":  # fresh, its maps are zero
        for parameter in model.parameters():
            torch.nn.init.kaiming_normal_(parameter)
            parameter.data.mul_(0.7)
    return model.to(args.device)


def measure_times(chosen: list[Variant], args: argparse.Namespace) -> dict[Variant, float]:
    """Median seconds of a step of each variant."""
    models = {family: build(family, args) for family in {v.family for v in chosen}}
    steps = {variant: prepare(variant, models[variant.family], args) for variant in chosen}
    return interleaved(steps, args.rounds)


def interleaved(calls: Mapping[T, Callable[[], None]], rounds: int) -> dict[T, float]:
    """Median seconds of each call over the rounds, in each of which all are made once; one round before them warms up."""
    times: dict[T, list[float]] = {variant: [] for variant in calls}
    for turn in range(rounds + 1):
        for variant, call in calls.items():
            start = time.perf_counter()
            call()
            if turn:
                times[variant].append(time.perf_counter() - start)
        print(f"round {turn} of {rounds}", file=sys.stderr)
    return {variant: statistics.median(values) for variant, values in times.items()}


def measure_memory(variant: Variant, args: argparse.Namespace) -> float:
    """Peak of what torch holds in a step over the built net and the state of its optimizer, in GB.

    It is counted, not read from the process, whose memory also holds what a compiler took.
    """
    model = build(variant.family, args)
    step = prepare(variant, model, args)
    step()  # compiles, and makes the state of the optimizer
    model.zero_grad()
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        start = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - start) / 1e9
    return peak_on_host(step) / 1e9


def peak_on_host(call: Callable[[], None]) -> int:
    """Bytes of the memory of the CPU that `call` allocated through torch and held at once, at most."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        call()
    # Blocks that are older are not counted, neither before nor when they are freed.
    events = [event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(accumulate(changes), default=0)


def memory_in_own_process(variant: Variant) -> float:
    arguments = [*sys.argv[1:], "--one", json.dumps(vars(variant))]
    done = subprocess.run([sys.executable, COMMAND, *arguments], check=True, capture_output=True, text=True)
    return float(done.stdout)


def report(chosen: list[Variant], times: dict[Variant, float], memory: dict[Variant, float]) -> None:
    print(f"{'step':<46}{'seconds':>9}{'unguided':>10}{'double bw':>11}{'GB':>7}")
    for variant in chosen:
        seconds = times.get(variant)
        plain = times.get(Variant(variant.family))
        doubles = [t for v, t in times.items() if v.family == variant.family and v.double_backward]
        double = min(doubles, default=None)
        columns = [
            f"{seconds:.2f}" if seconds else "",
            f"{seconds / plain:.2f}x" if seconds and plain else "",
            f"{double / seconds:.2f}x" if seconds and double and variant.depth == "input" and not variant.lens else "",
            f"{memory[variant]:.2f}" if variant in memory else "",
        ]
        print(f"{variant!s:<46}" + "".join(f"{c:>{w}}" for c, w in zip(columns, (9, 10, 11, 7), strict=True)))
    print(
        "unguided: time over the unguided step of the family; "
        "double bw: how many times faster than the double backward in its faster memory layout"
    )


def benchmark_step(args: argparse.Namespace) -> None:
    """Print the table of all variants, or with `--one` the memory of that one alone."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if args.one:
        print(measure_memory(Variant(**json.loads(args.one)), args))
        return
    chosen = variants(args.family, compiled=args.compile)
    memory = {} if args.no_memory else {variant: memory_in_own_process(variant) for variant in chosen}
    times = {} if args.no_time else measure_times(chosen, args)
    report(chosen, times, memory)
