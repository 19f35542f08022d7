"""Any net as a classifier with named depths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from guidance.models.classifier import Classifier, Depth, Operation, evaluation_mode
from guidance.models.layers.normalization import convert_batchnorm
from guidance.models.layers.twice import make_twice_differentiable, replace_calls
from guidance.models.wrapping import pieces
from guidance.models.wrapping.grids import grid_of
from guidance.models.wrapping.probe import Probe, example_images, probe
from guidance.models.wrapping.recording import Recorded, RecordingClassifier
from guidance.models.wrapping.suggesting import suggested_depths
from guidance.models.wrapping.tracing import Trace, containing, logits_of, trace
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
    one, a net that cannot be run, and one that does not return logits.
    """
    _check_net(net)
    for module in net.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    make_twice_differentiable(net)
    convert_batchnorm(net, batchnorm)
    seen = probe(net, example_images(net) if example is None else example)
    replace_calls({*seen.calling, *(module for module in net.modules() if isinstance(module, nn.MultiheadAttention))})
    logits = logits_of(seen.output)
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        what = f"a tensor {list(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise ValueError(
            f"the net returned {what} for images {list(seen.images.shape)}; expected logits [B, K], or an object with "
            "them as `.logits`. Wrap a module that returns them"
        )
    chosen = _ordered(net, seen, depths if depths is not None else _suggested(net, seen))
    rows = {depth: Depth((layer,), _cells(depth, layer, seen, cells or {})) for depth, layer in chosen.items()}
    for build in (_traced, _recorded):
        model = build(net, seen, rows)
        if model is not None and _agrees(model, seen, logits):
            return model
    raise AssertionError("a net that is run as a whole returns what it returns")


def _check_net(net: object) -> None:
    if isinstance(net, Classifier):
        raise ValueError("this net has depths already; wrap the net inside it, `.net`, to give it others")
    if not isinstance(net, nn.Module):
        raise ValueError(f"expected a net (nn.Module), not a {type(net).__name__}")


def _suggested(net: nn.Module, seen: Probe) -> dict[str, str]:
    deep = trace(net, lambda name, module: not type(module).__module__.startswith("torch.nn.") or isinstance(
        module, nn.Sequential), training=False)  # fmt: skip
    return suggested_depths(seen, deep)


def _ordered(net: nn.Module, seen: Probe, depths: Mapping[str, str]) -> dict[str, str]:
    """The depths in the order in which the net computes them. Raises ValueError for what is no layer that it runs."""
    known = dict(net.named_modules(remove_duplicate=False))
    own = {module: name for name, module in net.named_modules()}  # the names under which the probe knows them
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


def _cells(depth: str, layer: str, seen: Probe, given: Mapping[str, Cells]) -> Cells | None:
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


def _recorded(net: nn.Module, seen: Probe, rows: Mapping[str, Depth]) -> Classifier:
    """All depths in passes of the whole net."""
    recorded = {depth: _recording(row, seen) for depth, row in rows.items()}
    first = [pieces.Copy()] if seen.overwritten else []
    return RecordingClassifier(net, {"logits": Depth((*first, net, logits_of))}, recorded, list(rows))


def _recording(row: Depth, seen: Probe) -> Recorded:
    (layer,) = row.layers
    return Recorded(str(layer), row.cells, seen.layers[str(layer)].overwritten)


@dataclass(frozen=True)
class _Traces:
    """The graphs of a net in both modes, in which some depths are nodes."""

    training: Trace
    evaluation: Trace

    def cut(self, layer: str) -> bool:
        return all(layer in one.layers and one.layers[layer] in one.cuts() for one in (self.training, self.evaluation))


def _traces(net: nn.Module, layers: Sequence[str]) -> _Traces | None:
    both = [trace(net, containing(layers), training=training) for training in (True, False)]
    return None if both[0] is None or both[1] is None else _Traces(both[0], both[1])


def _traced(net: nn.Module, seen: Probe, rows: Mapping[str, Depth]) -> Classifier | None:
    """The net in stages; None where its graph does not allow it."""
    layers = {depth: str(row.layers[0]) for depth, row in rows.items()}
    traces = _traces(net, list(layers.values()))
    if traces is None:
        return None
    cuts = [depth for depth, layer in layers.items() if traces.cut(layer)]
    if len(cuts) < len(layers):
        # No deeper than it must be: what is not restarted stays a call of a layer, which can be recorded.
        traces = _traces(net, [layers[depth] for depth in cuts])
    if traces is None:
        return None
    graph = traces.evaluation
    recorded = {depth: _recording(row, seen) for depth, row in rows.items() if depth not in cuts}
    if any(row.layer in graph.layers and row.layer not in graph.leaves for row in recorded.values()):
        return None
    stages: dict[str, Depth] = {}
    for below, depth in pairwise([None, *cuts, None]):
        found = _stage(net, traces, layers.get(below or ""), layers.get(depth or ""))
        if not found:
            raise ValueError(f"the depths {below!r} and {depth!r} are the same place in the net; leave one of them out")
        written = seen.overwritten if below is None else seen.layers[layers[below]].overwritten
        first = [pieces.Copy()] if written else []
        stages[depth or "logits"] = Depth((*first, *found), rows[depth].cells if depth else None)
    if recorded:
        return RecordingClassifier(net, stages, recorded, list(rows))
    model = Classifier(net, stages)
    model.layerwise_evaluation = _offers_pullbacks(model, seen)
    return model


def _stage(net: nn.Module, traces: _Traces, below: str | None, layer: str | None) -> list[Operation]:
    """The operations from the layer `below` (None: the images) to `layer` (None: the logits)."""
    both = [
        pieces.operations(
            net,
            one,
            one.images if below is None else one.layers[below],
            one.logits if layer is None else one.layers[layer],
        )
        for one in (traces.training, traces.evaluation)
    ]
    return both[1] if pieces.same(*both) else [pieces.ModeSwitch(net, *both)]


def _offers_pullbacks(model: Classifier, seen: Probe) -> bool:
    with evaluation_mode(model):
        out = model(seen.images)
    return set(out.pullbacks) == set(model.depths)


def _agrees(model: Classifier, seen: Probe, logits: Tensor) -> bool:
    """Whether the model computes what the net does; the graph of a net that looks at the kind of its tensors may not."""
    try:
        with evaluation_mode(model), torch.no_grad():
            out = model(seen.images)
    except Exception:
        return False
    return torch.allclose(out.logits, logits, rtol=1e-4, atol=1e-5) and set(out.features) == set(model.depths)
