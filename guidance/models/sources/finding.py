"""From the name of a net to its row."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from guidance.models.backbones import BACKBONES, Backbone
from guidance.models.sources.own_nets import own_backbone
from guidance.models.sources.timm_nets import timm_backbone
from guidance.models.sources.torchvision_nets import torchvision_backbone
from guidance.types import lookup, suggestion

# What stands before the slash of a name -> the rest of it -> its row.
SOURCES: Mapping[str, Callable[[str], Backbone]] = {"torchvision": torchvision_backbone, "timm": timm_backbone}


def find_backbone(name: str) -> Backbone:
    """The row of a net: of BACKBONES, of a library (`torchvision/...`, `timm/...`), or of a function (`package.module:build`).

    Rows that are not in the table are found out once in a process. Raises ValueError for a net that there is not, or that
    cannot be used.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    source, slash, rest = name.partition("/")
    if slash:
        return lookup(SOURCES, source, "library of nets (model.name)")(rest)
    if ":" in name:
        return own_backbone(name)
    raise ValueError(
        f"unknown model.name {name!r}; known: {', '.join(sorted(BACKBONES))}, {', '.join(f'{x}/NAME' for x in SOURCES)}, "
        f"package.module:function.{suggestion(name, BACKBONES)}"
    )
