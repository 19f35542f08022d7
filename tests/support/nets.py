"""Tiny nets behind `Classifier`, small enough for finite differences."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from guidance.models import BACKBONES, build_model
from guidance.models.aim import AIMForm, MaskedClassifier, build_aim
from guidance.models.classifier import Classifier
from guidance.types import Forward

ACTIVATIONS: dict[str, type[nn.Module]] = {"softplus": nn.Softplus, "tanh": nn.Tanh, "relu": nn.ReLU}


class TinyNet(nn.Module):
    """Three convolutions, global average pooling and a linear classifier; maps of 5, 2 and 2 cells a side for 6 pixels."""

    def __init__(
        self,
        *,
        activation: str,
        channels: int,
        num_classes: int,
        bias: bool,
        norm: type[nn.Module] | None,
        dropout: float,
    ) -> None:
        super().__init__()
        act = ACTIVATIONS[activation]

        def block(conv: nn.Conv2d) -> nn.Sequential:
            return nn.Sequential(conv, *([norm(conv.out_channels)] if norm else []), act(), nn.Dropout(dropout))

        self.stage1 = block(nn.Conv2d(channels, 3, 2, bias=bias))
        self.stage2 = block(nn.Conv2d(3, 4, 2, stride=2, bias=bias))
        self.stage3 = block(nn.Conv2d(4, 3, 2, padding=1, stride=2, bias=bias))
        self.fc = nn.Linear(3, num_classes, bias=bias)


def tiny(
    *,
    activation: str = "softplus",
    channels: int = 2,
    num_classes: int = 3,
    bias: bool = True,
    norm: type[nn.Module] | None = None,
    dropout: float = 0.0,
    dtype: torch.dtype = torch.float64,
    kind: type[Classifier] = Classifier,
) -> Classifier:
    """A random net with depths input, mid1, mid2, final; make it the same twice by seeding torch before."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # not .to(dtype): fake tensors do not take it
    try:
        net = TinyNet(
            activation=activation, channels=channels, num_classes=num_classes, bias=bias, norm=norm, dropout=dropout
        )
    finally:
        torch.set_default_dtype(default)
    stages = {"mid1": ["stage1"], "mid2": ["stage2"], "final": ["stage3"], "logits": [global_average, "fc"]}
    return kind(net, stages)


def tiny_aim(stop: int = 1, *, masking: str = "top_down", **settings: object) -> MaskedClassifier:
    """AIM around a net of three stages (5, 2 and 2 cells a side for 6 pixels), in float64."""
    torch.manual_seed(0)
    plain = tiny(channels=3)
    return build_aim(plain, (3, 4, 3), first_stage=1, stop_stage=stop, num_classes=3,
                     form=AIMForm(masking=masking, width=6, mask_width=4, **settings)).double()  # type: ignore[arg-type]  # fmt: skip


def aim_of(name: str, stop: int, classes: int = 200, **settings: object) -> MaskedClassifier:
    """AIM around the fresh backbone `name` of the table, as large as it is."""
    row = BACKBONES[name]
    return build_aim(build_model(name, num_classes=classes), row.channels, first_stage=row.first_stage, stop_stage=stop,
                     num_classes=classes, form=AIMForm(**settings))  # type: ignore[arg-type]  # fmt: skip


def global_average(x: Tensor) -> Tensor:
    return x.mean((2, 3))


class Masking(Classifier):
    """Active at "stage1" where the first channel of the image is above its mean, 4 x 4; "stage2" is 2 x 2."""

    def forward(self, images: Tensor) -> Forward:
        return super().forward(images)._replace(masks=self.masks(images))

    def explainable(self, images: Tensor, depth: str, *, graph: bool = True) -> Forward:
        return super().explainable(images, depth, graph=graph)._replace(masks=self.masks(images))

    def masks(self, images: Tensor) -> dict[str, Tensor]:
        first = images[:, :1] - images[:, :1].mean((2, 3), keepdim=True)
        pooled = {
            "stage1": nn.functional.adaptive_avg_pool2d(first, 4),
            "stage2": -nn.functional.adaptive_avg_pool2d(first, 2),
        }
        return {stage: (x > 0).float() for stage, x in pooled.items()}


def masking_net(classes: int, kind: type[Classifier] = Masking) -> Classifier:
    net = nn.Sequential(nn.Conv2d(3, 6, 3, stride=4, padding=1), nn.ReLU(), nn.Linear(6, classes))
    return kind(net, {"mid": ["0"], "final": ["1"], "logits": [global_average, "2"]}).eval()
