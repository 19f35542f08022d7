"""Slow attributions from attention: one image, one class, straight from the formulas.

The net is run on its weights by their names, with torch's functions and no module of ours; gradients by attention weights are
central differences of a run in which they are replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

EPS = 1e-6
Row = list[float]
Path = Callable[[float], tuple[Tensor, Tensor | None]]  # scale -> tokens [T, D], and them normalised if they are given


class Block(NamedTuple):
    """What went through a block: [T, D], heads [H, T, d], attention [H, T, T]."""

    x: Tensor
    first: Tensor
    query: Tensor
    key: Tensor
    value: Tensor
    attention: Tensor
    mixed: Tensor
    attended: Tensor
    middle: Tensor
    second: Tensor
    hidden: Tensor
    changed: Tensor
    output: Tensor


class Pass(NamedTuple):
    blocks: list[Block]
    logits: Tensor


class Slow:
    """The blocks of a ViT from `first` on, applied to tokens [T, D]."""

    def __init__(self, state: Mapping[str, Tensor], heads: int, first: int) -> None:
        self.state, self.heads, self.first = {k: v.detach() for k, v in state.items()}, heads, first
        self.gradients: dict[tuple[bytes, int], list[Tensor]] = {}  # of tokens and classes that were asked for before
        self.count = 1 + max(int(k.split("encoder_layer_")[1].split(".")[0]) for k in state if "encoder_layer_" in k)

    def linear(self, x: Tensor, name: str) -> Tensor:
        return x @ self.state[f"{name}weight"].T + self.state[f"{name}bias"]

    def norm(self, x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"], EPS)

    def run(
        self, tokens: Tensor, *, skip: int = 0, attention: Tensor | None = None, first: Tensor | None = None
    ) -> Pass:
        """All but the first `skip` blocks; the first of them has the `attention` and normalised tokens `first`, if given."""
        x, blocks = tokens, []
        for number in range(self.first + skip, self.count):
            blocks.append(self.block(x, f"encoder.layers.encoder_layer_{number}.", attention, first))
            x, attention, first = blocks[-1].output, None, None
        return Pass(blocks, self.read(x))

    def read(self, x: Tensor) -> Tensor:
        """Logits from the tokens after a block."""
        return self.linear(self.norm(x[:1], "encoder.ln")[0], "heads.head.")

    def block(self, x: Tensor, name: str, attention: Tensor | None, first: Tensor | None) -> Block:
        first = self.norm(x, f"{name}ln_1") if first is None else first
        joint = self.linear(first, f"{name}self_attention.in_proj_")
        size = x.shape[1] // self.heads
        q, k, v = (
            torch.stack([part[:, h * size : (h + 1) * size] for h in range(self.heads)]) for part in joint.chunk(3, 1)
        )
        if attention is None:
            attention = torch.stack([(q[h] @ k[h].T / size**0.5).softmax(-1) for h in range(self.heads)])
        mixed = torch.cat([attention[h] @ v[h] for h in range(self.heads)], dim=1)
        attended = self.linear(mixed, f"{name}self_attention.out_proj.")
        middle = x + attended
        second = self.norm(middle, f"{name}ln_2")
        hidden = functional.gelu(self.linear(second, f"{name}mlp.0."))
        changed = self.linear(hidden, f"{name}mlp.3.")
        return Block(x, first, q, k, v, attention, mixed, attended, middle, second, hidden, changed, middle + changed)


def difference(function: Callable[[Tensor], float], at: Tensor, eps: float = 1e-5) -> Tensor:
    """Central differences by every entry."""
    result = torch.zeros_like(at)
    for position in range(at.numel()):
        values = []
        for sign in (1, -1):
            moved = at.clone()
            moved.view(-1)[position] += sign * eps
            values.append(function(moved))
        result.view(-1)[position] = (values[0] - values[1]) / (2 * eps)
    return result


def gradients(net: Slow, tokens: Tensor, target: int) -> list[Tensor]:
    """G_l of each block."""
    key = (tokens.numpy().tobytes(), target)
    found = net.gradients.setdefault(key, [])
    if found:
        return found
    for i, block in enumerate(net.run(tokens).blocks):

        def logit(attention: Tensor, i: int = i, x: Tensor = block.x) -> float:
            return float(net.run(x, skip=i, attention=attention).logits[target])

        found.append(difference(logit, block.attention))
    return found


def product(matrices: Sequence[Tensor]) -> Row:
    """Row 0 of M_L ... M_1, of matrices that become A + I with rows that sum to 1."""
    total = torch.eye(len(matrices[0]), dtype=matrices[0].dtype)
    for matrix in matrices:
        total = matrix @ total
    return total[0].tolist()


def residual(matrix: Tensor) -> Tensor:
    rows = [[float(v) + (1.0 if i == j else 0.0) for j, v in enumerate(row)] for i, row in enumerate(matrix)]
    return torch.tensor([[v / sum(row) for v in row] for row in rows], dtype=matrix.dtype)


def positive_mean(matrices: Tensor) -> Tensor:
    """Mean over heads of the positive parts."""
    return sum(matrix.clamp_min(0) for matrix in matrices) / len(matrices)


def rollout(net: Slow, tokens: Tensor, target: int) -> Row:
    return product([residual(b.attention.mean(0)) for b in net.run(tokens).blocks])


def grad_rollout(net: Slow, tokens: Tensor, target: int) -> Row:
    blocks = net.run(tokens).blocks
    found = zip(blocks, gradients(net, tokens, target), strict=True)
    return product([residual(positive_mean(g * b.attention)) for b, g in found])


def attention_gradcam(net: Slow, tokens: Tensor, target: int) -> Row:
    last, g = net.run(tokens).blocks[-1].attention, gradients(net, tokens, target)[-1]
    result = [0.0] * len(tokens)
    for h in range(net.heads):
        weight = sum(g[h, 0, 1:].tolist()) / (len(tokens) - 1)
        for j in range(len(tokens)):
            result[j] += weight * float(last[h, 0, j]) / net.heads
    return [max(v, 0.0) for v in result]


def integrated(net: Slow, path: Path, target: int, steps: int) -> Row:
    """mean_h relu of the mean of G_L over the path, row 0."""
    parts = []
    for step in range(steps):
        tokens, first = path(step / (steps - 1))
        blocks = net.run(tokens, first=first).blocks

        def logit(attention: Tensor, last: Block = blocks[-1], skip: int = len(blocks) - 1) -> float:
            return float(net.run(last.x, skip=skip, attention=attention, first=last.first).logits[target])

        parts.append(difference(logit, blocks[-1].attention))
    row: Row = positive_mean(sum(parts) / steps)[0].tolist()
    return row


def t_attn(net: Slow, tokens: Tensor, target: int, path: Path, *, start: int, steps: int) -> Row:
    attention = [b.attention.mean(0) for b in net.run(tokens).blocks][max(0, start - net.first) :]
    state = attention[-1][0]
    for matrix in attention[-2::-1]:
        state = state @ matrix + state
    return [a * b for a, b in zip(state.tolist(), integrated(net, path, target, steps), strict=True)]


def importance(attention: Tensor, gradient: Tensor) -> Row:
    values = [float((a.T @ g).abs().mean()) for a, g in zip(attention, gradient, strict=True)]
    return [v / sum(values) for v in values]


def bi_attn(net: Slow, tokens: Tensor, target: int, path: Path, *, start: int, steps: int) -> Row:
    found = list(zip(net.run(tokens).blocks, gradients(net, tokens, target), strict=True))[max(0, start - net.first) :]
    total = torch.eye(len(tokens), dtype=tokens.dtype)
    for block, gradient in found:
        joined = sum(w * a for w, a in zip(importance(block.attention, gradient), block.attention, strict=True))
        total = total + joined @ total
    return [a * b for a, b in zip(total[0].tolist(), integrated(net, path, target, steps), strict=True)]


def inflow(net: Slow, tokens: Tensor, target: int) -> Row:
    blocks = net.run(tokens).blocks
    matrices = []
    for i, (block, gradient) in enumerate(zip(blocks, gradients(net, tokens, target), strict=True)):

        def own(attention: Tensor, i: int = i, x: Tensor = block.x) -> float:
            output = net.run(x, skip=i, attention=attention).blocks[0].output
            return float(net.read(output).softmax(0)[target])

        local = difference(own, block.attention)
        weighted = [w * a for w, a in zip(importance(block.attention, gradient), block.attention, strict=True)]
        attention = torch.stack(weighted).max(0).values * local.mean(0).clamp_min(0)
        x, a, y, m = (
            [float(v.norm()) for v in part] for part in (block.x, block.attended, block.middle, block.changed)
        )
        ratios = [after / before for after, before in zip(m, y, strict=True)]
        flow = torch.zeros_like(attention)
        for row in range(len(tokens)):
            for column in range(len(tokens)):
                kept = x[row] / (x[row] + a[row]) if row == column else 0.0
                first = a[row] / (x[row] + a[row]) * float(attention[row, column]) + kept
                share = y[column] / (y[column] + m[column])
                flow[row, column] = first * (ratios[column] / sum(ratios) * (1 - share) + share)
        matrices.append(flow / flow.sum(1, keepdim=True))
    return product(matrices)
