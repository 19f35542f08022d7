"""One table of what costs time, each row with its reference from the same run: steps, evaluations, data, and a whole run."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator
from typing import NamedTuple

from . import data, evaluation, loop, step  # not by their names, which are others in tests

SEGMENTED = 10.0  # how many times as fast as decoding a segmented sample should come from the cache


class Row(NamedTuple):
    """A ratio, and what it should be; none where nothing is asked of it."""

    what: str
    value: str
    goal: str = ""


def steps(args: argparse.Namespace) -> Iterator[Row]:
    """Of each family: guided steps over the unguided one, and how many times as fast as by double backward."""
    every = step.variants(args.family, compiled=args.compile)
    chosen = [variant for variant in every if not (variant.lens or variant.checkpointed)]
    times = step.measure_times(chosen, args)
    for variant in chosen:
        name, plain = f"step, {variant}", times[step.Variant(variant.family)]
        if variant != step.Variant(variant.family):
            goal = "at most 1.30x" if variant == step.Variant("bcos", "input", compiled=True) else ""
            yield Row(f"{name} / unguided", f"{times[variant] / plain:.2f}x", goal)
        if variant.double_backward or variant.annotated or variant.depth != "input":
            continue
        doubles = [t for v, t in times.items() if v.family == variant.family and v.double_backward]
        if doubles:
            goal = "at least 2.20x" if variant.compiled and variant.family == "bcos" else ""
            yield Row(f"double backward, in its faster layout / {name}", f"{min(doubles) / times[variant]:.2f}x", goal)
        if variant.compiled:
            unguided = times[step.Variant(variant.family, compiled=True)]
            yield Row(f"{name} / unguided, compiled", f"{times[variant] / unguided:.2f}x", "at most 1.85x")


def evaluations(args: argparse.Namespace) -> Iterator[Row]:
    """Of each family: maps and all scores over a forward pass, and what scores and further maps of an image take."""
    for timed, ratio in evaluation.ratios(evaluation.measure(args)).items():
        if timed.what != timed.over and timed.at_most is not None:
            yield Row(f"evaluation, {timed} / {timed.over}", f"{ratio:.2f}x", f"at most {timed.at_most:.2f}x")


def loading(args: argparse.Namespace) -> Iterator[Row]:
    """Of each set of images: samples from the cache over those that are decoded."""
    for name, _, speeds in data.measure(args.images_from, size=args.size, images=args.images, rounds=args.rounds):
        for kind in ("sample", "segmented"):
            goal = f"at least {SEGMENTED:.0f}x" if kind == "segmented" else ""
            yield Row(
                f"data, {name}, {kind}: cached / decoded",
                f"{speeds[f'cached: {kind}'] / speeds[f'decoded: {kind}']:.1f}x",
                goal,
            )


def whole_run(args: argparse.Namespace) -> Iterator[Row]:
    """An epoch of training over its steps alone."""
    yield Row(
        "run, an epoch without its evaluation / its steps alone",
        f"{loop.measure(args).ratio():.3f}x",
        f"at most {loop.LIMIT}x",
    )


PARTS = {steps: (8, 224), evaluations: (16, 224), loading: (1, 224), whole_run: (48, 64)}  # images and pixels


def benchmark_table(args: argparse.Namespace) -> None:
    """Print the table in Markdown."""
    print("| what / over what | measured | goal |\n|---|---|---|")
    for part, (batch, size) in PARTS.items():
        own = copy.copy(args)
        own.batch, own.size = args.batch or batch, args.size or size
        for row in part(own):
            print(f"| {row.what} | {row.value} | {row.goal} |", flush=True)
