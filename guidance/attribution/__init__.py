"""Attribution maps that can be trained through. To add a method, write a function and a row in ATTRIBUTIONS."""

from __future__ import annotations

import torch
from torch import Tensor

from guidance.attribution.gradient import Attribution, Explainable, bcos, gradcam, ixg
from guidance.attribution.guided_backprop import guided_backprop, guided_gradcam
from guidance.attribution.intgrad import intgrad
from guidance.attribution.trainable import check_trainable
from guidance.types import Forward, lookup

ATTRIBUTIONS: dict[str, Attribution] = {
    "ixg": ixg,
    "bcos": bcos,
    "gradcam": gradcam,
    "intgrad": intgrad,
    "guided_backprop": guided_backprop,
    "guided_gradcam": guided_gradcam,
}


def attribute(
    method: str | Attribution,
    model: Explainable,
    out: Forward,
    depth: str,
    image: Tensor,
    target: Tensor,
    *,
    create_graph: bool,
    rounds: int | None = None,
) -> Tensor:
    """Explain M (image, class) pairs of a batch: maps [M, h, w], signed and raw, float32 (float64 stays), at `depth`.

    `method`: a name in ATTRIBUTIONS or a function of the same form. `out`: what `model` returned for the batch, with
    features at `depth` that require grad. `image` [M] long: row of the batch; `target` [M] long: class. M may be 0.
    `create_graph`: whether a loss on the maps can be trained through. `rounds`: the largest number of pairs on one
    image, over all processes if the net synchronises statistics; None counts them here, at the price of waiting for
    the device. The logit is explained, before any softmax or sigmoid. Works under torch.no_grad(). Modes and
    `requires_grad` of the net are left as they were. Raises ValueError for an unknown method or depth, features that
    do not require grad, pairs that do not match, a net that is no `Classifier`, and, with `create_graph`, a net with a layer
    that torch cannot differentiate twice (which is named).
    """
    check_explainable(model, out)
    function = lookup(ATTRIBUTIONS, method, "attribution") if isinstance(method, str) else method
    features = lookup(out.features, depth, "depth")
    if not features.requires_grad and (depth not in out.pullbacks or needs_gradient(function, model)):
        raise ValueError(
            f"the features at depth {depth!r} do not require grad, so nothing can be attributed to them. "
            + ("Call images.requires_grad_() before the forward pass" if depth == "input" else "Run the forward pass")
            + " outside torch.no_grad() and torch.inference_mode(), or use model.explainable(images, depth)."
        )
    if image.dim() != 1 or image.shape != target.shape:
        raise ValueError(
            f"image and target must be index tensors [M] of the same length, "
            f"but have shapes {list(image.shape)} and {list(target.shape)}"
        )
    if rounds is None:
        rounds = int(image.bincount().max()) if len(image) else 0
    if rounds < 1 and len(image):
        raise ValueError(f"rounds must be at least 1 to explain {len(image)} pairs, not {rounds}")
    with torch.enable_grad():
        maps = function(model, out, depth, image, target, create_graph=create_graph, rounds=rounds)
    if create_graph and len(image):
        check_trainable(model, maps, features, depth)
    return maps


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


def needs_gradient(method: str | Attribution, model: Explainable) -> bool:
    """Whether `method` asks autograd for a gradient by the features of `model`, which must then require grad.

    Other methods are content with pullbacks. It matters at the input: a gradient by the images costs a backward pass
    through the first layer that trains nothing.
    """
    function = lookup(ATTRIBUTIONS, method, "attribution") if isinstance(method, str) else method
    function = getattr(function, "func", function)  # of a functools.partial
    linear = function in (ixg, bcos) or (function is intgrad and model.homogeneous)
    return not (linear and model.layerwise)
