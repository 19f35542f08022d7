"""The formats: how each is written, and how its file is read back and run. `FORMATS` is the table of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from guidance.assembly.sets import encoding
from guidance.export.deployed import deployed
from guidance.export.onnx import can_run, check_installed, run_onnx, write_onnx
from guidance.export.weights import LIBRARIES, library_net, library_options, library_state
from guidance.inference import Run

METADATA = "guidance.json"  # what the metadata is called inside a torch.export archive


@dataclass(frozen=True)
class Format:
    """A kind of file."""

    suffix: str
    check: Callable[[Run, bool], None]  # (run, maps); ValueError where this format cannot hold the run
    write: Callable[[Path, Run, bool, dict[str, Any]], None]  # (file, run, maps, metadata)
    # (file, run, images [B, 3, H, W] in [0, 1]) -> its outputs for them; None where what runs it is not installed
    read: Callable[[Path, Run, Tensor], list[Tensor] | None]


def _check_weights(library: str, run: Run, maps: bool) -> None:
    if maps:
        raise ValueError("--maps: plain weights have no second output; take --to torch.export or --to onnx")
    library_options(library, run)


def _write_weights(path: Path, run: Run, maps: bool, metadata: dict[str, Any]) -> None:
    torch.save(library_state(run), path)


def _read_weights(library: str, path: Path, run: Run, images: Tensor) -> list[Tensor]:
    net = library_net(library, run, torch.load(path, map_location="cpu", weights_only=True))
    with torch.no_grad():
        return [net(encoding(run.config).encode(images))]


def _weights_of(library: str) -> Format:
    return Format(".pth", partial(_check_weights, library), _write_weights, partial(_read_weights, library))


def _traced(run: Run, maps: bool) -> Any:
    module = deployed(run, maps=maps)
    size = run.config.data.image_size
    # Without a largest batch torch 2.6 finds that one of 2**63 - 1 images would not do.
    dynamic = {"images": {0: torch.export.Dim("batch", max=2**31 - 1)}}
    with torch.no_grad():
        # Strict tracing takes ten times as long.
        return torch.export.export(module, (torch.rand(2, 3, size, size),), dynamic_shapes=dynamic, strict=False)


def _write_program(path: Path, run: Run, maps: bool, metadata: dict[str, Any]) -> None:
    torch.export.save(_traced(run, maps), str(path), extra_files={METADATA: json.dumps(metadata)})


def _read_program(path: Path, run: Run, images: Tensor) -> list[Tensor]:
    with torch.no_grad():
        found = torch.export.load(str(path)).module()(images)
    return [x.detach() for x in ([found] if isinstance(found, Tensor) else found)]


def _check_onnx(run: Run, maps: bool) -> None:
    check_installed()


def _write_onnx(path: Path, run: Run, maps: bool, metadata: dict[str, Any]) -> None:
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    write_onnx(path, _traced(run, maps), ["logits", "maps"] if maps else ["logits"], texts)


def _read_onnx(path: Path, run: Run, images: Tensor) -> list[Tensor] | None:
    return run_onnx(path, images)[0] if can_run() else None


FORMATS: Mapping[str, Format] = {
    **{library: _weights_of(library) for library in LIBRARIES},
    "torch.export": Format(".pt2", lambda run, maps: None, _write_program, _read_program),
    "onnx": Format(".onnx", _check_onnx, _write_onnx, _read_onnx),
}
