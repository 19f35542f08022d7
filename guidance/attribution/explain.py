"""From a request to maps: checked, completed, and run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from guidance.attribution.compiled import CompiledNet
from guidance.attribution.gradient import forward_of
from guidance.attribution.methods import ATTRIBUTIONS
from guidance.attribution.request import Explainable, Method, Request, takes_one_gradient
from guidance.attribution.trainable import check_trainable
from guidance.models.classifier import evaluation_mode
from guidance.types import Forward, lookup


class Explanation(NamedTuple):
    """Maps, and the forward pass that they explain."""

    maps: Tensor  # [M, h, w], signed and raw
    out: Forward


def explain(
    model: Explainable, images: Tensor, request: Request, *, compiled: CompiledNet | None = None
) -> Explanation:
    """Run `model` on `images` [B, C, H, W] as in evaluation, and explain what the request asks for.

    Everything is left as it was: modes, weights, statistics. Works under torch.no_grad(), never under
    torch.inference_mode(). `request.out` is not looked at. `compiled`: the same net, to be run in its compiled form. Raises as
    `attribute` does.
    """
    check_explainable(model)
    with evaluation_mode(model):
        request = _counted(request)
        # One image alone would need graphs of its own.
        if compiled is not None and len(images) > 1:
            out = compiled.explainable(images, request)
        else:
            out = model.explainable(
                images, request.depth, graph=not takes_one_gradient(method_of(request.method), model)
            )
        return Explanation(attribute(model, replace(request, out=out)), out)


def explain_classes(
    model: Explainable,
    images: Tensor,
    choose: Callable[[Tensor], Tensor],
    *,
    method: Method,
    depth: str,
    against: Tensor | None = None,
) -> Explanation:
    """Maps [B * C, h, w] of classes of `images` [B, C', H, W], image by image, from one forward pass as in evaluation.

    `choose`: logits [B, K] -> the classes to be explained [B, C] long. `against` [n] long: those that compete with them, for a
    method that lets them (`with_lens`), in place of its own choice. Otherwise as `explain`.
    """
    check_explainable(model)
    with evaluation_mode(model):
        out = model.explainable(images, depth, graph=not takes_one_gradient(method, model))
        classes = choose(out.logits.detach())
        rows = torch.arange(len(images), device=images.device).repeat_interleave(classes.shape[1])
        request = Request(
            method, depth, rows, one_hot(classes.flatten(), out.logits.shape[1]),
            classes=None if against is None else against.expand(len(rows), -1), rounds=classes.shape[1], out=out,
        )  # fmt: skip
        return Explanation(attribute(model, request), out)


def one_hot(target: Tensor, num_classes: int) -> Tensor:
    """Seeds [M, K] float32 that explain the class `target` [M] long, one for each map."""
    if target.dim() != 1:
        raise ValueError(f"target must hold a class for each map [M], but has the shape {list(target.shape)}")
    return torch.zeros(len(target), num_classes, device=target.device).scatter_(1, target[:, None], 1.0)


def attribute(model: Explainable, request: Request) -> Tensor:
    """The maps [M, h, w] of a request, signed and raw, float32 (float64 stays), at its depth.

    `request.out`: what `model` returned for the batch, with features at the depth that require grad. Works under
    torch.no_grad(). Modes and `requires_grad` of the net are left as they were. Raises ValueError for an unknown method or
    depth, features that do not require grad, rows and seeds that do not match, a net that is no `Classifier`, and, with
    `create_graph`, a method that cannot be trained through, and a net with a layer that torch cannot differentiate twice
    (which is named).
    """
    out, rows = forward_of(request), request.rows
    check_explainable(model, out)
    method = method_of(request.method)
    features = lookup(out.features, request.depth, "depth")
    if not features.requires_grad and (request.depth not in out.pullbacks or not takes_one_gradient(method, model)):
        raise ValueError(
            f"the features at depth {request.depth!r} do not require grad, so nothing can be attributed to them. "
            + (
                "Call images.requires_grad_() before the forward pass"
                if request.depth == "input"
                else "Run the forward pass"
            )
            + " outside torch.no_grad() and torch.inference_mode(), or use model.explainable(images, depth)."
        )
    if rows.dim() != 1 or request.seed.shape != (len(rows), out.logits.shape[1]):
        raise ValueError(
            f"rows must be an index tensor [M] and seed a row of weights of the {out.logits.shape[1]} logits for each of "
            f"them [M, K], but they have the shapes {list(rows.shape)} and {list(request.seed.shape)}"
        )
    if request.classes is not None and (request.classes.dim() != 2 or len(request.classes) != len(rows)):
        raise ValueError(
            f"classes must be [M, C] for the {len(rows)} maps, but have the shape {list(request.classes.shape)}"
        )
    _check_offered(method, request)
    request = _counted(request)
    assert request.rounds is not None
    if request.rounds < 1 and len(rows):
        raise ValueError(f"rounds must be at least 1 to explain {len(rows)} pairs, not {request.rounds}")
    with torch.enable_grad():
        maps = run(method, model, request)
    # Once at each depth of a net: what an operation of torch lacks does not change.
    if request.create_graph and len(rows) and isinstance(model, nn.Module) and request.depth not in _looked_at(model):
        check_trainable(model, maps, features, request.depth)
        _looked_at(model).add(request.depth)
    return maps


def _counted(request: Request) -> Request:
    """The request with `rounds`."""
    rows = request.rows
    if request.rounds is not None:
        return request
    return replace(request, rounds=int(rows.bincount().max()) if len(rows) else 0)


def _check_offered(method: Method, request: Request) -> None:
    """Raise ValueError for a loss that cannot be trained through `method`, and for a depth at which it has no map."""
    name = method.title or request.method
    if request.create_graph and not method.trainable:
        raise ValueError(f"a loss on the maps of {name} cannot be trained through{method.untrainable}")
    if reason := method.refuses_depth(request.depth):
        raise ValueError(f"{name} has no map at depth {request.depth!r}: {reason}")


def run(method: Method, model: Explainable, request: Request) -> Tensor:
    """The maps of a request that `attribute` has checked and completed; wrappers of methods call it for what they wrap."""
    return method.function(model, replace(request, method=method), **method.options)


_TRAINABLE: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()  # net -> depths that were looked at


def _looked_at(model: nn.Module) -> set[str]:
    return _TRAINABLE.setdefault(model, set())


def needs_gradient(method: Method, model: Explainable) -> bool:
    """Whether autograd is asked for a gradient by the features of `model`, which must then require grad.

    Other methods are content with pullbacks. It matters at the input: a gradient by the images costs a backward pass
    through the first layer that trains nothing.
    """
    return not (takes_one_gradient(method, model) and model.layerwise)


def method_of(method: str | Method) -> Method:
    """A method by its name in ATTRIBUTIONS, or as it is. Raises ValueError for an unknown name, and for what is neither."""
    if isinstance(method, str):
        return lookup(ATTRIBUTIONS, method, "attribution")
    if not isinstance(method, Method):
        raise ValueError(
            f"{method!r} is no attribution: give a name in ATTRIBUTIONS, or wrap a function, Method(function)"
        )
    return method


def check_explainable(model: object, out: object = None) -> None:
    """Raise ValueError for a net that is no `Classifier`, and for an `out` that is not what one returns."""
    if not isinstance(model, Explainable):
        raise ValueError(
            f"a {type(model).__name__} cannot be explained as it is: wrap it, Classifier(net, {{'final': [...], 'logits': "
            "[...]}) with all layers of the net, in the order of its forward, under the depth that they lead to "
            "(guidance.models.classifier), or take build_model(name, num_classes=K)"
        )
    if out is not None and not isinstance(out, Forward):
        raise ValueError(
            f"`out` is a {type(out).__name__}; expected what model(images) returned, a Forward with logits and features"
        )
