"""Masks over the cells of a feature map: estimated, made binary."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from guidance.models.layers.noise import Keyed
from guidance.models.pullback.dynamic import dynamic


def binary_mask(logits: Tensor, noise: Tensor | None = None, *, temperature: float = 1.0) -> Tensor:
    """The binary Gumbel-softmax with a straight-through gradient (AIM, Eq. 2; Verelst & Tuytelaars 2020, Eq. 4).

    `logits` [B, 1, h, w] -> a mask of the same shape in {0, 1}, exactly. It is 1 where logits + noise >= 0, and its gradient
    is that of sigmoid((logits + noise) / temperature). `noise`: the difference of two Gumbel draws, which is logistic, so
    that a cell is active with probability sigmoid(logits) at any temperature; None is deterministic.

    Losses train the mask through that gradient; attributions take it as a constant (a gradient inside
    `guidance.models.pullback.dynamic.linearized` leaves it out), so that the maps that are guided are those that are evaluated.
    GradCAM and saliency maps, which are not linearised, keep it below the fused features.
    """
    shifted = logits if noise is None else logits + noise
    soft = torch.sigmoid(shifted / temperature)
    # soft - soft is exactly zero; hard - soft + soft would not be exactly one.
    return (shifted >= 0).to(logits.dtype) + dynamic(soft - soft.detach())


def logistic(uniform: Tensor) -> Tensor:
    """Logistic noise from uniform draws in (0, 1): the difference of two independent Gumbel variables."""
    return uniform.log() - torch.log1p(-uniform)


class MaskEstimator(Keyed):
    """Features [B, C, h, w] -> mask logits A and binary mask B, each [B, 1, h, w] (AIM, Sec. 3, Eq. 1 and 2).

    A 3x3 convolution, three residual blocks of two 3x3 convolutions, the result beside its mean over all cells, and a 1x1
    convolution to one channel. The paper names neither activations nor norms. Here they are ReLU and, after every 3x3
    convolution, a norm over the whole map of a sample, without weights: the parameter counts (Table 6) fit width 32 and
    cannot tell, and without a norm the logits of unbounded features grow until the sigmoid has no gradient left, while the
    threshold is still near 1. In training `noisy` masks are drawn; else they are 1[A >= 0].
    """

    dynamic = True  # in training, where masks hand gradients on to the losses

    def __init__(
        self, channels: int, *, width: int = 32, temperature: float = 1.0, initialization: str = "default"
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(width) for _ in range(3)))
        self.score = nn.Conv2d(2 * width, 1, 1)
        self.temperature, self.noisy = temperature, True
        if initialization == "edges":
            emphasize_edges(self)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        x = self.blocks(functional.relu(normalize(self.stem(features))))
        context = x.mean((2, 3), keepdim=True).expand_as(x)
        logits = self.score(torch.cat((x, context), dim=1))
        # The noise reaches into tails that half precision cannot hold.
        logits = logits if logits.dtype == torch.float64 else logits.float()
        return logits, self.mask(logits)

    def mask(self, logits: Tensor) -> Tensor:
        if not self.training:  # a step function, whose true gradient is none: attributions take the masks as they are
            return (logits >= 0).to(logits.dtype)
        noise = None
        if self.noisy:
            noise = logistic(self.draw(len(logits), logits.shape[1:], logits.device)).to(logits.dtype)
        return binary_mask(logits, noise, temperature=self.temperature)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and their input: [B, C, h, w] -> the same shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = normalize(self.conv2(functional.relu(normalize(self.conv1(x)))))
        return functional.relu(x + y)


def normalize(x: Tensor) -> Tensor:
    """Each sample of [B, C, h, w] with mean 0 and variance 1 over all its values."""
    return functional.group_norm(x, 1)


@torch.no_grad()
def emphasize_edges(net: nn.Module, *, floor: float = 0.1) -> None:
    """Scale the kernels of `net` so that their rims weigh more than their centres (AIM, Sec. D.5), in place.

    Each weight is multiplied by its distance from the centre of the kernel plus `floor` (else the centre would be zero),
    over the mean of these. The paper gives no formula; this one keeps the mean factor at 1.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.weight.shape[2:].numel() > 1:
            rows, columns = (torch.arange(n) - (n - 1) / 2 for n in module.weight.shape[2:])
            distance = torch.hypot(rows[:, None], columns[None, :]) + floor
            module.weight.mul_((distance / distance.mean()).to(module.weight))
