"""From an exported program to ONNX, and its execution by onnxruntime."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

PACKAGES = ("onnx", "onnxscript")  # that writing needs; onnxruntime runs what was written


def check_installed() -> None:
    """Raise ValueError where something that writes ONNX is not installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"--to onnx needs {' and '.join(missing)}; install with: pip install -e '.[onnx]'")


def can_run() -> bool:
    """Whether onnxruntime is installed."""
    return importlib.util.find_spec("onnxruntime") is not None


def write_onnx(path: Path, program: Any, outputs: Sequence[str], metadata: dict[str, str]) -> None:
    """Write a torch.export program as one ONNX file, with `metadata` in its metadata_props."""
    check_installed()
    program = program.run_decompositions(dict(DECOMPOSITIONS))
    converted: Any = torch.onnx.export(
        program, dynamo=True, input_names=["images"], output_names=list(outputs), verbose=False
    )
    converted.model.metadata_props.update(metadata)
    converted.save(str(path), external_data=False)


def run_onnx(path: Path, images: Tensor) -> tuple[list[Tensor], dict[str, str]]:
    """The outputs of an ONNX file for images [B, 3, H, W], and the metadata in it."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {"images": images.numpy()})
    return [torch.from_numpy(x) for x in found], dict(session.get_modelmeta().custom_metadata_map)


def average_pool(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    *rest: Any,
) -> Tensor:
    """aten.avg_pool2d with a divisor of its own, which the conversion to ONNX leaves out (onnxscript 0.7) without a word.

    `rest`: ceil_mode, count_include_pad, divisor_override, as far as they are given.
    """
    usual: tuple[Any, ...] = (False, True, None)
    ceil, count_padding, divisor = (*rest, *usual[len(rest) :])
    if divisor is None:
        return NotImplemented  # type: ignore[no-any-return]  # it stays as it is
    _check_padding(padding, ceil, count_padding)
    pooled = functional.avg_pool2d(x, list(kernel), list(stride or kernel), list(padding))
    scaled: Tensor = pooled * (kernel[0] * kernel[1] / divisor)
    return scaled


def average_pool_adjoint(
    grad: Tensor, x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], *rest: Any
) -> Tensor:
    """aten.avg_pool2d_backward as a transposed convolution by equal weights, because ONNX has no such operation.

    `rest`: ceil_mode, count_include_pad, divisor_override, of which the first must be False and the second True, or without
    padding.
    """
    ceil, count_padding, divisor = rest
    _check_padding(padding, ceil, count_padding)
    channels, steps = grad.shape[1], list(stride or kernel)
    left = [
        size - ((cells - 1) * step - 2 * pad + side)
        for size, cells, step, pad, side in zip(x.shape[2:], grad.shape[2:], steps, padding, kernel, strict=True)
    ]
    share = 1 / (divisor or kernel[0] * kernel[1])
    weight = torch.full((channels, 1, *kernel), share, dtype=grad.dtype, device=grad.device)
    return functional.conv_transpose2d(grad, weight, None, steps, list(padding), left, channels)


def _check_padding(padding: Sequence[int], ceil: bool, count_padding: bool) -> None:
    if ceil or (any(padding) and not count_padding):
        raise ValueError(
            "--to onnx: average pooling that rounds up, or leaves out its padding, has no counterpart here; take "
            "--to torch.export"
        )


# Operations that torch.onnx.export does not know, or gets wrong.
DECOMPOSITIONS: Mapping[Any, Callable[..., Tensor]] = {
    torch.ops.aten.avg_pool2d.default: average_pool,
    torch.ops.aten.avg_pool2d_backward.default: average_pool_adjoint,
}
