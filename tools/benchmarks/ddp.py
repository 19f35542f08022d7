"""Two processes against one: steps, the all-reduce of gradients, and how much of it the backward pass hides.

What is printed for 8 and for 64 GPUs is calculated, from the bytes and times that were measured here and from `NETWORKS`.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import torch
from torch.multiprocessing import start_processes
from torch.optim import Adam

from guidance import distributed
from guidance.objectives import Counts, Objective
from guidance.types import Batch

from . import step  # not by its name, which is another in tests

# Bytes: DistributedDataParallel reduces gradients in parts of this size, in the order in which they become ready.
BUCKET = 25 * 2**20
LATENCY = 5e-6  # seconds: assumed of each of the 2 (n - 1) steps of a ring


class Network(NamedTuple):
    """A ring of `gpus`, of which the slowest link carries `bandwidth` bytes per second in each direction."""

    gpus: int
    bandwidth: float

    def seconds(self, size: float) -> float:
        """Of an all-reduce of `size` bytes: each link carries 2 (n - 1) / n of them, in 2 (n - 1) steps."""
        return 2 * (self.gpus - 1) * (size / self.gpus / self.bandwidth + LATENCY)


NETWORKS = {
    "8 GPUs, one node, NVLink at 300 GB/s": Network(8, 300e9),
    "64 GPUs, 8 nodes, 50 GB/s (400 Gb/s) a node": Network(64, 50e9),
    "64 GPUs, 8 nodes, 25 GB/s (200 Gb/s) a node": Network(64, 25e9),
    "64 GPUs, 8 nodes, 1.25 GB/s (10 Gb/s Ethernet) a node": Network(64, 1.25e9),
}
ASSUMPTIONS = f"""\
  Assumed: a ring in which each GPU sends and receives 2 (n - 1) / n of the gradients over the slowest link, and
  {LATENCY * 1e6:.0f} us for each of its 2 (n - 1) steps; parts of {BUCKET / 2**20:.0f} MiB, each reduced as soon as it is
  ready and the one before it is done. When parts are ready, and the share of the backward pass in a step, are as measured
  above, on a CPU. Nothing waits for the slowest process, for data or for control messages."""
# Bytes of a gradient, and at which share of the backward pass it is ready; in this order.
Ready = list[tuple[int, float]]


@dataclass(frozen=True)
class Measured:
    """Of one kind of step: median seconds of each call, when gradients are ready, and the seconds of a backward pass alone."""

    seconds: dict[str, float]
    ready: Ready
    backward: float


def ready_gradients(objective: Objective, batch: Batch, counts: Counts) -> tuple[Ready, float]:
    """When the gradients of one step are ready, and the seconds of its backward pass."""
    found: list[tuple[int, float]] = []

    def note(parameter: torch.Tensor) -> None:
        found.append((parameter.numel() * parameter.element_size(), time.perf_counter()))

    handles = [p.register_post_accumulate_grad_hook(note) for p in objective.parameters()]
    loss = objective(batch, counts).loss
    start = time.perf_counter()
    loss.backward()
    seconds = time.perf_counter() - start
    for handle in handles:
        handle.remove()
    return [(size, (at - start) / seconds) for size, at in found], seconds


def buckets(ready: Ready, limit: float = BUCKET) -> Ready:
    """What is reduced at once: gradients in their order, up to `limit` bytes; ready when the last of them is."""
    found: Ready = []
    size = 0
    for i, (part, share) in enumerate(ready):
        size += part
        if size >= limit or i + 1 == len(ready):
            found.append((size, share))
            size = 0
    return found


def exposed(ready: Ready, backward: float, network: Network) -> float:
    """Seconds for which the all-reduces, one after the other, go on after a backward pass of `backward` seconds."""
    end = 0.0
    for size, share in buckets(ready):
        end = max(end, share * backward) + network.seconds(size)
    return max(0.0, end - backward)


def measure(variant: step.Variant, args: argparse.Namespace) -> Measured:
    """Run by every process, which wait for each other between the calls; the calls are interleaved, as in `step`."""
    torch.manual_seed(0)
    model = step.build(variant.family, args)
    objective, batch = step.objective_and_batch(variant, model, args)
    ddp = distributed.parallel(objective, torch.device("cpu"))
    optimizer, counts = Adam(model.parameters(), lr=1e-6, fused=True), objective.counts(batch)

    def train(module: torch.nn.Module, *, reduced: bool = True) -> None:
        optimizer.zero_grad()
        with distributed.no_sync(module, active=not reduced):
            module(batch, counts).loss.backward()
        optimizer.step()

    def alone(threads: int) -> None:
        if distributed.is_main():
            torch.set_num_threads(threads)
            train(objective)
            torch.set_num_threads(1)

    def reduce() -> None:
        for gradient in gradients:
            distributed.mean(gradient)

    ready, backward = ready_gradients(objective, batch, counts)
    gradients = [torch.zeros(size // 4) for size, _ in buckets(ready)]
    calls: dict[str, Callable[[], None]] = {
        "1 process, 1 thread": partial(alone, 1),
        "1 process, 2 threads": partial(alone, 2),
        "2 processes": partial(train, ddp),
        "2 processes, not reduced": partial(train, ddp, reduced=False),
        "all-reduce": reduce,
        "counts": partial(objective.counts, batch),
    }
    seconds = step.interleaved({name: partial(together, call) for name, call in calls.items()}, args.rounds)
    return Measured(seconds, ready, backward)


def together(call: Callable[[], object]) -> None:
    distributed.barrier()
    call()
    distributed.barrier()


def worker(rank: int, port: int, file: Path, args: argparse.Namespace) -> None:
    """One of two processes; the first writes what was measured."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    if rank:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # the rounds are told once
    with distributed.process_group("cpu"):
        found = [(vars(variant), vars(measure(variant, args))) for variant in chosen(args.family)]
        if distributed.is_main():
            file.write_text(json.dumps(found))


def chosen(families: Sequence[str]) -> list[step.Variant]:
    return [step.Variant(family, depth) for family in families for depth in (None, "input")]


def report(variant: step.Variant, found: Measured, args: argparse.Namespace) -> None:
    """What was measured of one kind of step."""
    seconds, size = found.seconds, sum(size for size, _ in found.ready)
    one, two = seconds["1 process, 1 thread"], seconds["2 processes"]
    print(f"\n{variant}, {args.batch} images of {args.size} pixels on each process: measured on this machine")
    for name, value in seconds.items():
        print(f"  {name:<26}{value:>9.3f} s")
    threads = seconds["1 process, 2 threads"]
    print(
        f"  images per second of 2 processes: {2 * one / two:.2f}x those of 1, {2 * threads / two:.2f}x with 2 threads"
    )
    rest, alone = two - seconds["2 processes, not reduced"], seconds["all-reduce"]
    print(
        f"  gradients: {size / 1e6:.1f} MB in {len(buckets(found.ready))} parts; the all-reduce adds {rest:.3f} s to a step,"
    )
    print(f"    {rest / alone:.2f}x of what it takes alone")
    shares = [
        next(at for part, at in cumulated(found.ready) if part >= part_of * size) for part_of in (0.25, 0.5, 0.75, 1)
    ]
    ready = ", ".join(f"{100 * share:.0f} %" for share in shares)
    print(f"  25, 50, 75, 100 % of the gradients are ready at {ready} of the backward pass")


def cumulated(ready: Ready) -> Ready:
    """Bytes that are ready, and at which share of the backward pass."""
    return list(zip(accumulate(size for size, _ in ready), (share for _, share in ready), strict=True))


def forecast(found: Sequence[tuple[step.Variant, Measured]], args: argparse.Namespace) -> None:
    """The calculated table. A step takes `--step-seconds` where it is not guided, and guided so many times longer as here."""
    print(
        "\nCalculated, not measured: how long the all-reduce goes on after a backward pass, and what is left of the speed"
    )
    print(ASSUMPTIONS)
    for variant, measured in found:
        one = measured.seconds["1 process, 1 thread"]
        plain = next(m.seconds["1 process, 1 thread"] for v, m in found if v == step.Variant(variant.family))
        seconds = args.step_seconds * one / plain
        print(f"\n{f'{variant}, {seconds:.3g} s a step':<58}{'all-reduce':>12}{'not hidden':>12}{'speed':>8}")
        for name, network in NETWORKS.items():
            total = sum(network.seconds(size) for size, _ in buckets(measured.ready))
            rest = exposed(measured.ready, seconds * measured.backward / one, network)
            print(f"  {name:<56}{total * 1e3:>9.1f} ms{rest * 1e3:>9.1f} ms{100 * seconds / (seconds + rest):>6.1f} %")


def benchmark_ddp(args: argparse.Namespace) -> None:
    """Print what two processes of this machine take, and the calculated table."""
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("localhost", 0))
        port, file = free.getsockname()[1], Path(folder) / "measured.json"
        free.close()
        start_processes(worker, (port, file, args), nprocs=2, start_method="spawn")
        found = [(step.Variant(**variant), Measured(**values)) for variant, values in json.loads(file.read_text())]
    for variant, measured in found:
        report(variant, measured, args)
    forecast(found, args)
