"""What the top-down pathway of AIM is made of."""

from __future__ import annotations

from torch import Tensor, nn

from guidance.models.layers.noise import Dropout


class TopDownBlock(nn.Module):
    """Features [B, C, h, w] -> [B, F, h, w]: 1x1 and 3x3 convolution, LayerNorm over channels, GELU (AIM, Sec. 3)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.align = nn.Conv2d(channels, width, 1)
        self.refine = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.LayerNorm(width)
        self.activation = nn.GELU()

    def forward(self, features: Tensor) -> Tensor:
        x = self.refine(self.align(features)).permute(0, 2, 3, 1)
        y: Tensor = self.activation(self.norm(x)).permute(0, 3, 1, 2)
        return y


class Head(nn.Module):
    """Features [B, F, h, w] -> logits [B, K]: mean over all cells (masked ones too), drop-out, linear."""

    def __init__(self, width: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(width, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.dropout(features.mean((2, 3))))
        return logits
