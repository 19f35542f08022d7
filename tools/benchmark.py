"""Time and memory of a training step, with and without guidance; throughput of loading.

    python tools/benchmark.py data                 # images per second of one worker: published code, decoded, cached
    python tools/benchmark.py data --images-from DATA --size 320
    python tools/benchmark.py step                 # ResNet-50s, batch 8, 224 pixels, 2 threads; some minutes on a CPU
    python tools/benchmark.py step --device cuda --batch 64
    python tools/benchmark.py step --family bcos --size 64 --rounds 1 --no-memory

Variants are interleaved in one process, and the median of the rounds counts. Memory is the peak of one variant in a process
of its own, over the memory that the process held when the net was built. Loading is measured in one process with one
thread, on the JPEGs of each folder in DATA, or on generated ones where it does not exist; their files are in memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms, tv_tensors

from guidance.attribution import ATTRIBUTIONS, Explainable, Method, Request
from guidance.attribution.gradient import ixg
from guidance.data import GuidanceDataset, Record, Source, eval_transform
from guidance.data.cache.file import cache_bytes
from guidance.data.cache.images import build_cache
from guidance.data.transforms.encodings import MEAN, STD
from guidance.losses import LOCALIZATION_LOSSES
from guidance.models import build_model
from guidance.objectives import Localization, guided_objective
from guidance.types import Batch, Regions

FAMILIES = {  # name -> (backbone, batchnorm)
    "vanilla": ("resnet50", "local"),
    "vanilla_frozen": ("resnet50", "frozen"),
    "xdnn": ("xdnn_resnet50", "local"),
    "bcos": ("bcos_resnet50", "local"),
}
CLASSES = 20


@dataclass(frozen=True)
class Variant:
    """One kind of step: `depth` None is unguided; `annotated` None is the whole batch."""

    family: str
    depth: str | None = None
    double_backward: bool = False
    annotated: int | None = None
    default_layout: bool = (
        False  # NCHW instead of channels last, where the net prefers that: it suits the double backward
    )

    def __str__(self) -> str:
        way = " by double backward" if self.double_backward else ""
        way += ", NCHW" if self.default_layout else ""
        few = f", {self.annotated} annotated" if self.annotated else ""
        return f"{self.family} " + (f"guided at {self.depth}{way}{few}" if self.depth else "unguided")


def variants(families: list[str]) -> list[Variant]:
    result = []
    for family in families:
        result.append(Variant(family))
        result += [Variant(family, depth) for depth in ("input", "mid2", "final")]
        if family != "vanilla":  # with batch statistics the double backward is the only way
            result.append(Variant(family, "input", double_backward=True))
            if family != "vanilla_frozen":
                result.append(Variant(family, "input", double_backward=True, default_layout=True))
            result.append(Variant(family, "input", annotated=1))
    return result


def by_double_backward(model: Explainable, request: Request) -> Tensor:
    return ixg(model, replace(request, out=request.forward._replace(pullbacks={})))


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


def prepare(variant: Variant, model: torch.nn.Module, args: argparse.Namespace) -> Callable[[], None]:
    """The step of a variant, as a function to time."""
    device = torch.device(args.device)
    batch = random_batch(
        6 if variant.family == "bcos" else 3, args.batch, args.size, variant.annotated or args.batch, device
    )
    method = Method(by_double_backward) if variant.double_backward else ATTRIBUTIONS["ixg"]
    localization = Localization(
        LOCALIZATION_LOSSES["energy"].function,
        1e-3 if variant.depth else 0.0,
        attribution=method,
        depth=variant.depth or "input",
    )
    objective = guided_objective(model, localization=localization).train()  # type: ignore[arg-type]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6)
    counts = objective.counts(batch)

    channels_last = bool(model.channels_last) and not variant.default_layout

    def step() -> None:
        model.channels_last = channels_last  # type: ignore[assignment]  # variants of a family share the net
        optimizer.zero_grad()
        objective(batch, counts).loss.backward()
        optimizer.step()
        if device.type == "cuda":
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
    times: dict[Variant, list[float]] = {variant: [] for variant in chosen}
    for turn in range(args.rounds + 1):
        for variant, step in steps.items():
            start = time.perf_counter()
            step()
            if turn:  # the first round warms up
                times[variant].append(time.perf_counter() - start)
        print(f"round {turn} of {args.rounds}", file=sys.stderr)
    return {variant: statistics.median(values) for variant, values in times.items()}


def measure_memory(variant: Variant, args: argparse.Namespace) -> float:
    """Peak of two steps over the built net, in GB, in this process."""
    step = prepare(variant, build(variant.family, args), args)
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        start = torch.cuda.memory_allocated()
        step(), step()
        return (torch.cuda.max_memory_allocated() - start) / 1e9
    start = _resident()
    step(), step()
    unit = 1 if sys.platform == "darwin" else 1024
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - start) / 1e9


def _resident() -> int:
    if sys.platform == "linux":
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory_in_own_process(variant: Variant) -> float:
    arguments = [*sys.argv[1:], "--one", json.dumps(vars(variant))]
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True, text=True)
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
            f"{double / seconds:.2f}x" if seconds and double and variant.depth == "input" else "",
            f"{memory[variant]:.2f}" if variant in memory else "",
        ]
        print(f"{variant!s:<46}" + "".join(f"{c:>{w}}" for c, w in zip(columns, (9, 10, 11, 7), strict=True)))
    print(
        "unguided: time over the unguided step of the family; "
        "double bw: how many times faster than the double backward in its faster memory layout"
    )


def photographs(folder: Path, count: int) -> dict[str, list[Path]]:
    """`count` JPEGs, evenly spread, of each folder in `folder`."""
    found = {}
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        paths = sorted(part.rglob("*.jpg"))
        if paths:
            found[part.name] = [paths[i * len(paths) // min(count, len(paths))] for i in range(min(count, len(paths)))]
    if not found:
        raise SystemExit(f"error: {folder} holds no folder with .jpg files")
    return found


def generated(folder: Path, count: int) -> dict[str, list[Path]]:
    """JPEGs of the sizes of VOC and COCO, about as large as photographs."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(count):
        small = Image.fromarray(rng.integers(0, 256, (75, 100, 3), dtype=np.uint8))
        paths.append(folder / f"{i}.jpg")
        small.resize(((500, 375), (640, 480))[i % 2], Image.Resampling.BICUBIC).save(paths[-1], quality=90)
    return {"generated": paths}


def source_of(paths: Sequence[Path]) -> Source:
    """A source with one box in each image."""
    records = []
    for path in paths:
        with Image.open(path) as image:
            width, height = image.size
        box = (0.2 * width, 0.1 * height, 0.7 * width, 0.9 * height)
        records.append(Record(path, (0,), (box,), (0,)))
    return Source("benchmark", "train", ("object",), tuple(records), single_label=True)


def loaders(source: Source, size: int, folder: Path) -> dict[str, Callable[[int], object]]:
    """What loads image i, in each way. An image is a normalised float tensor; a sample has its mask as well."""
    published = transforms.Compose(
        [transforms.Resize((size, size)), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    )
    transform = eval_transform(size)
    decoded = GuidanceDataset(source, transform, training=True)
    cached = GuidanceDataset(source, transform, training=True, read=build_cache(folder, source, size).read)
    return {
        "published: image": lambda i: published(Image.open(source.records[i].path).convert("RGB")),
        "decoded: image": lambda i: transform({"image": tv_tensors.Image(decoded.read(i)[0])}),
        "decoded: sample": lambda i: decoded[0, i],
        "cached: image": lambda i: transform({"image": tv_tensors.Image(cached.read(i)[0])}),
        "cached: sample": lambda i: cached[0, i],
    }


def measure_loading(ways: Mapping[str, Callable[[int], object]], images: int, rounds: int) -> dict[str, float]:
    """Median images per second of each way; the ways take turns, and the first round warms up."""
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(rounds + 1):
        for way, load in ways.items():
            start = time.perf_counter()
            for i in range(images):
                load(i)
            if turn:
                speeds[way].append(images / (time.perf_counter() - start))
    return {way: statistics.median(values) for way, values in speeds.items()}


def benchmark_data(folder: Path | None, *, size: int, images: int, rounds: int) -> None:
    """Print the throughput of one worker on each set of images."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        default = Path(__file__).resolve().parents[2] / "shared" / "data"
        chosen = folder or (default if default.is_dir() else None)
        sets = photographs(chosen, images) if chosen else generated(scratch, images)
        for name, paths in sets.items():
            source = source_of(paths)
            speeds = measure_loading(loaders(source, size, scratch / name), len(paths), rounds)
            files = sum(path.stat().st_size for path in paths) / len(paths)
            print(f"\n{name}: {len(paths)} images to {size} x {size} pixels, one process, one thread")
            print(f"{'':<20}{'images/s':>10}{'published':>11}{'decoded':>9}")
            for way, speed in speeds.items():
                over = f"{speed / speeds['published: image']:>10.1f}x"
                over += f"{speed / speeds[way.replace('cached', 'decoded')]:>8.1f}x" if "published" not in way else ""
                print(f"{way:<20}{speed:>10,.0f}{over}")
            print(
                f"bytes per image: {files:,.0f} in files; {cache_bytes(source, size) / len(paths):,.0f} in the cache, "
                f"shared by all processes; {12 * size * size:,} as float32 in every process (published)"
            )
    print("\npublished, decoded: how many times as fast as the published code, and as decoding the file")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["step", "data"])
    parser.add_argument("--images-from", type=Path, metavar="DATA", help="data: folder of folders of JPEGs")
    parser.add_argument("--images", type=int, default=150, help="data: images of each folder")
    parser.add_argument("--family", choices=FAMILIES, nargs="+", default=list(FAMILIES))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--no-time", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # memory of one variant, printed alone
    args = parser.parse_args()
    if args.what == "data":
        return benchmark_data(args.images_from, size=args.size, images=args.images, rounds=args.rounds)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    if args.one:
        print(measure_memory(Variant(**json.loads(args.one)), args))
        return
    chosen = variants(args.family)
    memory = {} if args.no_memory else {variant: memory_in_own_process(variant) for variant in chosen}
    times = {} if args.no_time else measure_times(chosen, args)
    report(chosen, times, memory)


if __name__ == "__main__":
    main()
