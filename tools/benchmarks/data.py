"""Throughput of loading: the published code, decoded files, and the decoded cache."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torchvision import transforms, tv_tensors

from guidance.data import GuidanceDataset, Record, RegionOptions, Source, eval_transform
from guidance.data.cache.file import cache_bytes
from guidance.data.cache.images import build_cache
from guidance.data.cache.segments import build_segments
from guidance.data.reading.decode import read_class_map_segments
from guidance.data.transforms.encodings import MEAN, STD


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


def source_of(paths: Sequence[Path], folder: Path) -> Source:
    """A source with one box in each image, and a segmentation, an ellipse in it, as a class map in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for i, path in enumerate(paths):
        with Image.open(path) as image:
            width, height = image.size
        box = (0.2 * width, 0.1 * height, 0.7 * width, 0.9 * height)
        mask = Image.new("L", (width, height))
        ImageDraw.Draw(mask).ellipse(box, fill=1)
        mask.save(folder / f"{i}.png")
        records.append(Record(path, (0,), (box,), (0,), folder / f"{i}.png"))
    return Source(
        "benchmark", "train", ("object",), tuple(records), single_label=True, read_segments=read_class_map_segments
    )


def loaders(source: Source, size: int, folder: Path) -> dict[str, Callable[[int], object]]:
    """What loads image i, in each way.

    An image is a normalised float tensor. A sample is what a process of a loader makes: pixels, which the device normalises,
    and the mask of the box, or, segmented, the segmentation.
    """
    published = transforms.Compose(
        [transforms.Resize((size, size)), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    )
    transform = eval_transform(size)
    decoded = GuidanceDataset(source, transform.pixels, training=True)
    read, segments = build_cache(folder, source, size).read, build_segments(folder, source, size).read
    cached = GuidanceDataset(source, transform.pixels, training=True, read=read)
    outlined = decoded.with_regions(RegionOptions("segment"))
    outlined_cached = cached.with_regions(RegionOptions("segment", cached=segments))
    return {
        "published: image": lambda i: published(Image.open(source.records[i].path).convert("RGB")),
        "decoded: image": lambda i: transform({"image": tv_tensors.Image(decoded.read(i)[0])}),
        "decoded: sample": lambda i: decoded[0, i],
        "decoded: segmented": lambda i: outlined[0, i],
        "cached: image": lambda i: transform({"image": tv_tensors.Image(cached.read(i)[0])}),
        "cached: sample": lambda i: cached[0, i],
        "cached: segmented": lambda i: outlined_cached[0, i],
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


def measure(
    folder: Path | None, *, size: int, images: int, rounds: int
) -> Iterator[tuple[str, Source, dict[str, float]]]:
    """Name, source and images per second (see `measure_loading`) of each set of images."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        default = Path(__file__).resolve().parents[3] / "shared" / "data"
        chosen = folder or (default if default.is_dir() else None)
        sets = photographs(chosen, images) if chosen else generated(scratch, images)
        for name, paths in sets.items():
            source = source_of(paths, scratch / f"{name} masks")
            yield name, source, measure_loading(loaders(source, size, scratch / name), len(paths), rounds)


def benchmark_data(folder: Path | None, *, size: int, images: int, rounds: int) -> None:
    """Print the throughput of one worker on each set of images."""
    for name, source, speeds in measure(folder, size=size, images=images, rounds=rounds):
        paths = [record.path for record in source.records]
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
