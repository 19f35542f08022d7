"""A classifier some depths of which are recorded in passes of the whole net, because it cannot be restarted there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from guidance.models.classifier import Classifier, Depth
from guidance.types import Forward, lookup


@dataclass(frozen=True)
class Recorded:
    """A depth that is the output of a layer, of its last call."""

    layer: str
    cells: Callable[[Tensor], Tensor] | None = None  # as in `Depth`
    copied: bool = False  # the net writes into it, and gets a copy


class RecordingClassifier(Classifier):
    """A `Classifier` with depths beside its stages, at which layers other than those above them are run, too.

    `recorded`: depth -> the layer that gives it. `order`: all depths but the input, in the order in which the net computes
    them. The net can be explained and guided at such a depth by methods that take gradients of one pass through all of it; what
    restarts the net (integrated gradients, guided backprop, perturbations) is a ValueError there.
    """

    def __init__(
        self, net: nn.Module, stages: Mapping[str, Depth], recorded: Mapping[str, Recorded], order: Sequence[str]
    ) -> None:
        super().__init__(net, stages)
        self._restarts = {name: i for i, name in enumerate(self.depths)}
        self._recorded = dict(recorded)
        self.depths = ("input", *order)
        self.grids |= {depth: row.cells for depth, row in recorded.items()}

    def lower(self, images: Tensor, depth: str) -> Tensor:
        if depth not in self._recorded:
            return super().lower(images, depth)
        return self.upper(images, "input").features[depth]

    def explainable(self, images: Tensor, depth: str, *, graph: bool = True) -> Forward:
        """As of a `Classifier`; at a recorded depth the graph begins at the images."""
        if depth not in self._recorded:
            return super().explainable(images, depth, graph=graph)
        with torch.enable_grad():
            return self.upper(images.detach().requires_grad_(), "input")

    def _upper(self, features: Tensor, depth: str, *, pullbacks: bool) -> Forward:
        with self._recording() as found:
            out = super()._upper(features, depth, pullbacks=pullbacks)
        known = {**out.features, **found}
        return out._replace(features={name: known[name] for name in self.depths if name in known})

    def _position(self, depth: str) -> int:
        if depth in self._recorded:
            raise ValueError(
                f"this net cannot be restarted at depth {depth!r}: something passes by its layer, "
                f"{self._recorded[depth].layer!r}. Use a method that takes one gradient (ixg, gradcam), or a depth through "
                "which everything passes"
            )
        return lookup(self._restarts, depth, "depth")

    @contextmanager
    def _recording(self) -> Iterator[dict[str, Tensor]]:
        """Yields what the recorded layers return inside the block."""
        found: dict[str, Tensor] = {}

        def note(depth: str, copied: bool) -> Callable[[nn.Module, Any, Tensor], Tensor | None]:
            def hook(module: nn.Module, given: Any, output: Tensor) -> Tensor | None:
                found[depth] = output
                return output.clone() if copied else None

            return hook

        handles = [
            self.net.get_submodule(row.layer).register_forward_hook(note(depth, row.copied))
            for depth, row in self._recorded.items()
        ]
        try:
            yield found
        finally:
            for handle in handles:
                handle.remove()
