"""What AIM costs: parameters and multiply-adds beside Table 6 of the paper, and the time of a step.

    python tools/benchmarks/aim_cost.py                              # the table; nothing is computed but shapes
    python tools/benchmarks/aim_cost.py --time --backbone convnext_tiny --batch 8 --threads 2
    python tools/benchmarks/aim_cost.py --time --device cuda --batch 128

With --time the plain net and its AIM variants take turns in one process, and the median of the rounds counts: a training step
(forward, loss, backward, update) and inference, each over that of the plain net.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

from guidance import cli

if not cli.asks_for_help():
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from guidance.models import BACKBONES, build_model
    from guidance.models.aim import MaskedClassifier, build_aim
    from guidance.models.classifier import Classifier
    from guidance.objectives import Classification, Masking, Objective, aim_objective, guided_objective
    from guidance.types import Batch, Regions

CLASSES = 200
# (backbone, stop stage; None: the plain net) -> GFLOPs (multiply-adds) and millions of parameters of AIM, Table 6
PUBLISHED: dict[tuple[str, int | None], tuple[float, float]] = {
    ("convnext_tiny", None): (4.5, 28.0),
    ("convnext_tiny", 1): (5.2, 30.7),
    ("convnext_tiny", 2): (4.6, 29.9),
    ("resnet50", None): (4.1, 23.9),
    ("resnet50", 2): (5.1, 27.6),
    ("resnet50", 3): (4.4, 26.6),
}


def build(name: str, stop_stage: int | None) -> Classifier:
    return build_model(name, num_classes=CLASSES) if stop_stage is None else build_masked(name, stop_stage)


def build_masked(name: str, stop_stage: int, *, num_classes: int = CLASSES) -> MaskedClassifier:
    """The net with masks of AIM at its last stages, down to `stop_stage`."""
    plain, row = build_model(name, num_classes=num_classes), BACKBONES[name]
    return build_aim(plain, row.channels, first_stage=row.first_stage, stop_stage=stop_stage, num_classes=num_classes)


def label(name: str, stop_stage: int | None) -> str:
    return name if stop_stage is None else f"{name}+AIM[{stop_stage}]"


def cost(name: str, stop_stage: int | None, size: int = 224) -> tuple[int, float]:
    """Parameters, and multiply-adds of convolutions and matrix products for one image, in units of 1e9."""
    with torch.device("meta"), torch.no_grad():
        model = build(name, stop_stage).eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, size, size))
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops() / 2e9


def print_table() -> None:
    print(f"{'':<24}{'parameters':>12}{'paper (M)':>11}{'GMACs':>9}{'paper':>7}")
    for (name, stop), (published_macs, published_parameters) in PUBLISHED.items():
        parameters, macs = cost(name, stop)
        print(f"{label(name, stop):<24}{parameters:>12,}{published_parameters:>11}{macs:>9.3f}{published_macs:>7}")


def prepare(model: Classifier, args: argparse.Namespace, *, training: bool) -> Callable[[], None]:
    """One training step, or one forward pass of inference, as a function to time."""
    device = torch.device(args.device)
    index = torch.arange(args.batch, device=device)
    nothing = torch.zeros(0, dtype=torch.long, device=device)
    regions = Regions(nothing, nothing, torch.zeros(0, args.size, args.size, dtype=torch.bool, device=device), None, 0)
    images = torch.rand(args.batch, 3, args.size, args.size, device=device)
    batch = Batch(images, torch.eye(CLASSES, device=device)[index % CLASSES], regions, index, index)
    objective: Objective
    if hasattr(model, "masked"):
        objective = aim_objective(model, Masking(threshold=0.25, anneal_epochs=100))  # type: ignore[arg-type]
    else:
        objective = guided_objective(model, Classification("cross_entropy"))
    objective.train(training)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    counts = objective.counts(batch)

    def step() -> None:
        if training:
            optimizer.zero_grad()
            objective(batch, counts).loss.backward()
            optimizer.step()
        else:
            with torch.no_grad():
                model(images)
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def print_times(name: str, args: argparse.Namespace) -> None:
    stops = [stop for known, stop in PUBLISHED if known == name]
    models = {stop: build(name, stop).to(args.device) for stop in stops}
    steps = {
        (stop, training): prepare(model, args, training=training)
        for training in (True, False) for stop, model in models.items()
    }  # fmt: skip
    times: dict[tuple[int | None, bool], list[float]] = {key: [] for key in steps}
    for turn in range(args.rounds + 1):
        for key, step in steps.items():
            models[key[0]].train(key[1])
            start = time.perf_counter()
            step()
            if turn:  # the first round warms up
                times[key].append(time.perf_counter() - start)
        print(f"round {turn} of {args.rounds}", file=sys.stderr)
    median = {key: statistics.median(values) for key, values in times.items()}
    macs = {stop: cost(name, stop, args.size)[1] for stop in stops}
    print(f"{'':<24}{'step':>8}{'inference':>11}{'multiply-adds':>15}")
    for stop in stops:
        ratios = [median[stop, training] / median[None, training] for training in (True, False)]
        print(f"{label(name, stop):<24}{ratios[0]:>7.2f}x{ratios[1]:>10.2f}x{macs[stop] / macs[None]:>14.2f}x")


def main() -> None:
    parser = cli.build_parser(__doc__)
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--backbone", choices=["convnext_tiny", "resnet50"], nargs="+", default=["convnext_tiny"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f"--rounds must be at least 1, not {args.rounds}")
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("this machine has no GPU that torch can use; leave --device out")
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    print_table()
    for name in args.backbone if args.time else ():
        print()
        print_times(name, args)


if __name__ == "__main__":
    main()
