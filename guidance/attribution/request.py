"""What an explanation is asked for, and what a method of explaining is: a request, and a row of data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from guidance.types import Forward, lookup


@runtime_checkable
class Explainable(Protocol):
    """What an attribution needs of a net; `guidance.models.classifier.Classifier` has it."""

    def upper(self, features: Tensor, depth: str) -> Forward: ...
    def explainable(self, images: Tensor, depth: str) -> Forward: ...
    def cells(self, state: Tensor, depth: str) -> Tensor: ...  # features, or a gradient by them -> [M, C, h, w]
    def linearized(self) -> AbstractContextManager[None]: ...
    @property
    def dynamic(self) -> bool: ...  # whether linearized() changes gradients
    @property
    def homogeneous(self) -> bool: ...  # whether f(a x) = a f(x) for a > 0, from every depth
    @property
    def layerwise(self) -> bool: ...  # whether every forward pass under gradients offers pullbacks at every depth
    def modules(self) -> Iterator[nn.Module]: ...


@dataclass(frozen=True)
class Request:
    """M maps of a batch: of which images and of what in their logits, by which method, at which depth.

    Map m explains sum_k seed[m, k] * logits[rows[m], k], before any softmax or sigmoid. `one_hot` makes the seeds of single
    classes.
    """

    method: str | Method  # a name in ATTRIBUTIONS, or a method
    depth: str
    rows: Tensor  # [M] long: row of the batch; M may be 0
    seed: Tensor  # [M, K] float: weights of the logits
    classes: Tensor | None = (
        None  # [M, C] long: classes that compete for the evidence of each map, for wrappers of methods
    )
    create_graph: bool = False  # whether a loss on the maps can be trained through
    # The most maps of one image, over all processes if the net synchronises statistics; None counts them here, at the price of
    # waiting for the device.
    rounds: int | None = None
    out: Forward | None = None  # what the net returned for the batch, with features at `depth`; `explain` fills it in


# A method of explaining: raw signed maps [M, h, w] for a request that `attribute` has checked and completed.
Explain = Callable[[Explainable, Request], Tensor]

# Traits that a net may have before it is built, and what they are called in messages.
TRAITS: Mapping[str, str] = {"dynamic": "a dynamic-linear net (B-cos)"}


@dataclass(frozen=True)
class Method:
    """A row of ATTRIBUTIONS: a function, and what must be known about it without running it."""

    function: Explain
    title: str = ""  # in pictures
    linearizes: bool = True  # gradients take the dynamic factors of a net (B-cos) as constants
    # Which nets it explains by one gradient at their features alone, so that a pullback serves as well as autograd.
    one_gradient: Literal["never", "homogeneous", "always"] = "never"
    trainable: bool = True  # whether a loss on its maps can be trained through
    options: Mapping[str, Any] = field(default_factory=dict)  # name -> default, of keyword arguments of the function
    needs: Sequence[str] = ()  # of TRAITS: nets without them cannot give it
    remark: Callable[[Explainable], str] | None = None  # what it means for a net, where that differs between nets

    def refuses(self, traits: Sequence[str]) -> str:
        """What a net of these `traits` lacks for it; empty where it lacks nothing."""
        return " and ".join(TRAITS.get(name, name) for name in self.needs if name not in traits)

    def bind(self, options: Mapping[str, Any]) -> Method:
        """The method with its `options` set. Raises ValueError for one that it does not have."""
        for name in options:
            lookup(self.options, name, f"option of the attribution {self.title or self.function}")
        if dict(options) == dict(self.options):
            return self
        return replace(self, function=partial(self.function, **options), options={**self.options, **options})
