"""B-cos vision transformers (Böhle et al. 2024, Sec. 3.4): "simple" ones and ones with a convolutional stem.

Tokens keep their place in the image: features are [B, h, w, D] inside, and [B, D, h, w] at the named depths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from guidance.models.bcos.convert import INPUT_CHANNELS
from guidance.models.bcos.modules import BcosConv2d, BcosLinear, LogitBias
from guidance.models.bcos.norms import image_norm, layer_norm
from guidance.models.classifier import Classifier, Operation
from guidance.models.pullback.dynamic import dynamic
from guidance.models.pullback.rules import Explained, Layer, Rows, chain, compose, explain, pick, rearrange, residual


class TokensLast(Layer):
    """[B, D, h, w] -> [B, h, w, D]."""

    def explain(self, x: Tensor) -> Explained:
        return rearrange(x, lambda t: t.permute(0, 2, 3, 1), lambda t: t.permute(0, 3, 1, 2))


class TokensFirst(Layer):
    """[B, h, w, D] -> [B, D, h, w]."""

    def explain(self, x: Tensor) -> Explained:
        return rearrange(x, lambda t: t.permute(0, 3, 1, 2), lambda t: t.permute(0, 2, 3, 1))


class Patches(Layer):
    """[B, C, h * p, w * p] -> [B, h, w, p * p * C], a patch in the order (row, column, channel)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def explain(self, x: Tensor) -> Explained:
        if x.shape[-2] % self.size or x.shape[-1] % self.size:
            raise ValueError(
                f"this net cuts images into patches of {self.size} pixels, so the sides of an image must be multiples of "
                f"it, but they are {x.shape[-2]} x {x.shape[-1]}; set data.image_size to a multiple"
            )
        grid = (x.shape[-2] // self.size, x.shape[-1] // self.size)

        def cut(t: Tensor) -> Tensor:
            t = torch.unflatten(torch.unflatten(t, 3, (grid[1], self.size)), 2, (grid[0], self.size))
            return t.permute(0, 2, 4, 3, 5, 1).flatten(3)

        def join(t: Tensor) -> Tensor:
            t = torch.unflatten(t, 3, (self.size, self.size, -1))
            return t.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)

        return rearrange(x, cut, join)


class PatchEmbedding(Layer):
    """Images -> tokens [B, h, w, D], by a convolutional stem if there is one, and a B-cos linear layer."""

    def __init__(self, *, patch: int, dim: int, stem: nn.Sequential | None = None, stem_channels: int = 6) -> None:
        super().__init__()
        if stem is not None:
            self.conv_stem = stem
        self.patches = Patches(patch)
        self.linear = BcosLinear(patch * patch * stem_channels, dim)

    def explain(self, x: Tensor) -> Explained:
        stem = (self.conv_stem,) if hasattr(self, "conv_stem") else ()
        return chain(x, (*stem, self.patches, self.linear))


class Position(Layer):
    """Adds the positional embedding: a constant beside the map, like a bias (`position_map` gives its share)."""

    def explain(self, x: Tensor) -> Explained:
        return x + position_embedding(x), lambda grad, rows=None: grad


def position_embedding(tokens: Tensor) -> Tensor:
    """Two-dimensional sine-cosine embedding [h, w, D] for `tokens` [B, h, w, D]: (sin x, cos x, sin y, cos y)."""
    height, width, dim = tokens.shape[1:]
    dtype = torch.float64 if tokens.dtype == torch.float64 else torch.float32
    column, row, step = (torch.arange(n, device=tokens.device, dtype=dtype) for n in (width, height, dim // 4))
    frequency = 10_000.0 ** -(step / (dim // 4 - 1))
    y, x = row[:, None, None] * frequency, column[None, :, None] * frequency
    parts = [part.expand(height, width, -1) for part in (x.sin(), x.cos(), y.sin(), y.cos())]
    return torch.cat(parts, dim=-1).to(tokens.dtype)


class Attention(Layer):
    """Norm and multi-head self-attention; queries and keys, and so the attention weights, are dynamic factors."""

    dynamic = True

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = layer_norm(dim)
        self.to_qkv = nn.Linear(dim, 3 * dim, bias=False)  # a plain linear layer, as in the released code
        self.to_out = BcosLinear(dim, dim)

    def explain(self, x: Tensor) -> Explained:
        grid = x.shape[1:3]
        tokens, through_norm = explain(self.norm, x)
        query, key, value = (self._split(t) for t in self.to_qkv(tokens).chunk(3, dim=-1))
        # Not torch's fused attention: it has no double backward, and its weights cannot be had.
        attention = dynamic((query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5).softmax(-1))
        y, through_out = explain(self.to_out, self._merge(attention @ value, grid))
        assert through_norm is not None
        assert through_out is not None

        def pullback(grad: Tensor, rows: Rows = None) -> Tensor:
            grad = self._split(through_out(grad, rows))
            grad = self._merge(pick(attention, rows).transpose(-2, -1).to(grad.dtype) @ grad, grid)
            return through_norm(grad @ self.to_qkv.weight.chunk(3)[2], rows)

        return y, pullback

    def _split(self, tokens: Tensor) -> Tensor:
        """[B, h, w, D] -> [B, heads, h * w, D / heads]."""
        return torch.unflatten(tokens.flatten(1, 2), -1, (self.heads, -1)).transpose(1, 2)

    def _merge(self, tokens: Tensor, grid: torch.Size) -> Tensor:
        return torch.unflatten(tokens.transpose(1, 2).flatten(2), 1, tuple(grid))


class FeedForward(Layer):
    """Norm and two B-cos linear layers, with nothing between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential()
        self.net.norm = layer_norm(dim)
        self.net.linear1 = BcosLinear(dim, hidden)
        self.net.linear2 = BcosLinear(hidden, dim)

    def explain(self, x: Tensor) -> Explained:
        return explain(self.net, x)


class Encoder(Layer):
    """One transformer block."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attn, self.ff = Attention(dim, heads), FeedForward(dim, hidden)

    def explain(self, x: Tensor) -> Explained:
        x, through_attention = residual(x, (self.attn,))
        x, through_feed_forward = residual(x, (self.ff,))
        return x, compose(through_attention, through_feed_forward)


class MeanToken(Layer):
    """[B, h, w, D] -> [B, D]."""

    def explain(self, x: Tensor) -> Explained:
        height, width = x.shape[1:3]
        return x.mean((1, 2)), lambda grad, rows=None: (grad / (height * width))[:, None, None].expand(
            -1, height, width, -1
        )


class BcosViT(nn.Module):
    """The parts of the net under their published names; the stages of its Classifier say in which order they run."""

    def __init__(
        self, *, embedding: PatchEmbedding, dim: int, depth: int, heads: int, hidden: int, num_classes: int
    ) -> None:
        super().__init__()
        self.to_patch_embedding = embedding
        self.transformer = nn.ModuleDict({f"encoder_{i}": Encoder(dim, heads, hidden) for i in range(depth)})
        self.linear_head = nn.Sequential()
        self.linear_head.norm = layer_norm(dim)
        self.linear_head.linear = BcosLinear(dim, num_classes)
        self.logit_bias = LogitBias()


def bcos_vit(net: BcosViT) -> Classifier:
    """`net` with depths: mid1..3 after a quarter, half and three quarters of its blocks (rounded), final after the last."""
    blocks = [f"transformer.{name}" for name in net.transformer]
    ends = [round(len(blocks) * quarter / 4) for quarter in range(5)]
    parts = [blocks[start:stop] for start, stop in pairwise(ends)]
    stages: Mapping[str, Sequence[Operation]] = {
        "mid1": ("to_patch_embedding", Position(), *parts[0], TokensFirst()),
        "mid2": (TokensLast(), *parts[1], TokensFirst()),
        "mid3": (TokensLast(), *parts[2], TokensFirst()),
        "final": (TokensLast(), *parts[3], TokensFirst()),
        "logits": (TokensLast(), MeanToken(), "linear_head", "logit_bias"),
    }
    return Classifier(net, stages, channels=INPUT_CHANNELS, layerwise=True)


def build_bcos_simple_vit_s(num_classes: int) -> Classifier:
    """B-cos simple ViT-S/16 with fresh weights."""
    embedding = PatchEmbedding(patch=16, dim=384)
    return bcos_vit(BcosViT(embedding=embedding, dim=384, depth=12, heads=6, hidden=1536, num_classes=num_classes))


def build_bcos_vitc_s(num_classes: int) -> Classifier:
    """B-cos ViTC-S with fresh weights: four strided convolutions instead of patches, and one block less."""
    embedding = PatchEmbedding(patch=1, dim=384, stem=conv_stem((48, 96, 192, 384)), stem_channels=384)
    return bcos_vit(BcosViT(embedding=embedding, dim=384, depth=11, heads=6, hidden=1536, num_classes=num_classes))


def conv_stem(widths: tuple[int, ...]) -> nn.Sequential:
    """3x3 B-cos convolutions, each with a norm and a place for an activation; they halve the image where the width grows."""
    layers: list[nn.Module] = []
    before = INPUT_CHANNELS
    for width in widths:
        conv = BcosConv2d(before, width, 3, stride=2 if width > before else 1, padding=1)
        layers += [conv, image_norm(width), nn.Identity()]
        before = width
    return nn.Sequential(*layers)


def position_map(model: Classifier, images: Tensor, image: Tensor, target: Tensor) -> Tensor:
    """What the positional embedding adds to the logit `target[m]` of `image[m]`, at each token: [M, h, w].

    With the map at the input it sums to the logit without its bias: the input alone does not explain a ViT.
    """
    net = model.net
    assert isinstance(net, BcosViT)
    tokens = net.to_patch_embedding(images)
    layers = (Position(), *net.transformer.values(), MeanToken(), net.linear_head)
    logits, pullback = chain(tokens, layers)
    assert pullback is not None
    gradient = pullback(functional.one_hot(target, logits.shape[1]).to(logits.dtype), image)
    return (gradient * position_embedding(tokens)).sum(-1)
