"""A net with named depths: `Classifier` wraps any backbone without changing it or the names of its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from guidance.models.layers.twice import make_twice_differentiable
from guidance.models.pullback.checkpointing import checkpointed
from guidance.models.pullback.dynamic import linearized
from guidance.models.pullback.rules import PAIRS, chain, register
from guidance.models.pullback.stages import above
from guidance.models.pullback.torch_layers import RULES, STEPS
from guidance.types import Forward, lookup, suggestion

register(RULES)
PAIRS.update(STEPS)

ADD_INVERSE = "give B-cos nets (x, 1 - x) of images in [0, 1]: guidance.data.transforms.encodings.add_inverse"
Operation = str | Callable[[Tensor], Tensor]  # name of a submodule of the net, or a function without weights


@dataclass(frozen=True)
class Depth:
    """A place in a net where it can be explained: how it is reached, and how what is found there becomes a map.

    `layers` lead to it from the depth below. From its state the net is restarted by running those of the depths above. `cells`
    turns a state, or a gradient by it, into a grid: [M, ...] -> [M, C, h, w], linearly; it is for states that are none, such as
    tokens beside a class token. None: the state is [B, C, h, w].
    """

    layers: Sequence[Operation]
    cells: Callable[[Tensor], Tensor] | None = None


class Classifier(nn.Module):
    """Run a net stage by stage, so that the features at every depth are part of what it returns.

    `stages` maps each depth to the layers between the previous depth and this one, in the order in which the net's own
    forward runs them (not the order of registration, which differs in some nets), or to a `Depth`, where more must be said of
    it; the last stage is "logits". The features are returned, never hooked: a hook in front of an in-place activation reads
    overwritten values. For the same reason all activations of the net are made out-of-place here.

    `channels`: of the images; another number is a ValueError instead of a wrong answer or an obscure error. `homogeneous`:
    f(a x) = a f(x) for a > 0 from every depth, so that input times gradient is exactly integrated gradients.
    `layerwise`: every layer offers its pullback in every mode; `layerwise_evaluation`: it does in evaluation mode.
    `channels_last`: the memory layout of the features, worth it where no double backward is needed; nets with
    `layerwise_evaluation` have it wherever autograd records nothing. `watched`: names of
    submodules whose outputs `Forward.inside` shall hold, such as the attention weights of each block, for methods that take
    gradients by them. `checkpoint_activations` may be set at any time: in training, features are then computed again in the
    backward pass instead of being kept.
    """

    def __init__(
        self,
        net: nn.Module,
        stages: Mapping[str, Sequence[Operation] | Depth],
        *,
        channels: int | None = None,
        homogeneous: bool = False,
        layerwise: bool = False,
        layerwise_evaluation: bool = False,
        channels_last: bool = False,
        watched: Sequence[str] = (),
    ) -> None:
        super().__init__()
        rows = {name: stage if isinstance(stage, Depth) else Depth(stage) for name, stage in stages.items()}
        if list(stages)[-1:] != ["logits"]:
            raise ValueError(f"the last stage must be 'logits', but the stages are {list(stages)}")
        for depth, row in rows.items():
            _check_stage(net, depth, row.layers)
        _register_torchvision_blocks(net)
        replaced: dict[Any, Any] = {**make_twice_differentiable(net)}
        self.net, self.channels, self.homogeneous = net, channels, homogeneous
        self.layerwise, self.layerwise_evaluation = layerwise, layerwise or layerwise_evaluation
        self.channels_last, self.checkpoint_activations = channels_last, False
        self.dynamic = any(getattr(module, "dynamic", False) for module in net.modules())
        self.stages = {depth: tuple(replaced.get(x, x) for x in row.layers) for depth, row in rows.items()}
        # Where attributions can be taken, from the input to the last spatial layer.
        self.depths: tuple[str, ...] = ("input", *list(rows)[:-1])
        self.grids = {depth: row.cells for depth, row in rows.items()}
        self.watched = {name: net.get_submodule(name) for name in watched}
        for module in net.modules():
            if getattr(module, "inplace", False):
                module.inplace = False  # type: ignore[assignment]

    def forward(self, images: Tensor) -> Forward:
        """`images` [B, C, H, W] -> logits [B, K] and the features at every depth."""
        return self.upper(images, "input")

    def upper(self, features: Tensor, depth: str) -> Forward:
        """The part of the net above `depth`, applied to features of that depth [B, C, h, w]."""
        # Pullbacks hold the features of the whole net, which inference has no use for.
        return self._upper(features, depth, pullbacks=torch.is_grad_enabled())

    def _upper(self, features: Tensor, depth: str, *, pullbacks: bool) -> Forward:
        if depth == "input":
            self._check(features)
        stages = list(self.stages.items())[self._position(depth) :]
        known, steps = {depth: features}, []
        x = self._laid_out(features)
        with self._watching() as inside:
            for name, layers in stages:
                if pullbacks:
                    x, step = (checkpointed if self._recomputes else chain)(x, self._modules_of(layers))
                    steps.append(step)
                else:
                    x = self._run(layers, x)
                known[name] = x
        logits = known.pop("logits")
        return Forward(logits, known, {}, above(known, logits, steps) if pullbacks else {}, inside=inside)

    def cells(self, state: Tensor, depth: str) -> Tensor:
        """A state of a depth, or a gradient by it, as a grid [M, C, h, w]; see `Depth`."""
        grid = self.grids.get(depth)
        return state if grid is None else grid(state)

    def lower(self, images: Tensor, depth: str) -> Tensor:
        """The part of the net below `depth`: images [B, C, H, W] -> features of that depth [B, C, h, w]."""
        self._check(images)
        below = list(self.stages.values())[: self._position(depth)]
        return self._run([layer for layers in below for layer in layers], self._laid_out(images))

    def explainable(self, images: Tensor, depth: str, *, graph: bool = True) -> Forward:
        """A forward pass for evaluation: no graph below `depth`, whose features are a leaf that requires grad.

        `graph` False: nobody will ask autograd for a gradient. Where all layers offer a pullback, these are all that the pass
        then leaves: autograd records nothing, and layers keep only what their pullbacks need. Works under `torch.no_grad()`,
        never under `torch.inference_mode()`, whose tensors cannot enter a graph.
        """
        with torch.no_grad():
            features = self.lower(images, depth).detach()
            if not graph and self.layerwise_evaluation:
                return self._upper(features, depth, pullbacks=True)
        with torch.enable_grad():
            return self.upper(features.requires_grad_(), depth)

    def linearized(self) -> AbstractContextManager[None]:
        """Mode in which a gradient is taken for an attribution: dynamic factors are constants (no change to other nets)."""
        return linearized()

    @contextmanager
    def _watching(self) -> Iterator[dict[str, Tensor]]:
        """Yields what the watched layers return inside the block, where gradients can be taken by it."""
        found: dict[str, Tensor] = {}

        def note(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
            return lambda module, inputs, output: found.update({name: output})

        layers = self.watched if torch.is_grad_enabled() else {}  # inference would only hold them in memory
        handles = [module.register_forward_hook(note(name)) for name, module in layers.items()]
        try:
            yield found
        finally:
            for handle in handles:
                handle.remove()

    def layers_above(self, depth: str) -> list[tuple[str, Callable[[Tensor], Tensor]]]:
        """What `upper` runs from `depth` to the logits, one after the other: (name, layer).

        Raises ValueError for a net that does more than that.
        """
        operations = [x for layers in list(self.stages.values())[self._position(depth) :] for x in layers]
        names = [x if isinstance(x, str) else getattr(x, "__name__", type(x).__name__) for x in operations]
        return list(zip(names, self._modules_of(operations), strict=True))

    def stages_under(self, prefix: str) -> dict[str, Depth]:
        """The stages as they are in a larger net that holds this one's under `prefix`, such as "backbone."."""
        return {
            depth: Depth([prefix + x if isinstance(x, str) else x for x in layers], self.grids[depth])
            for depth, layers in self.stages.items()
        }

    def _laid_out(self, x: Tensor) -> Tensor:
        """`x` in the memory layout in which the layers are fastest."""
        last = self.channels_last or (self.layerwise_evaluation and not torch.is_grad_enabled())
        return x.contiguous(memory_format=torch.channels_last) if last and x.dim() == 4 else x

    @property
    def _recomputes(self) -> bool:
        return self.checkpoint_activations and self.training

    def _position(self, depth: str) -> int:
        return lookup({name: i for i, name in enumerate(self.depths)}, depth, "depth")

    def _modules_of(self, layers: Sequence[Operation]) -> list[Callable[[Tensor], Tensor]]:
        return [self.net.get_submodule(layer) if isinstance(layer, str) else layer for layer in layers]

    def _run(self, layers: Sequence[Operation], x: Tensor) -> Tensor:
        if self._recomputes and torch.is_grad_enabled():
            return checkpointed(x, self._modules_of(layers))[0]
        for layer in self._modules_of(layers):
            x = layer(x)
        return x

    def _check(self, images: Tensor) -> None:
        if self.channels is not None and images.shape[1] != self.channels:
            cure = ADD_INVERSE if self.channels == 6 else "check the encoding of the data"
            raise ValueError(f"this net takes images of {self.channels} channels, not {images.shape[1]}; {cure}")


def _register_torchvision_blocks(net: nn.Module) -> None:
    """Make the rules of torchvision's blocks known, where `net` has any."""
    kinds = {kind for module in net.modules() for kind in type(module).__mro__}
    if any(kind.__module__.startswith("torchvision.") for kind in kinds):
        from guidance.models.pullback import torchvision_blocks

        register(torchvision_blocks.RULES)


def _check_stage(net: nn.Module, depth: str, layers: Sequence[Operation]) -> None:
    if depth == "input":
        raise ValueError("'input' is the depth of the images themselves; give the stage another name")
    if isinstance(layers, str):
        raise ValueError(f"the stage {depth!r} must be a list of layers, such as [{layers!r}], not a string")
    if not layers:
        cure = "name the layers that make it" if depth == "logits" else "leave it out, or name the layers that make it"
        raise ValueError(f"the stage {depth!r} has no layers; {cure}")
    names = [name for name, _ in net.named_modules(remove_duplicate=False) if name]
    for layer in layers:
        if isinstance(layer, str) and layer not in names:
            raise ValueError(
                f"the stage {depth!r} names {layer!r}, but the net has no such layer.{suggestion(layer, names)}"
            )


class HasModules(Protocol):
    """A net, or what stands for one."""

    def modules(self) -> Iterator[nn.Module]: ...


@contextmanager
def evaluation_mode(model: HasModules) -> Iterator[None]:
    """Every module in evaluation mode inside the block, and back in its own mode after it, also after an exception."""
    modes: list[tuple[nn.Module, bool]] = [(module, module.training) for module in model.modules()]
    # The attribute, not train(): nets that keep some layers frozen override it, and it would undo single choices.
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, training in modes:
            module.training = training
