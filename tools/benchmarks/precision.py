"""What fp32 and bf16 are off: maps and parameter gradients of each family, and masks, against the same step in float64."""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from guidance.attribution import ATTRIBUTIONS, Request, attribute, one_hot
from guidance.losses import LOCALIZATION_LOSSES
from guidance.models.aim import MaskedClassifier
from guidance.models.classifier import Classifier
from guidance.objectives import Localization, Masking, Objective, aim_objective, guided_objective
from guidance.types import Batch

from . import step  # not by its name, which is another in tests
from .aim_cost import build_masked

M = TypeVar("M", bound=Classifier)
DEPTHS = ("input", "mid2", "final")
# Type of weights and images, and what the forward casts to; no run is trained in fp16.
WAYS: Mapping[str, tuple[torch.dtype, torch.dtype | None]] = {
    "float64": (torch.float64, None),
    "fp32": (torch.float32, None),
    "bf16": (torch.float32, torch.bfloat16),
    "fp16": (torch.float32, torch.float16),
}
SHORT = [way for way in WAYS if way != "float64"]
MASKED = ("convnext_tiny", "resnet50")  # nets of which AIM is measured


@dataclass(frozen=True)
class Found:
    """What one precision gives."""

    maps: Mapping[str, Tensor]  # depth -> [B, h, w], of the first forward pass in training
    gradients: Mapping[str, Mapping[str, Tensor]]  # kind of step -> name of a parameter -> its gradient
    seconds: Mapping[str, float]  # of the processor, for each kind of step


def converted(model: M, batch: Batch, way: str) -> tuple[M, Batch, torch.autocast]:
    """A copy of `model` in the type of a precision, the batch in it, and what its forward passes run in."""
    dtype, cast = WAYS[way]
    batch = batch._replace(images=batch.images.to(dtype), targets=batch.targets.to(dtype))
    autocast = torch.autocast(batch.images.device.type, cast or torch.bfloat16, enabled=cast is not None)
    return copy.deepcopy(model).to(dtype), batch, autocast


def step_of(objective: Objective, batch: Batch, autocast: torch.autocast) -> tuple[dict[str, Tensor], float]:
    """The gradients of one step by name of a parameter of the net, and its seconds of the processor."""
    objective.zero_grad()
    start = time.process_time()
    with autocast:
        found = objective(batch, objective.counts(batch))
    found.loss.backward()
    seconds = time.process_time() - start
    return {name: p.grad for name, p in objective.model.named_parameters() if p.grad is not None}, seconds


def measure(model: Classifier, batch: Batch, way: str) -> Found:
    """Of a copy of `model` in training, guided at the input by the Energy loss with weight 1, and unguided."""
    model, batch, autocast = converted(model, batch, way)
    gradients, seconds = {}, {}
    for kind, weight in (("unguided", 0.0), ("guided", 1.0)):
        localization = Localization(LOCALIZATION_LOSSES["energy"].function, weight, reduction="mean")
        objective = guided_objective(model, localization=localization).train()
        gradients[kind], seconds[kind] = step_of(objective, batch, autocast)
    rows = torch.arange(len(batch.images))
    with autocast:
        out = model(batch.images.requires_grad_())
        seed = one_hot(rows % step.CLASSES, step.CLASSES)
        maps = {
            depth: attribute(model, Request(ATTRIBUTIONS["ixg"], depth, rows, seed, rounds=1, out=out)).detach()
            for depth in DEPTHS
        }
    return Found(maps, gradients, seconds)


def error(found: Tensor, expected: Tensor) -> float:
    """The norm of the difference over that of what is expected."""
    return float((found.double() - expected).norm() / expected.norm())


def of_gradients(found: Mapping[str, Tensor], exact: Mapping[str, Tensor]) -> list[float]:
    """The median of the errors of all parameters, and the worst."""
    errors = [error(found[name], gradient) for name, gradient in exact.items() if gradient.any()]
    return [statistics.median(errors), max(errors)]


def line(name: str, way: str, errors: Sequence[float], time: float) -> None:
    print("| " + " | ".join([name, way, *(f"{100 * x:.2g}" for x in errors), f"{time:.2f}"]) + " |")


def report(family: str, found: Mapping[str, Found]) -> None:
    """A line for each precision: errors in per cent, and the time of a guided step over that in fp32."""
    exact = found["float64"]
    for way in SHORT:
        own = found[way]
        errors = [error(own.maps[depth], exact.maps[depth]) for depth in DEPTHS]
        for kind in ("unguided", "guided"):
            errors += of_gradients(own.gradients[kind], exact.gradients[kind])
        line(family, way, errors, own.seconds["guided"] / found["fp32"].seconds["guided"])


def measure_masks(
    model: MaskedClassifier, batch: Batch, way: str
) -> tuple[dict[str, Tensor], dict[str, Tensor], float]:
    """Of a copy of `model` in training: mask logits, gradients and seconds of the processor. Draws are the same in all."""
    model, batch, autocast = converted(model, batch, way)
    gradients, seconds = step_of(aim_objective(model, Masking(threshold=0.25)).train(), batch, autocast)
    with torch.no_grad(), autocast:
        out = model.eval()(batch.images)  # without noise
    return dict(out.mask_logits), gradients, seconds


def report_masks(name: str, args: argparse.Namespace) -> None:
    """Lines of the second table: how far mask logits are off, how many cells of the masks are others, and gradients."""
    torch.manual_seed(0)
    model = build_masked(name, 2, num_classes=step.CLASSES).to(args.device)
    batch = step.random_batch(3, args.batch, args.size, 0, torch.device(args.device))
    found = {way: measure_masks(model, batch, way) for way in WAYS}
    exact, gradients, _ = found["float64"]
    for way in SHORT:
        logits, own, seconds = found[way]
        others = torch.cat([((x >= 0) != (exact[stage] >= 0)).flatten() for stage, x in logits.items()])
        worst = max(error(x, exact[stage]) for stage, x in logits.items())
        errors = [worst, float(others.double().mean()), *of_gradients(own, gradients)]
        line(name, way, errors, seconds / found["fp32"][2])


def benchmark_precision(args: argparse.Namespace) -> None:
    """Print the tables, in Markdown."""
    torch.set_num_threads(args.threads)
    print(f"Errors in per cent of float64, {args.batch} images of {args.size} pixels, fresh weights, in training.\n")
    print(
        "| family | precision | map at input | mid2 | final | gradients: median | worst | guided: median | worst | time |"
    )
    print("| --- " * 10 + "|")
    for family in args.family:
        torch.manual_seed(0)
        model = step.build(family, args)
        assert isinstance(model, Classifier)
        batch = step.random_batch(
            6 if family == "bcos" else 3, args.batch, args.size, args.batch, torch.device(args.device)
        )
        report(family, {way: measure(model, batch, way) for way in WAYS})
    print("\n| AIM | precision | mask logits | cells of masks that are others | gradients: median | worst | time |")
    print("| --- " * 7 + "|")
    for name in MASKED:
        report_masks(name, args)
