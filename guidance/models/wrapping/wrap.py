"""Any net as a classifier with named depths."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from guidance.models.classifier import Classifier, Depth, evaluation_mode
from guidance.models.layers.normalization import convert_batchnorm
from guidance.models.layers.twice import make_twice_differentiable, replace_calls
from guidance.models.wrapping.grids import grid_of
from guidance.models.wrapping.staging import in_stages, recorded
from guidance.models.wrapping.suggesting import suggested_depths
from guidance.models.wrapping.tracing import logits_of, trace
from guidance.models.wrapping.trial import Trial, example_images, tried
from guidance.types import suggestion

Cells = Callable[[Tensor], Tensor]


def wrap(
    net: nn.Module,
    depths: Mapping[str, str] | None = None,
    *,
    cells: Mapping[str, Cells] | None = None,
    example: Tensor | None = None,
    batchnorm: str = "local",
) -> Classifier:
    """`net` as a classifier that can be explained and guided at named depths.

    `net` takes images [B, C, H, W] and returns logits [B, K], or an object that has them as `.logits`. It becomes `.net` of
    the result, and its parameters, their names and what it computes stay as they are; in place, activations that overwrite
    their input are made to return a new tensor, what torch cannot differentiate twice is replaced by equal forms, and batch
    norms by those of `batchnorm` (local, sync or frozen).

    `depths`: name -> layer of which it is the output, such as {"mid": "features.4", "final": "features.8"}; of a layer that
    is called more than once, that of its last call. None: `suggested_depths`. `cells`: depth -> what makes a grid
    [M, C, h, w] of a state there or of a gradient by it, linearly; [B, h, w, C], and tokens in front of which some may be no
    patch (class tokens, registers), become one by themselves. `example`: images [B, C, H, W], two or more, on which the net is
    tried, in evaluation mode, leaving no trace; None: random pixels, 224 a side.

    Where the graph of the net (torch.fx) shows that all of it passes through a depth, the net is restarted there, and pullbacks
    serve as in the nets of the table; otherwise the depth is recorded in passes of the whole net (`RecordingClassifier`).

    Raises ValueError, with the layer and the cure, for an unknown layer, a layer that returns no grid, two depths that are
    one, a net that cannot be run, one that does not return logits, and one that returns others when it is run again.
    """
    _check_net(net)
    _prepare(net)
    convert_batchnorm(net, batchnorm)
    seen = tried(net, example_images(net) if example is None else example)
    replace_calls({*seen.calling, *(module for module in net.modules() if isinstance(module, nn.MultiheadAttention))})
    logits = _checked_logits(seen)
    chosen = _ordered(net, seen, depths if depths is not None else _suggested(net, seen))
    rows = {depth: Depth((layer,), _cells(depth, layer, seen, cells or {})) for depth, layer in chosen.items()}
    for build in (in_stages, recorded):
        model = build(net, seen, rows)
        if model is not None and _agrees(model, seen, logits):
            model.layerwise_evaluation = _offers_pullbacks(model, seen)
            return model
    raise ValueError(
        "the net returns other logits when it is run again on the same images in evaluation mode, so that no map would explain "
        "what it said; make it draw no random numbers there"
    )


def suggest(net: nn.Module, example: Tensor) -> tuple[dict[str, str], Trial]:
    """Depths for `net` as `wrap` suggests them (depth -> layer), and what it did with `example`; see there for what is raised.

    Both may be on the device "meta", which costs neither time nor memory. The net is prepared as `wrap` does it.
    """
    _check_net(net)
    _prepare(net)
    seen = tried(net, example)
    _checked_logits(seen)
    return _suggested(net, seen), seen


def _prepare(net: nn.Module) -> None:
    """Activations return new tensors, and what torch cannot differentiate twice is replaced."""
    for module in net.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    make_twice_differentiable(net)


def _check_net(net: object) -> None:
    if isinstance(net, Classifier):
        raise ValueError("this net has depths already; wrap the net inside it, `.net`, to give it others")
    if not isinstance(net, nn.Module):
        raise ValueError(f"expected a net (nn.Module), not a {type(net).__name__}")


def _checked_logits(seen: Trial) -> Tensor:
    logits = logits_of(seen.output)
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        what = f"a tensor {list(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise ValueError(
            f"the net returned {what} for images {list(seen.images.shape)}; expected logits [B, K], or an object with "
            "them as `.logits`. Wrap a module that returns them"
        )
    return logits


def _suggested(net: nn.Module, seen: Trial) -> dict[str, str]:
    deep = trace(net, lambda name, module: not type(module).__module__.startswith("torch.nn.") or isinstance(
        module, nn.Sequential), training=False)  # fmt: skip
    return suggested_depths(seen, deep)


def _ordered(net: nn.Module, seen: Trial, depths: Mapping[str, str]) -> dict[str, str]:
    """The depths in the order in which the net computes them. Raises ValueError for what is no layer that it runs."""
    known = dict(net.named_modules(remove_duplicate=False))
    own = {module: name for name, module in net.named_modules()}  # the names under which the trial knows them
    found: dict[str, str] = {}
    for depth, layer in depths.items():
        if depth in ("input", "logits"):
            raise ValueError(f"the depth {depth!r} is there by itself; give {layer!r} another name")
        if not layer or layer not in known:
            raise ValueError(
                f"the depth {depth!r} names {layer!r}, but the net has no such layer.{suggestion(layer, known)}"
            )
        found[depth] = own[known[layer]]
        if found[depth] not in seen.layers:
            raise ValueError(
                f"the depth {depth!r} names the layer {layer!r}, which the forward of the net does not call; name another one"
            )
    if not found:
        raise ValueError("`depths` is empty; name a layer, or leave it out to have some suggested")
    order = {name: i for i, name in enumerate(seen.layers)}
    return dict(sorted(found.items(), key=lambda row: order[row[1]]))


def _cells(depth: str, layer: str, seen: Trial, given: Mapping[str, Cells]) -> Cells | None:
    if depth in given:
        return given[depth]
    shape = seen.layers[layer].shape
    grid = None if shape is None else grid_of(shape)
    if grid is None:
        what = "no tensor" if shape is None else f"a tensor {list(shape)}"
        raise ValueError(
            f"the layer {layer!r} of the depth {depth!r} returns {what}, which is no grid of cells: expected [B, C, h, w], "
            "[B, h, w, C] or tokens [B, T, C] of square images. Name a layer in front of the pooling, or give `cells` for it"
        )
    return grid.cells


def _offers_pullbacks(model: Classifier, seen: Trial) -> bool:
    with evaluation_mode(model):
        out = model(seen.images)
    return set(out.pullbacks) == set(model.depths)


def _agrees(model: Classifier, seen: Trial, logits: Tensor) -> bool:
    """Whether the model computes what the net does; the graph of a net that looks at the kind of its tensors may not.

    Where there are no values (on the device "meta"), only shapes can tell.
    """
    try:
        with evaluation_mode(model), torch.no_grad():
            out = model(seen.images)
    except Exception:
        return False
    if logits.is_meta:
        same = out.logits.shape == logits.shape
    else:
        same = torch.allclose(out.logits, logits, rtol=1e-4, atol=1e-5, equal_nan=True)
    return same and set(out.features) == set(model.depths)
