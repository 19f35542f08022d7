"""What a net does with images: which layers it runs, in which order, and what they return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from guidance.models.classifier import evaluation_mode
from guidance.models.layers.twice import Noting

SIDE = 224  # pixels a side of the image that a net is tried on, where none is given


@dataclass(frozen=True)
class LayerOutput:
    """What a layer returned when it was last called."""

    shape: tuple[int, ...] | None  # None: no tensor
    overwritten: bool  # by what came after it


@dataclass(frozen=True)
class Trial:
    """A forward pass in evaluation mode."""

    images: Tensor  # [B, C, H, W]
    output: Any
    layers: Mapping[str, LayerOutput]  # by name, in the order in which their last calls ended
    overwritten: bool  # whether the net writes into its images
    calling: frozenset[nn.Module]  # those that call a function of `guidance.models.layers.twice.FUNCTIONS` themselves


def example_images(net: nn.Module, side: int = SIDE) -> Tensor:
    """Random pixels [2, C, side, side], as many channels as the first convolution of `net` takes, of its type and device."""
    first = next((module for module in net.modules() if isinstance(module, nn.Conv2d)), None)
    channels = 3 if first is None else first.in_channels
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, channels, side, side, generator=generator, device="cpu")
    weight = next((x for x in net.parameters() if x.is_floating_point()), images)
    return images.to(weight)


def tried(net: nn.Module, images: Tensor) -> Trial:
    """Run `net` on `images`, and leave everything as it was. ValueError where it cannot be run."""
    found: dict[str, tuple[Any, int]] = {}
    running: list[nn.Module] = [net]
    calling: set[nn.Module] = set()

    def enter(module: nn.Module, inputs: Any) -> None:
        running.append(module)

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        running.pop()
        name = names[module]
        found.pop(name, None)
        found[name] = output, _version(output)

    names = {module: name for name, module in net.named_modules() if name}
    handles = [module.register_forward_pre_hook(enter) for module in names]
    handles += [module.register_forward_hook(leave) for module in names]
    given = images.clone()
    version = given._version
    try:
        with evaluation_mode(net), torch.no_grad(), Noting(lambda: calling.add(running[-1])):
            output = net(given)
    except Exception as error:
        raise ValueError(
            f"the net cannot be run on images {list(images.shape)} ({type(error).__name__}: {error}); it must take one "
            "tensor of images. Give `example`, two images [2, C, H, W] as it takes them"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    layers = {
        name: LayerOutput(tuple(x.shape) if isinstance(x, Tensor) else None, _version(x) != before)
        for name, (x, before) in found.items()
    }
    return Trial(images, output, layers, given._version != version, frozenset(calling))


def _version(output: Any) -> int:
    """How often a tensor was written into."""
    return output._version if isinstance(output, Tensor) else 0
