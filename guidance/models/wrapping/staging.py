"""From a net and the layers that are its depths to a `Classifier`: in stages, or run as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from guidance.models.classifier import Classifier, Depth, Operation
from guidance.models.wrapping import pieces
from guidance.models.wrapping.recording import Recorded, RecordingClassifier
from guidance.models.wrapping.tracing import NetGraph, containing, logits_of, trace
from guidance.models.wrapping.trial import Trial


def recorded(net: nn.Module, seen: Trial, rows: Mapping[str, Depth]) -> Classifier:
    """All depths in passes of the whole net."""
    depths = {depth: _recording(row, seen) for depth, row in rows.items()}
    first = [pieces.Copy()] if seen.overwritten else []
    return RecordingClassifier(net, {"logits": Depth((*first, net, logits_of))}, depths, list(rows))


def _recording(row: Depth, seen: Trial) -> Recorded:
    (layer,) = row.layers
    return Recorded(str(layer), row.cells, seen.layers[str(layer)].overwritten)


@dataclass(frozen=True)
class _Traces:
    """The graphs of a net in both modes, in which some depths are nodes."""

    training: NetGraph
    evaluation: NetGraph

    def cut(self, layer: str) -> bool:
        return all(layer in one.layers and one.layers[layer] in one.cuts() for one in (self.training, self.evaluation))


def _traces(net: nn.Module, layers: Sequence[str]) -> _Traces | None:
    both = [trace(net, containing(layers), training=training) for training in (True, False)]
    return None if both[0] is None or both[1] is None else _Traces(both[0], both[1])


def in_stages(net: nn.Module, seen: Trial, rows: Mapping[str, Depth]) -> Classifier | None:
    """The net in stages that end at the depths, as far as these are cuts; None where its graph does not allow it."""
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
    others = {depth: _recording(row, seen) for depth, row in rows.items() if depth not in cuts}
    if any(row.layer in graph.layers and row.layer not in graph.leaves for row in others.values()):
        return None
    stages: dict[str, Depth] = {}
    for below, depth in pairwise([None, *cuts, None]):
        found = _stage(net, traces, layers.get(below or ""), layers.get(depth or ""))
        if not found:
            raise ValueError(f"the depths {below!r} and {depth!r} are the same place in the net; leave one of them out")
        written = seen.overwritten if below is None else seen.layers[layers[below]].overwritten
        first = [pieces.Copy()] if written else []
        stages[depth or "logits"] = Depth((*first, *found), rows[depth].cells if depth else None)
    return RecordingClassifier(net, stages, others, list(rows)) if others else Classifier(net, stages)


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
