"""Where the time of a step and of an evaluation goes: operations of torch by the share of time that they take themselves."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch.profiler import ProfilerActivity, profile

from guidance.models.classifier import Classifier

from . import evaluation, step  # not by their names, which are others in tests

ARITHMETIC = ("conv", "mm", "linear", "matmul")  # parts of names of convolutions and matrix products
SHOWN = 8  # operations in a row of the table


def shares(call: Callable[[], object], *, device: str) -> dict[str, float]:
    """Operation -> its share of the time of `call`, after a call that warms up; the largest first."""
    call()
    cuda = torch.device(device).type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as found:
        call()
    times: Counter[str] = Counter()
    for event in found.key_averages():
        times[event.key.removeprefix("aten::")] += event.self_device_time_total if cuda else event.self_cpu_time_total
    return {name: time / times.total() for name, time in times.most_common()}


def arithmetic(of: dict[str, float]) -> float:
    """The share of convolutions and matrix products."""
    return sum(share for name, share in of.items() if any(part in name for part in ARITHMETIC))


def calls_of(family: str, args: argparse.Namespace) -> dict[str, Callable[[], object]]:
    """What is looked at of a family: unguided and guided steps, and an evaluation with its scores."""
    model = step.build(family, args)
    assert isinstance(model, Classifier)
    variants = {"unguided": step.Variant(family), "guided at the input": step.Variant(family, "input")}
    if args.compile:
        variants |= {f"{name}, compiled": replace(variant, compiled=True) for name, variant in variants.items()}
    calls: dict[str, Callable[[], object]] = {
        name: step.prepare(variant, model, args) for name, variant in variants.items()
    }
    batch = evaluation.batch_of(6 if family == "bcos" else 3, evaluation.counts(args.batch), args.size).to(args.device)
    return calls | {"evaluation at the input": partial(evaluation.evaluated, model, batch, "input")}


def benchmark_profile(args: argparse.Namespace) -> None:
    """Print a line for each family and call."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    for family in args.family:
        for name, call in calls_of(family, args).items():
            of = shares(call, device=args.device)
            top = ", ".join(f"{operation} {share:.1%}" for operation, share in list(of.items())[:SHOWN])
            print(f"{family}, {name}: convolutions and matrix products {arithmetic(of):.1%}; {top}")
