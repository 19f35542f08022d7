"""A net with named depths: `Classifier` wraps any backbone without changing it or the names of its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from guidance.types import Forward, lookup

Layer = str | Callable[[Tensor], Tensor]  # name of a submodule of the net, or a function without weights


class Classifier(nn.Module):
    """Run a net stage by stage, so that the features at every depth are part of what it returns.

    `stages` maps each depth to the layers between the previous depth and this one, in the order in which the net's own
    forward runs them (not the order of registration, which differs in some nets); the last stage is "logits". The features
    are returned, never hooked: a hook in front of an in-place activation reads overwritten values. For the same reason all
    activations of the net are made out-of-place here.
    """

    def __init__(self, net: nn.Module, stages: Mapping[str, Sequence[Layer]]) -> None:
        super().__init__()
        if list(stages)[-1] != "logits":
            raise ValueError(f"the last stage must be 'logits', but the stages are {list(stages)}")
        self.net = net
        self._stages = {depth: tuple(layers) for depth, layers in stages.items()}
        for module in net.modules():
            if getattr(module, "inplace", False):
                module.inplace = False  # type: ignore[assignment]

    @property
    def depths(self) -> tuple[str, ...]:
        """Where attributions can be taken, from the input to the last spatial layer."""
        return ("input", *list(self._stages)[:-1])

    def forward(self, images: Tensor) -> Forward:
        """`images` [B, C, H, W] -> logits [B, K] and the features at every depth."""
        return self.upper(images, "input")

    def upper(self, features: Tensor, depth: str) -> Forward:
        """The part of the net above `depth`, applied to features of that depth [B, C, h, w]."""
        start = self._position(depth)
        known = {depth: features}
        x = features
        for name, layers in list(self._stages.items())[start:]:
            x = self._run(layers, x)
            known[name] = x
        logits = known.pop("logits")
        return Forward(logits, known, {})

    def lower(self, images: Tensor, depth: str) -> Tensor:
        """The part of the net below `depth`: images [B, C, H, W] -> features of that depth [B, C, h, w]."""
        x = images
        for layers in list(self._stages.values())[: self._position(depth)]:
            x = self._run(layers, x)
        return x

    def explainable(self, images: Tensor, depth: str) -> Forward:
        """A forward pass for evaluation: no graph below `depth`, whose features are a leaf that requires grad.

        Works under `torch.no_grad()`, never under `torch.inference_mode()`, whose tensors cannot enter a graph.
        """
        with torch.no_grad():
            features = self.lower(images, depth).detach()
        with torch.enable_grad():
            return self.upper(features.requires_grad_(), depth)

    def linearized(self) -> AbstractContextManager[None]:
        """Mode in which a gradient is taken for an attribution; dynamic-linear nets override it."""
        return nullcontext()

    def _position(self, depth: str) -> int:
        positions = {name: i for i, name in enumerate(self.depths)}
        return lookup(positions, depth, "depth")

    def _run(self, layers: Sequence[Layer], x: Tensor) -> Tensor:
        for layer in layers:
            x = self.net.get_submodule(layer)(x) if isinstance(layer, str) else layer(x)
        return x
