"""Time of the maps of one class of each image, and of several that compete, at the input."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import torch

from guidance.attribution import ATTRIBUTIONS, Request, explain, one_hot, with_lens

from . import step  # not by its name, which is another in tests

CLASSES = (1, 2, 4)
LIMIT = 0.7  # of the price of the first class, what each further one may cost


@dataclass(frozen=True)
class Maps:
    """The maps of `classes` classes of each image; 1 is the map of one class, without the lens."""

    family: str
    classes: int

    def __str__(self) -> str:
        return f"{self.family}, {self.classes} class{'es' if self.classes > 1 else ''}"


def prepare(variant: Maps, model: torch.nn.Module, images: torch.Tensor) -> Callable[[], None]:
    """What is timed: the forward pass and the maps of the most probable class of each image."""
    method = ATTRIBUTIONS["ixg"]
    if variant.classes > 1:
        method = with_lens(method, classes=f"top{variant.classes}")
    with torch.no_grad():
        best = model(images).logits.argmax(1)
    rows = torch.arange(len(images), device=images.device)
    request = Request(method, "input", rows, one_hot(best, step.CLASSES), rounds=1)

    def maps() -> None:
        explain(model, images, request)  # type: ignore[arg-type]
        if images.device.type == "cuda":
            torch.cuda.synchronize()

    return maps


def benchmark_lens(args: argparse.Namespace) -> None:
    """Print the table; variants are interleaved, the median of the rounds counts."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    calls: dict[Maps, Callable[[], None]] = {}
    for family in args.family:
        model = step.build(family, args).eval()
        images = torch.rand(args.batch, 6 if family == "bcos" else 3, args.size, args.size, device=args.device)
        calls |= {variant: prepare(variant, model, images) for variant in (Maps(family, k) for k in CLASSES)}
    times = step.interleaved(calls, args.rounds)
    print(f"{'maps at the input':<30}{'seconds':>9}{'one class':>11}{'at most':>9}")
    for variant, seconds in times.items():
        one = times[Maps(variant.family, 1)]
        limit = 1 + LIMIT * (variant.classes - 1)
        print(f"{variant!s:<30}{seconds:>9.3f}{seconds / one:>10.2f}x{limit:>8.1f}x")
    print(f"one class: time over that of the map of one class; at most: 1 + {LIMIT} for each further class")
