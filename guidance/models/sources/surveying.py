"""What must be known about a net before it is built, found out by building it without values."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor, nn

from guidance.models.backbones import Backbone
from guidance.models.classifier import Classifier, evaluation_mode
from guidance.models.wrapping import suggest, wrap
from guidance.models.wrapping.grids import grid_of
from guidance.models.wrapping.trial import SIDE, example_images, tried

Build = Callable[[int], nn.Module]  # number of classes -> a net, or a Classifier
CLASSES = 97  # an unusual width: what has it is the classifier
ENCODINGS = {3: "normalized", 6: "inverse"}


@dataclass(frozen=True)
class _Survey:
    """A net that was run once."""

    net: nn.Module
    layers: Mapping[str, str] | None  # depth -> its layer; None: the net has depths of its own
    shapes: Mapping[str, tuple[int, ...]]  # depth -> of the state there
    heights: Mapping[str, int]  # depth -> of its grid, in cells
    first: Sequence[str]  # depths whose state is [B, C, h, w]


def backbone_of(build: Build, name: str, *, side: int = SIDE) -> Backbone:
    """The row of a net: without weights, with the depths that `wrap` suggests, or those of the `Classifier` that `build` makes.

    The net is built on the device "meta", and for real only where that does not work, and run on images of `side` pixels.
    Raises ValueError for a net that cannot be wrapped, that has not the number of classes that was asked for, or more than one
    layer that decides it.
    """
    found = _survey(build, name, side)
    net = found.net.net if isinstance(found.net, Classifier) else found.net
    depths = tuple(found.shapes)
    dynamic = isinstance(found.net, Classifier) and found.net.dynamic
    return Backbone(
        partial(_build, build, found.layers, side), _head(net, name), {}, depths=("input", *depths),
        traits=("dynamic",) if dynamic else (), encoding=_encoding(found.net, name),
        stride=round(side / found.heights[depths[-1]]), channels=_pyramid(found),
        tried=cache(partial(_refused, found.net)) if _is_meta(found.net) else lambda size: "",
    )  # fmt: skip


def _build(build: Build, layers: Mapping[str, str] | None, side: int, num_classes: int) -> Classifier:
    net = build(num_classes)
    return net if isinstance(net, Classifier) else wrap(net, layers, example=example_images(net, side))


def _survey(build: Build, name: str, side: int) -> _Survey:
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what has no values
        try:
            with torch.device("meta"):
                return _looked_at(build(CLASSES), side)
        except Exception:  # whatever a net does with values that are not there
            pass
        try:
            with torch.device("cpu"):
                return _looked_at(build(CLASSES), side)
        except Exception as error:
            raise ValueError(f"model.name: {name} cannot be used ({type(error).__name__}: {error})") from error


def _looked_at(net: nn.Module, side: int) -> _Survey:
    if isinstance(net, Classifier):
        images = torch.empty(2, net.channels or 3, side, side, device=next(net.parameters()).device)
        with evaluation_mode(net), torch.no_grad():
            out = net(images)
        _check_classes(out.logits)
        states = {depth: out.features[depth] for depth in net.depths[1:]}
        cells = {depth: net.cells(x, depth).shape for depth, x in states.items()}
        shapes = {depth: tuple(x.shape) for depth, x in states.items()}
        heights = {depth: shape[2] for depth, shape in cells.items()}
        return _Survey(net, None, shapes, heights, [depth for depth in shapes if net.grids.get(depth) is None])
    layers, seen = suggest(net, example_images(net, side))
    _check_classes(getattr(seen.output, "logits", seen.output))
    shapes = {depth: seen.layers[layer].shape or () for depth, layer in layers.items()}
    grids = {depth: grid for depth, shape in shapes.items() if (grid := grid_of(shape))}  # all have one
    heights = {depth: grid.height for depth, grid in grids.items()}
    return _Survey(net, layers, shapes, heights, [depth for depth, grid in grids.items() if grid.cells is None])


def _check_classes(logits: Tensor) -> None:
    if logits.shape[1] != CLASSES:
        raise ValueError(f"asked for {CLASSES} classes, it returns {logits.shape[1]} logits")


def _pyramid(found: _Survey) -> tuple[int, ...]:
    """The channels at the depths of a net whose grids become coarser from each to the next; empty for others."""
    heights = list(found.heights.values())
    pyramid = len(heights) > 1 and heights == sorted(set(heights), reverse=True)
    if not pyramid or list(found.first) != list(found.shapes):
        return ()
    return tuple(shape[1] for shape in found.shapes.values())


def _head(net: nn.Module, name: str) -> str:
    """The name of the layer that has a row of weights for each class."""
    layers = {key.rpartition(".")[0] for key, x in net.named_parameters() if x.shape[:1] == (CLASSES,)}
    if len(layers) > 1:
        raise ValueError(
            f"model.name: {name} has a row of weights for each class in several layers ({', '.join(sorted(layers))}); expected "
            "one classifier, which alone can be replaced for other classes"
        )
    return next(iter(layers), "")


def _encoding(net: nn.Module, name: str) -> str:
    channels = (net.channels if isinstance(net, Classifier) else None) or 3
    if channels not in ENCODINGS:
        raise ValueError(f"model.name: {name} takes images of {channels} channels; expected 3, or 6 of a B-cos net")
    return ENCODINGS[channels]


def _is_meta(net: nn.Module) -> bool:
    return all(x.is_meta for x in net.parameters())


def _refused(net: nn.Module, size: int) -> str:
    channels = (net.channels if isinstance(net, Classifier) else None) or 3
    try:
        tried(net, torch.empty(2, channels, size, size, device="meta"))
    except Exception as error:
        return str(error.__cause__ or error)
    return ""
