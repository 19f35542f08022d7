"""What fp32 and bf16 are off: maps and parameter gradients of each family, and masks, against the same step in float64."""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from guidance.attribution import ATTRIBUTIONS, Request, attribute, one_hot
from guidance.losses import LOCALIZATION_LOSSES
from guidance.models import BACKBONES, build_model
from guidance.models.aim import MaskedClassifier, build_aim
from guidance.models.classifier import Classifier
from guidance.objectives import Localization, Masking, aim_objective, guided_objective
from guidance.types import Batch

from . import step  # not by its name, which is another in tests

DEPTHS = ("input", "mid2", "final")
# Type of weights and images, and what the forward casts to; no run is trained in fp16.
WAYS: Mapping[str, tuple[torch.dtype, torch.dtype | None]] = {
    "float64": (torch.float64, None),
    "fp32": (torch.float32, None),
    "bf16": (torch.float32, torch.bfloat16),
    "fp16": (torch.float32, torch.float16),
}
MASKED = ("convnext_tiny", "resnet50")  # nets of which AIM is measured


@dataclass(frozen=True)
class Found:
    """What one precision gives."""

    maps: Mapping[str, Tensor]  # depth -> [B, h, w], of the first forward pass in training
    gradients: Mapping[str, Mapping[str, Tensor]]  # kind of step -> name of a parameter -> its gradient
    seconds: Mapping[str, float]  # of the processor, for each kind of step


def measure(model: Classifier, batch: Batch, way: str) -> Found:
    """Of a copy of `model` in training, guided at the input by the Energy loss with weight 1, and unguided."""
    dtype, cast = WAYS[way]
    model = copy.deepcopy(model).to(dtype).train()
    batch = batch._replace(images=batch.images.to(dtype), targets=batch.targets.to(dtype))
    autocast = torch.autocast(batch.images.device.type, cast or torch.bfloat16, enabled=cast is not None)
    gradients, seconds = {}, {}
    for kind, weight in (("unguided", 0.0), ("guided", 1.0)):
        objective = guided_objective(
            model, localization=Localization(LOCALIZATION_LOSSES["energy"].function, weight, reduction="mean")
        )
        model.zero_grad()
        start = time.process_time()
        with autocast:
            found = objective(batch, objective.counts(batch))
        found.loss.backward()
        seconds[kind] = time.process_time() - start
        gradients[kind] = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
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


def report(family: str, found: Mapping[str, Found]) -> None:
    """A line for each precision: errors in per cent, and the time of a guided step over that in fp32."""
    exact = found["float64"]
    for way, own in found.items():
        if way == "float64":
            continue
        columns = [f"{100 * error(own.maps[depth], exact.maps[depth]):.2g}" for depth in DEPTHS]
        for kind in ("unguided", "guided"):
            errors = [error(own.gradients[kind][name], g) for name, g in exact.gradients[kind].items() if g.any()]
            columns += [f"{100 * statistics.median(errors):.2g}", f"{100 * max(errors):.2g}"]
        columns.append(f"{own.seconds['guided'] / found['fp32'].seconds['guided']:.2f}")
        print("| " + " | ".join([family, way, *columns]) + " |")


def build_masked(name: str, args: argparse.Namespace) -> MaskedClassifier:
    """A net with masks of AIM at all stages from the second."""
    row, plain = BACKBONES[name], build_model(name, num_classes=step.CLASSES)
    model = build_aim(plain, row.channels, first_stage=row.first_stage, stop_stage=2, num_classes=step.CLASSES)
    return model.to(args.device)


def measure_masks(
    model: MaskedClassifier, batch: Batch, way: str
) -> tuple[dict[str, Tensor], dict[str, Tensor], float]:
    """Of a copy of `model` in training: mask logits, gradients and seconds of the processor. Draws are the same in all."""
    dtype, cast = WAYS[way]
    model = copy.deepcopy(model).to(dtype)
    batch = batch._replace(images=batch.images.to(dtype), targets=batch.targets.to(dtype))
    autocast = torch.autocast(batch.images.device.type, cast or torch.bfloat16, enabled=cast is not None)
    objective = aim_objective(model, Masking(threshold=0.25)).train()
    start = time.process_time()
    with autocast:
        found = objective(batch, objective.counts(batch))
    found.loss.backward()
    seconds = time.process_time() - start
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    with torch.no_grad(), autocast:
        out = model.eval()(batch.images)  # without noise
    return dict(out.mask_logits), gradients, seconds


def report_masks(name: str, args: argparse.Namespace) -> None:
    """Lines of the second table: how far mask logits are off, how many cells of the masks are others, and gradients."""
    torch.manual_seed(0)
    model = build_masked(name, args)
    batch = step.random_batch(3, args.batch, args.size, 0, torch.device(args.device))
    found = {way: measure_masks(model, batch, way) for way in WAYS}
    (exact, gradients, _), (*_, plain) = found["float64"], found["fp32"]
    for way, (logits, own, seconds) in found.items():
        if way == "float64":
            continue
        other = torch.cat([((x >= 0) != (exact[stage] >= 0)).flatten() for stage, x in logits.items()])
        errors = [error(own[name], g) for name, g in gradients.items() if g.any()]
        columns = [100 * max(error(x, exact[stage]) for stage, x in logits.items()), 100 * float(other.double().mean())]
        columns += [100 * statistics.median(errors), 100 * max(errors)]
        print("| " + " | ".join([name, way, *(f"{x:.2g}" for x in columns), f"{seconds / plain:.2f}"]) + " |")


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
