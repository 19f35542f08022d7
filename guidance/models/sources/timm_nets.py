"""Nets of timm, by their names there: `timm/convnextv2_nano`. timm is an extra."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from typing import Any

from torch import Tensor, nn

from guidance.models import weights as weight_files
from guidance.models.backbones import Backbone, InputFormat
from guidance.models.sources.surveying import backbone_of
from guidance.types import suggestion


@cache
def timm_backbone(name: str) -> Backbone:
    """The row of timm's net `name`, with its weights by their tags, such as "fcmae_ft_in1k".

    Raises ValueError where timm is not installed, for a net that it does not have, and for a name with a tag.
    """
    timm = _timm(name)
    if "." in name:
        net, _, tag = name.partition(".")
        raise ValueError(
            f"model.name: timm/{name} names weights as well; set model.name: timm/{net}, model.weights: {tag}"
        )
    if not timm.is_model(name):
        close = suggestion(name, timm.list_models())
        raise ValueError(f"model.name: timm {timm.__version__} has no net {name!r}.{close}")
    usual = timm.get_pretrained_cfg(name)
    row = backbone_of(partial(timm_net, name), f"timm/{name}", side=usual.input_size[-1])
    configs = {full.partition(".")[2]: timm.get_pretrained_cfg(full) for full in timm.list_pretrained(f"{name}.*")}
    return replace(
        row, weights={tag: f"{name}.{tag}" for tag in configs}, fetch=_fetch,
        formats={tag: _format(timm, cfg) for tag, cfg in configs.items()},
        aliases={"pretrained": usual.tag} if usual.tag in configs else {},
    )  # fmt: skip


def timm_net(name: str, num_classes: int) -> nn.Module:
    """timm's own net, with fresh weights."""
    net: nn.Module = _timm(name).create_model(name, num_classes=num_classes)
    return net


def _timm(name: str) -> Any:
    try:
        import timm
    except ImportError as error:
        raise ValueError(
            f"model.name: timm/{name} needs timm ({error}); install with: pip install -e '.[timm]'"
        ) from error
    return timm


def _fetch(address: str) -> dict[str, Tensor]:
    """The state dict of a net with weights, "NAME.TAG", read as timm reads it: from its cache, or downloaded."""
    timm = _timm(address)

    def state() -> dict[str, Tensor]:
        # A net of its own, because timm converts many of its files while it loads them.
        return dict(timm.create_model(address, pretrained=True).state_dict())

    found: list[dict[str, Tensor]] = []
    failure = weight_files.first_here(lambda: found.append(state()))
    if failure:
        raise ValueError(
            f"the weights timm/{address} could not be had from timm ({failure}). Load them once on a machine with a network "
            "and bring its cache of Hugging Face along, or set model.weights to the path of a state dict of the net, or to "
            "'none' for fresh weights."
        )
    return found[0] if found else state()


def _format(timm: Any, cfg: Any) -> InputFormat:
    found = timm.data.resolve_data_config(pretrained_cfg=cfg.to_dict())
    size = found["input_size"][-1]
    return InputFormat(
        size, tuple(found["mean"]), tuple(found["std"]), found["interpolation"],
        # timm rounds the short side down.
        crop_pct=size / int(size / found["crop_pct"]),
        crop="none" if found["crop_mode"] == "squash" else "center",
    )  # fmt: skip
