"""LRP: relevance passed back from the logits by rules of each layer, with zennit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from guidance.attribution.gradient import forward_of, state
from guidance.attribution.lrp.canonical import ChannelThreshold, canonical
from guidance.attribution.request import Explainable, Request
from guidance.data.transforms.encodings import ENCODINGS
from guidance.maps import full_precision
from guidance.models.classifier import Classifier
from guidance.types import lookup

if TYPE_CHECKING:
    from zennit.core import Composite

STABILIZER = 1e-6  # of denominators, with their sign; zennit's own value, as are those of the rules below


class Rules(NamedTuple):
    """The rule of convolutions, and that of the first layer where it has another: of the whole net, none above the input."""

    convolution: Callable[[Any], Any]  # module zennit.rules -> rule
    first: Callable[[Any, Tensor], Any] | None = None  # the same, and the images [M, C, H, W]


def _box(rules: Any, images: Tensor) -> Any:
    """ZBox between black and white, of nets with 3 channels (normalised) or 6 (x and 1 - x)."""
    encode = ENCODINGS["normalized" if images.shape[1] == 3 else "inverse"].encode
    low, high = encode(images.new_zeros(3, 1, 1)), encode(images.new_ones(3, 1, 1))
    return rules.ZBox(low=torch.minimum(low, high)[None], high=torch.maximum(low, high)[None])


# Those of zennit's composites, under their names. Classifiers have the epsilon rule in all of them.
COMPOSITES: Mapping[str, Rules] = {
    "epsilon": Rules(lambda rules: rules.Epsilon(epsilon=STABILIZER)),
    "epsilon_plus": Rules(lambda rules: rules.ZPlus()),
    "epsilon_plus_flat": Rules(lambda rules: rules.ZPlus(), lambda rules, images: rules.Flat()),
    "epsilon_alpha2_beta1": Rules(lambda rules: rules.AlphaBeta(alpha=2, beta=1)),
    "epsilon_alpha2_beta1_flat": Rules(
        lambda rules: rules.AlphaBeta(alpha=2, beta=1), lambda rules, images: rules.Flat()
    ),
    "epsilon_gamma_box": Rules(lambda rules: rules.Gamma(gamma=0.25), _box),
}


def lrp(model: Explainable, request: Request, *, composite: str = "epsilon_plus_flat") -> Tensor:
    """Layer-wise relevance propagation, summed over channels: signed (Bach et al. 2015; rules of Montavon et al. 2019).

    The relevance of what a map explains, sum_k seed_k logit_k, is handed down layer by layer, in shares of what each input
    contributed to an output. `composite` names the rules (`COMPOSITES`): epsilon everywhere; or z-plus, alpha-beta or gamma
    for convolutions; "flat" shares the relevance of the first layer equally among its inputs, "box" uses the range of pixels.
    These belong to pixels, so below another depth than the input the first layer has the rule of the others. Max pooling
    hands all to the winner, batch norms are merged (`canonical`), residual sums share by value. The net is that of
    evaluation mode; biases keep their share (Bach et al. 2015, Eq. 61), so epsilon conserves relevance exactly where there
    are none. The paper that compares LRP with the lens names neither rules nor canonical form; these are zennit's.

    ValueError where zennit is not installed, for a net with layers that have no rule, such as the LayerNorm and GELU of a
    ConvNeXt, or B-cos layers, and for the masks of AIM. Runs the net on M rows; `rounds` is not used.
    """
    chosen = lookup(COMPOSITES, composite, "composite of lrp")
    forward_of(request)
    with full_precision(state(request)) as x:
        if len(request.rows) == 0:
            return model.cells(x, request.depth).sum(1)
        net = canonical_net(model, request.depth)
        rules = chosen if request.depth == "input" else chosen._replace(first=None)
        with torch.enable_grad(), registered(build_composite(rules, x), net):
            x.requires_grad_()
            logits = net(x)
            (relevance,) = torch.autograd.grad(logits, x, request.seed.to(logits.dtype) * logits.detach())
        return model.cells(relevance, request.depth).sum(1)


def canonical_net(model: Explainable, depth: str) -> nn.Sequential:
    """The part of `model` above `depth` in canonical form; ValueError where it has none."""
    if not isinstance(model, Classifier):
        raise ValueError(f"LRP needs the layers of a net one by one: a Classifier, not a {type(model).__name__}")
    return canonical(model.layers_above(depth), total=_zennit().layer.Sum)


def lrp_remark(model: Explainable) -> str:
    """What LRP means for this net; raises what `lrp` would raise, before anything is computed."""
    net = canonical_net(model, "input")
    thresholds = sum(isinstance(module, ChannelThreshold) for module in net.modules())
    form = f", {thresholds} of them in front of a ReLU" if thresholds else ""
    assert isinstance(model, Classifier)
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    return f"rules of zennit on a form of the net in which {norms} batch norms are merged{form}"


def build_composite(rules: Rules, images: Tensor) -> Composite:
    """zennit's object for these rules; `images` [M, C, H, W] are what the net is run on."""
    zennit = _zennit()
    layer_map = [
        ((ChannelThreshold,), zennit.rules.Pass()),
        *zennit.composites.layer_map_base(STABILIZER),
        ((nn.Conv2d,), rules.convolution(zennit.rules)),
        ((nn.Linear,), zennit.rules.Epsilon(epsilon=STABILIZER)),
    ]
    if rules.first is None:
        return zennit.composites.LayerMapComposite(layer_map)
    # The layers of the canonical form are registered in the order of its forward.
    first = [((nn.Conv2d, nn.Linear), rules.first(zennit.rules, images))]
    return zennit.composites.SpecialFirstLayerMapComposite(layer_map, first)


def registered(composite: Composite, net: nn.Module) -> ExitStack:
    """A block in which `net` follows the rules; they are removed after it, also where registering failed half-way."""
    stack = ExitStack()
    stack.callback(composite.remove)
    try:
        composite.register(net)
    except BaseException:
        stack.close()
        raise
    return stack


def _zennit() -> Any:
    try:
        import zennit.composites
        import zennit.layer
        import zennit.rules
    except ModuleNotFoundError as error:
        raise ValueError("lrp needs zennit: pip install 'guidance[attribution]'") from error
    return zennit
