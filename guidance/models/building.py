"""How a classifier is built from a row of the table of backbones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from guidance.models import weights as weight_files
from guidance.models.bcos.modules import set_logit_bias
from guidance.models.classifier import Classifier
from guidance.models.layers.normalization import convert_batchnorm
from guidance.models.sources import find_backbone


@dataclass(frozen=True)
class Wrapping:
    """How a training mode builds a classifier around a backbone."""

    wrap: Callable[[Classifier], Classifier]
    layout: weight_files.WeightLayout


def build_model(
    name: str,
    *,
    num_classes: int,
    weights: str | Path | None = None,
    batchnorm: str = "local",
    logit_bias: str = "published",
    drop_path: float | None = None,
    wrapping: Wrapping | None = None,
    layouts: Sequence[weight_files.WeightLayout] = (),
) -> Classifier:
    """Build backbone `name` (see `find_backbone`) for `num_classes` classes.

    `weights`: None or "none" (fresh), a name in the backbone's row such as "imagenet" (downloaded once), or the path of a
    state dict or checkpoint; a classifier layer of another size stays fresh. `batchnorm`: local, sync or frozen.
    `logit_bias`, of B-cos nets: "published" (ln(0.001 / 0.999) for any number of classes) or "classes" (-ln(K - 1)).
    `drop_path`: largest probability with which a residual branch is dropped in training, growing linearly with its depth;
    None keeps the net's own. `wrapping` builds a classifier around the backbone (AIM); weights of the bare backbone and of the
    whole are both accepted. `layouts`: of other modes, to be told of where the weights are of one of them. Raises ValueError
    for an unknown name and for weights that are missing or do not fit.
    """
    backbone = find_backbone(name)
    model = backbone.build(num_classes)
    if drop_path is not None:
        set_drop_path(model.net, drop_path)
    state = _pretrained(name, weights)
    whole = wrapping is not None and state is not None and wrapping.layout.holds(state)
    if wrapping is not None and whole:
        model = wrapping.wrap(model)
    if state is not None:
        foreign = [layout.mode for layout in layouts if not whole and layout.holds(state)]
        if foreign:
            raise ValueError(
                f"{weights} holds a net of objective.mode: {foreign[0]}; set the mode, or give weights of {name} itself"
            )
        own = wrapping.layout if wrapping is not None else None
        head = own.head(state, backbone.head) if own is not None and whole else backbone.head
        hint = own.hint if own is not None else ""
        weight_files.load_weights(model.net, state, head=head, source=str(weights), hint=hint)
    if wrapping is not None and not whole:
        model = wrapping.wrap(model)
    convert_batchnorm(model.net, batchnorm)
    set_logit_bias(model.net, logit_bias, num_classes=num_classes)
    return model


def _pretrained(name: str, weights: str | Path | None) -> dict[str, Tensor] | None:
    """What `weights` names; None for fresh ones."""
    if weights is None or str(weights) == "none":
        return None
    backbone = find_backbone(name)
    known = backbone.aliases.get(str(weights), str(weights))
    address = backbone.weights.get(known)
    named = (*backbone.weights, *backbone.aliases)
    state = backbone.fetch(address) if address else weight_files.read(Path(weights), named)
    return backbone.renamed(weight_files.strip_prefixes(state))


def num_outputs(name: str, weights: str | Path) -> int:
    """How many classes the `weights` of backbone `name` (see `build_model`) are for; ValueError where they do not tell."""
    head = find_backbone(name).head + ".weight"
    state = _pretrained(name, weights)
    if state is None or head not in state:
        raise ValueError(
            f"the weights {weights} do not tell their number of classes: they have no {head!r}, the classifier of {name}. Is "
            "--model the net they belong to?"
        )
    return len(state[head])


def set_drop_path(net: nn.Module, probability: float) -> None:
    """Spread drop-path over the residual blocks of `net`: from 0 at the first to `probability` at the last, linearly.

    As torchvision does (Huang et al. 2016, Sec. 3). Raises ValueError for a net without such layers.
    """
    from torchvision.ops import StochasticDepth

    paths = [module for module in net.modules() if isinstance(module, StochasticDepth)]
    if not paths:
        raise ValueError("model.drop_path: this net has no stochastic depth; leave it null (convnext_tiny has it)")
    for i, path in enumerate(paths):
        path.p = probability * i / max(1, len(paths) - 1)
