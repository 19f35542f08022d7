"""What an explanation is asked for, and what a method of explaining is: a request, and a row of data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from guidance.types import Forward, check_options


@runtime_checkable
class Explainable(Protocol):
    """What an attribution needs of a net; `guidance.models.classifier.Classifier` has it."""

    def upper(self, features: Tensor, depth: str) -> Forward: ...
    def explainable(self, images: Tensor, depth: str, *, graph: bool = True) -> Forward: ...
    def cells(self, state: Tensor, depth: str) -> Tensor: ...  # features, or a gradient by them -> [M, C, h, w]
    def linearized(self) -> AbstractContextManager[None]: ...
    @property
    def dynamic(self) -> bool: ...  # whether linearized() changes gradients
    @property
    def homogeneous(self) -> bool: ...  # whether f(a x) = a f(x) for a > 0, from every depth
    @property
    def layerwise(self) -> bool: ...  # whether every forward pass under gradients offers pullbacks at every depth
    def modules(self) -> Iterator[nn.Module]: ...


@dataclass(frozen=True, eq=False)
class Request:
    """M maps of a batch: of which images and of what in their logits, by which method, at which depth.

    Map m explains sum_k seed[m, k] * logits[rows[m], k], before any softmax or sigmoid. `one_hot` makes the seeds of single
    classes.
    """

    method: str | Method  # a name in ATTRIBUTIONS, or a method
    depth: str
    rows: Tensor  # [M] long: row of the batch; M may be 0
    seed: Tensor  # [M, K] float: weights of the logits
    # [M, C] long: classes that compete for the evidence of each map, for wrappers of methods; see `Method.needs_classes`
    classes: Tensor | None = None
    create_graph: bool = False  # whether a loss on the maps can be trained through
    # The most maps of one image, over all processes if the net synchronises statistics; None counts them here, at the price of
    # waiting for the device.
    rounds: int | None = None
    out: Forward | None = None  # what the net returned for the batch, with features at `depth`; `explain` fills it in


# A method of explaining: raw signed maps [M, h, w] for a request that `attribute` has checked and completed, in which
# `request.method` is the row that is run, with its traits.
Explain = Callable[..., Tensor]  # (model, request, *, options) -> maps

# Traits that a net may have before it is built, and what they are called in messages.
TRAITS: Mapping[str, str] = {
    "dynamic": "a dynamic-linear net (B-cos)",
    "relevance": "a net all of whose layers have a rule of LRP (ResNet, DenseNet, X-DNN)",
    "attention": "the attention weights of a vision transformer (vit_*)",
}


@dataclass(frozen=True, eq=False)
class Method:
    """A row of ATTRIBUTIONS: a function, and what must be known about it without running it."""

    function: Explain
    title: str = ""  # in pictures
    linearizes: bool = True  # gradients take the dynamic factors of a net (B-cos) as constants
    # Which nets it explains by one gradient at their features alone, so that a pullback serves as well as autograd.
    one_gradient: Literal["never", "homogeneous", "always"] = "never"
    trainable: bool = True  # whether a loss on its maps can be trained through
    reason: str = ""  # why not, as a clause
    depths: Sequence[str] = ()  # at which alone it can be asked; none: at all that the net has
    adds_channels: bool = False  # its map is the sum of a gradient over channels (`Backbone.centred`)
    depth: str = "input"  # where it explains when nobody says: benchmarks compare each method at its own depth
    options: Mapping[str, Any] = field(default_factory=dict)  # keyword arguments of the function, with their values
    # of the options: those that are settings of an attribution section, beside `options` there
    settings: Sequence[str] = ()
    needs: Sequence[str] = ()  # of TRAITS: nets without them cannot give it
    remark: Callable[[Explainable], str] | None = None  # what it means for a net, where that differs between nets
    # whether `Request.classes` must name the classes that each map's image has (guidance.attribution.lens.label_classes)
    needs_classes: bool = False

    def __post_init__(self) -> None:
        if self.one_gradient not in ("never", "homogeneous", "always"):
            raise ValueError(f"one_gradient is 'never', 'homogeneous' or 'always', not {self.one_gradient!r}")

    def refuses(self, traits: Sequence[str]) -> str:
        """What a net of these `traits` lacks for it; empty where it lacks nothing."""
        return " and ".join(TRAITS.get(name, name) for name in self.needs if name not in traits)

    def refuses_depth(self, depth: str, centred: Sequence[str] = ()) -> str:
        """Why it has no map at `depth`, as a clause; empty where it has one. `centred`: as in a net's row of BACKBONES."""
        if self.depths and depth not in self.depths:
            return f"it explains depth {' or '.join(self.depths)} alone"
        if self.adds_channels and depth in centred:
            return (
                "a LayerNorm above takes away the mean over channels, so that the gradient there sums to zero over them"
            )
        return ""

    @property
    def untrainable(self) -> str:
        """Why a loss on its maps cannot be trained through, to be put behind that statement; empty where nothing is known."""
        return f" ({self.reason})" if self.reason else ""

    def bind(self, options: Mapping[str, Any]) -> Method:
        """The method with some of its `options` set. Raises ValueError for one that it does not have."""
        check_options(options, self.options, f"the attribution {self.title or self.function}")
        chosen = {**self.options, **options}
        return self if chosen == dict(self.options) else replace(self, options=chosen)

    def wrapped(self, function: Explain, title: str) -> Method:
        """A method that makes something of what `run` gives for this one: with its traits; its options are set by then."""
        return replace(self, function=function, title=title, options={}, settings=())


def takes_one_gradient(method: Method, model: Explainable) -> bool:
    """Whether one gradient by the features is all that `method` takes of `model`, so that a pullback serves as well."""
    return method.one_gradient == "always" or (method.one_gradient == "homogeneous" and model.homogeneous)
