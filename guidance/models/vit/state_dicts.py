"""State dicts of ViTs as they are published -> torchvision's present names, with the position embedding of the net."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from guidance.models.vit.positions import SIDE, resized_positions

LOG = logging.getLogger(__name__)
# Pattern of the name -> what takes its place. torchvision's files are older than the names of its layers.
TORCHVISION = {r"\.mlp\.linear_1\.": ".mlp.0.", r"\.mlp\.linear_2\.": ".mlp.3."}
TIMM = {
    r"^cls_token$": "class_token",
    r"^pos_embed$": "encoder.pos_embedding",
    r"^patch_embed\.proj\.": "conv_proj.",
    r"^blocks\.(\d+)\.": r"encoder.layers.encoder_layer_\1.",
    r"\.norm([12])\.": r".ln_\1.",
    r"\.attn\.qkv\.": ".self_attention.in_proj_",
    r"\.attn\.proj\.": ".self_attention.out_proj.",
    r"\.mlp\.fc1\.": ".mlp.0.",
    r"\.mlp\.fc2\.": ".mlp.3.",
    r"^norm\.": "encoder.ln.",
    r"^head\.": "heads.head.",
}


def vit_state(state: Mapping[str, Tensor], *, patch: int) -> dict[str, Tensor]:
    """`state` under the names of a ViT with this patch, whichever of torchvision, older torchvision and timm it comes from.

    Its position embedding is interpolated to the net's own, as for images of another size. Names that are of none of these
    stay, for the loader to complain of.
    """
    names = TIMM if "cls_token" in state else TORCHVISION
    result = {_renamed(key, names): value for key, value in state.items()}
    embedding = result.get("encoder.pos_embedding", torch.empty(0))
    if embedding.dim() == 3:
        own, found = SIDE // patch, math.isqrt(embedding.shape[1] - 1)
        if found != own and found * found == embedding.shape[1] - 1:
            LOG.info(
                "the position embedding is of %s x %s patches, and is interpolated to %s x %s", found, found, own, own
            )
            result["encoder.pos_embedding"] = resized_positions(embedding, own)
    return result


def _renamed(key: str, names: Mapping[str, str]) -> str:
    for pattern, new in names.items():
        key = re.sub(pattern, new, key)
    return key
