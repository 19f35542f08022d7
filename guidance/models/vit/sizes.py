"""The sizes of vision transformers, and a net of each."""

from __future__ import annotations

from typing import NamedTuple

from guidance.models.classifier import Classifier


class ViTSize(NamedTuple):
    """What tells one ViT from another; all have 12 blocks."""

    patch: int
    dim: int
    heads: int


# S: the widths of DeIT-S (Touvron et al. 2021), which the B-cos ViT-S of model guidance has too.
SIZES = {
    "vit_s_16": ViTSize(16, 384, 6),
    "vit_b_8": ViTSize(8, 768, 12),
    "vit_b_16": ViTSize(16, 768, 12),
    "vit_b_32": ViTSize(32, 768, 12),
}


def build_vit(name: str, num_classes: int) -> Classifier:
    """ViT `name` with fresh weights, as torchvision initialises it: logits and maps are zero, because the classifier is."""
    from guidance.models.vit.net import ViT, vit  # imports torchvision, which takes two seconds

    patch, dim, heads = SIZES[name]
    return vit(ViT(patch=patch, dim=dim, blocks=12, heads=heads, hidden=4 * dim, num_classes=num_classes))
