"""Classification nets of torchvision, by their names there: `torchvision/efficientnet_b0`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

from torch import Tensor, nn

from guidance.models.backbones import Backbone, InputFormat
from guidance.models.cnns.torchvision_nets import densenet_names
from guidance.models.sources.surveying import backbone_of
from guidance.types import lookup

# Both had weights of another framework, whose normalisation they make of torchvision's; a second classifier inside the net,
# for the loss alone, is left out.
_CONVERTED = {"transform_input": True, "aux_logits": False, "init_weights": True}
OPTIONS: Mapping[str, Mapping[str, Any]] = {"googlenet": _CONVERTED, "inception_v3": _CONVERTED}
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")


@cache
def torchvision_backbone(name: str) -> Backbone:
    """The row of torchvision's net `name`, with its weights under their names there. ValueError for an unknown one."""
    from torchvision import models  # takes two seconds

    known = models.list_models(module=models)
    lookup(dict.fromkeys(known), name, "net of torchvision (model.name)")
    row = backbone_of(partial(torchvision_net, name), f"torchvision/{name}")
    members: Any = models.get_model_weights(name)
    weights = {member.name: member.url for member in members}
    return replace(
        row, weights=weights, renamed=_own_names, formats={member.name: _format(member) for member in members},
        aliases={"DEFAULT": members.DEFAULT.name} if weights else {},
    )  # fmt: skip


def torchvision_net(name: str, num_classes: int) -> nn.Module:
    """torchvision's own net, with fresh weights."""
    from torchvision.models import get_model

    net: nn.Module = get_model(name, num_classes=num_classes, **OPTIONS.get(name, {}))
    return net


def _format(member: Any) -> InputFormat:
    transforms = member.transforms()
    (size,), (short,) = transforms.crop_size, transforms.resize_size
    return InputFormat(
        size, tuple(transforms.mean), tuple(transforms.std), transforms.interpolation.value, crop_pct=size / short
    )


def _own_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return densenet_names({key: x for key, x in state.items() if not key.startswith(AUXILIARY)})
