"""torchvision's vision transformer (Dosovitskiy et al. 2021) with named depths at its patch tokens."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torchvision.models import VisionTransformer

from guidance.models.classifier import Classifier, Depth, Operation
from guidance.models.vit.attention import SelfAttention
from guidance.models.vit.positions import SIDE, patch_cells, resized_positions


class ViT(VisionTransformer):  # type: ignore[misc]
    """torchvision's net, initialised by it and with its names of weights, for square images of any multiple of the patch.

    The position embedding keeps the size that it has for `image_size`, and is interpolated in each forward pass where images
    have another. Attention is `SelfAttention`.
    """

    def __init__(
        self, *, patch: int, dim: int, blocks: int, heads: int, hidden: int, num_classes: int, image_size: int = SIDE
    ) -> None:
        super().__init__(image_size, patch, blocks, heads, dim, hidden, num_classes=num_classes)
        for block in self.encoder.layers:
            block.self_attention = SelfAttention(block.self_attention)

    @property
    def block_names(self) -> list[str]:
        return [f"encoder.layers.{name}" for name, _ in self.encoder.layers.named_children()]

    def tokens(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, H] -> the class token and those of the patches, with their positions: [B, 1 + h * h, D]."""
        height, width, patch = *images.shape[2:], self.patch_size
        if height != width or height % patch:
            raise ValueError(
                f"this net cuts square images into patches of {patch} pixels, so that their side must be a multiple of it, but "
                f"they are {height} x {width}; set data.image_size to a multiple"
            )
        patches = self.conv_proj(images).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.class_token.expand(images.shape[0], -1, -1), patches), dim=1)
        return tokens + resized_positions(self.encoder.pos_embedding, height // patch)

    def read(self, tokens: Tensor) -> Tensor:
        """What the last block reads of tokens [B, T, D]: each normalised, and beside it as it is: [B, T, 2 D]."""
        return torch.cat((self.encoder.layers[-1].ln_1(tokens), tokens), dim=-1)

    def last(self, read: Tensor) -> Tensor:
        """The last block, for the class token alone: what `read` gave [B, T, 2 D] -> [B, 1, D]."""
        normalized, tokens = read.chunk(2, dim=-1)
        block = self.encoder.layers[-1]
        attended, _ = block.self_attention(normalized)
        token = tokens[:, :1] + block.dropout(attended[:, :1])
        result: Tensor = token + block.mlp(block.ln_2(token))
        return result

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, H] -> logits [B, K]."""
        tokens = self.encoder.layers(self.encoder.dropout(self.tokens(images)))
        logits: Tensor = self.heads(class_token(self.encoder.ln(tokens)))
        return logits


def read_cells(read: Tensor) -> Tensor:
    """What `ViT.read` gave [M, 1 + h * h, 2 D] -> the cells of the normalised patches [M, D, h, h]."""
    return patch_cells(read.chunk(2, dim=-1)[0])


def class_token(tokens: Tensor) -> Tensor:
    """[B, T, D] -> [B, D]."""
    return tokens[:, 0]


def vit(net: ViT) -> Classifier:
    """`net` with depths at its tokens: mid1..3 after a quarter, half and three quarters of its blocks (rounded), and final.

    Final is what the last block reads: its normalised tokens. Behind that block the class token alone is read, so the gradient
    by the patches is zero; and before that norm, of which every other patch's share passes through, input times gradient is
    zero, because a layer norm does not see the scale of a token. Nor does it see a constant that is added to all channels:
    sums over channels of a gradient by tokens (Guided Backprop) are zero at mid1..3. Needs six blocks or more.
    """
    names = net.block_names
    ends = [0, *(round(len(names) * quarter / 4) for quarter in (1, 2, 3)), len(names) - 1]
    parts = [names[start:stop] for start, stop in pairwise(ends)]
    stages: dict[str, Sequence[Operation] | Depth] = {
        "mid1": Depth((net.tokens, "encoder.dropout", *parts[0]), patch_cells),
        "mid2": Depth(parts[1], patch_cells),
        "mid3": Depth(parts[2], patch_cells),
        "final": Depth((*parts[3], net.read), read_cells),
        "logits": (net.last, "encoder.ln", class_token, "heads"),
    }
    weights = [f"{name}.self_attention.weights" for name in names]
    return Classifier(net, stages, channels=3, watched=("encoder.dropout", *names[:-1], *weights))
