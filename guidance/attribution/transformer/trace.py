"""One forward pass with its attention in the graph, and relevances of tokens for many (image, class) pairs from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.models.vision_transformer import EncoderBlock

from guidance.attribution.gradient import forward_of, turns
from guidance.attribution.request import Explainable, Request
from guidance.attribution.transformer.blocks import TracedBlock
from guidance.maps import full_precision
from guidance.models.classifier import evaluation_mode
from guidance.models.vit.attention import Form, attention_form
from guidance.models.vit.net import ViT
from guidance.models.vit.positions import patch_cells


@dataclass(frozen=True)
class Trace:
    """A forward pass of a batch above a depth, in evaluation mode and in the graph."""

    net: ViT
    start: Tensor  # the state at the depth [B, ...]
    below: int  # blocks of the net below the depth
    blocks: list[TracedBlock]  # those above it, from the lowest
    logits: Tensor  # [B, K]
    create_graph: bool

    def since(self, start: int, method: str) -> list[TracedBlock]:
        """The blocks from block `start` of the net on (counted from 0), of those above the depth."""
        count = self.below + len(self.blocks)
        if not 0 <= start < count:
            raise ValueError(f"start of {method} must be a block of the net, 0 to {count - 1}, not {start}")
        return self.blocks[max(0, start - self.below) :]

    def gradients(self, seed: Tensor, by: list[Tensor]) -> list[Tensor]:
        """Gradients of sum(seed * logits), both [B, K], in the shapes of `by`."""
        total = (self.logits * seed).sum()
        return list(torch.autograd.grad(total, by, retain_graph=True, create_graph=self.create_graph))

    def attention_gradients(self, seed: Tensor) -> list[Tensor]:
        """G_l of every block, the gradient by its attention weights [B, heads, T, T]."""
        return self.gradients(seed, [block.weights for block in self.blocks])

    def last_gradient(self, seed: Tensor) -> Tensor:
        """G_L in the row of the class token [B, heads, T]; in the last block the others are zero."""
        return self.gradients(seed, [self.blocks[-1].weights])[0][:, :, 0]


def trace(model: Explainable, request: Request, *, scale: float = 1.0, form: Form = "explicit") -> Trace:
    """Run the net above the depth on `scale` times its state of the whole batch; `form` of its attention.

    Raises ValueError for a net whose attention is not known.
    """
    net = getattr(model, "net", None)
    if not isinstance(net, ViT):
        raise ValueError(
            f"this attribution needs the attention of a vision transformer with a class token, which a {type(net).__name__} is "
            "not: take build_model('vit_b_16', num_classes=K), or another attribution"
        )
    features = forward_of(request).features[request.depth]
    with full_precision(features if request.create_graph else features.detach()) as x, torch.enable_grad():
        start = x * scale
        if not start.requires_grad:
            start.requires_grad_()
        with evaluation_mode(model), attention_form(model, form):
            out = model.upper(start, request.depth)
    seen, names = out.inside, net.block_names
    above = [name for name in names if f"{name}.self_attention.weights" in seen]
    # What entered each of them: images become tokens first, the last block reads two forms of its tokens (`ViT.read`).
    tokens = seen.get("encoder.dropout", start.chunk(2, dim=-1)[1] if len(above) == 1 else start)
    blocks = []
    for name in above:
        layer = net.get_submodule(name)
        assert isinstance(layer, EncoderBlock)
        blocks.append(TracedBlock(layer, tokens, seen[f"{name}.self_attention.weights"]))
        tokens = seen.get(name, tokens)
    return Trace(net, start, len(names) - len(above), blocks, out.logits, request.create_graph)


def in_turns(trace: Trace, request: Request, relevance: Callable[[Tensor], Tensor]) -> Tensor:
    """What `relevance` makes of seeds [B, K], one for each image: [B, ...] -> a row for each map of the request [M, ...].

    As in `gradients`, each call explains one map of every image; an image that has none has a seed of zeros.
    """
    rows, rounds = request.rows, request.rounds or 0
    slot = turns(rows)
    found = []
    with torch.autocast(trace.logits.device.type, enabled=False):
        for turn in range(max(1, rounds)):
            mine = request.seed.to(trace.logits.dtype) * (slot == turn)[:, None]
            found.append(relevance(torch.zeros_like(trace.logits).index_add(0, rows, mine)))
        return torch.cat(found)[slot * len(trace.logits) + rows]


def token_maps(model: Explainable, request: Request, relevance: Callable[[Trace, Tensor], Tensor]) -> Tensor:
    """Maps [M, h, w] from a function that gives a trace and seeds [B, K] a relevance of every token [B, T]."""
    traced = trace(model, request)
    return as_maps(in_turns(traced, request, lambda seed: relevance(traced, seed)), request)


def as_maps(tokens: Tensor, request: Request) -> Tensor:
    """Relevances of tokens [M, T] -> maps of the patches [M, h, w]."""
    maps = patch_cells(tokens[:, :, None])[:, 0]
    return maps if request.create_graph else maps.detach()
