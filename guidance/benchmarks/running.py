"""Running a benchmark: methods x scenes, shared by the processes, written as it goes, continued where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import nn

from guidance import distributed
from guidance.benchmarks.class_maps import JudgedMethod
from guidance.benchmarks.scenes import LabelledScene, Scenes
from guidance.progress import Progress
from guidance.runs.files import finite, write_atomically

SETTINGS, ROWS = "settings.json", "rows-{}.jsonl"
Row = dict[str, Any]
# (method, scenes with as many classes each) -> rows with "scene" and whatever the benchmark measures
Judge = Callable[[JudgedMethod, Sequence[LabelledScene]], list[Row]]


def run_benchmark(
    judge: Judge, methods: Sequence[JudgedMethod], scenes: Scenes, folder: Path, *, settings: Mapping[str, Any],
    batch_size: int = 4,
) -> list[Row]:  # fmt: skip
    """Judge every method on every scene; the rows of all processes. A collective call.

    What is done is in `folder` after each batch: started again with the same `settings` (plain types: all that decides the
    rows), only the rest is done, by any number of processes. What is no finite number is written as null and read as None.
    Raises ValueError where the folder holds the rows of other settings.
    """
    distributed.main_does(lambda: _claim(folder, settings))
    done = {(item["method"], item["scene"]) for item in _read(folder)}
    distributed.barrier()  # nobody writes before all have read
    left = [
        (method, [i for i, name in enumerate(scenes.names) if (method.name, name) not in done]) for method in methods
    ]
    shares = [(method, open_[distributed.rank() :: distributed.world_size()]) for method, open_ in left]
    total = sum(len(share) for _, share in shares)
    every = len(methods) * len(scenes)
    if len(done) and distributed.is_main():
        print(f"{folder}: going on, {sum(len(open_) for _, open_ in left)} of {every} are left", flush=True)
    path = folder / ROWS.format(distributed.rank())
    with Progress(folder.name, total, unit="scene", shown=distributed.is_main()) as bar:
        for method, share in shares:
            bar.note({"method": method.name})
            for batch in _batches((scenes.build(i) for i in share), batch_size):
                _append(path, method, batch, judge(method, batch) if batch[0].classes else [])
                for _ in batch:
                    bar.update()
    distributed.barrier()
    return read_rows(folder)


def _batches(scenes: Iterator[LabelledScene], size: int) -> Iterator[list[LabelledScene]]:
    """Neighbours with as many classes, and images of one size, at most `size` of them."""
    for _, group in groupby(scenes, key=lambda scene: (len(scene.classes), scene.image.shape)):
        batch: list[LabelledScene] = []
        for scene in group:
            batch.append(scene)
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch


def _claim(folder: Path, settings: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SETTINGS
    wanted = json.loads(json.dumps(dict(settings)))
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        other = [name for name in sorted(found.keys() | wanted.keys()) if found.get(name) != wanted.get(name)]
        if other:
            listed = ", ".join(f"{name} {found.get(name)!r}, now {wanted.get(name)!r}" for name in other)
            raise ValueError(f"{folder} holds results with other settings ({listed}); give another output folder")
        for rows in folder.glob(ROWS.format("*")):  # what was cut off is done again, on a line of its own
            write_atomically(rows, "".join(_lines(rows)))
        return
    write_atomically(path, json.dumps(wanted, indent=2) + "\n")


def _append(path: Path, method: JudgedMethod, scenes: Sequence[LabelledScene], rows: Sequence[Row]) -> None:
    """A line for each scene, so that an interruption leaves a scene whole or not at all; also for one without a class."""
    lines = []
    for scene in scenes:
        own = [{name: _plain(value) for name, value in row.items()} for row in rows if row["scene"] == scene.name]
        lines.append(json.dumps({"method": method.name, "scene": scene.name, "rows": own}, allow_nan=False) + "\n")
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(lines))


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [finite(v) for v in value]
    return finite(value) if isinstance(value, float) else value


def _read(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.glob(ROWS.format("*"))) for line in _lines(path)]


def _lines(path: Path) -> list[str]:
    """The whole lines of a file; a write that was cut off leaves a last one without its end."""
    return [line for line in path.read_text(encoding="utf-8").splitlines(keepends=True) if line.endswith("\n")]


def read_rows(folder: Path) -> list[Row]:
    """All rows that a benchmark's folder holds, by method and scene."""
    items = sorted(_read(folder), key=lambda item: (item["method"], item["scene"]))
    return [{"method": item["method"], **row} for item in items for row in item["rows"]]


def to_batch(scenes: Sequence[LabelledScene], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [B, C, H, W] and classes [B, C'] of scenes."""
    images = torch.stack([scene.image for scene in scenes]).to(device)
    return images, torch.tensor([scene.classes for scene in scenes], device=device)


def device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
