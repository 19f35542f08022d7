"""Nets of one's own, by their place: `my_package.my_module:build_net`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from torch import nn

from guidance.importing import import_module
from guidance.models.backbones import Backbone
from guidance.models.sources.surveying import backbone_of


def own_backbone(place: str) -> Backbone:
    """The row of what the function at `place` builds: `num_classes -> nn.Module`, or a `Classifier` with depths of its own.

    The module is also looked for in the current folder. Raises ValueError where it, or the function, is not there.
    """
    module_name, _, name = place.partition(":")
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise ValueError(
            f"model.name: {place}: {error}; expected package.module:function, of a module that is installed, or found from "
            "this folder"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise ValueError(
            f"model.name: {place}: {module_name} has no function {name!r}; expected one that takes the number of classes and "
            "returns a net"
        )
    return _row(function, place)


@cache
def _row(function: Callable[[int], nn.Module], place: str) -> Backbone:
    return backbone_of(function, place)
