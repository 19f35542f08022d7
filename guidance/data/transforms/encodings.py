"""How a net wants the pixels of its input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from guidance.data.transforms.views import View
from guidance.types import lookup

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as torchvision's weights expect


class Encoding(NamedTuple):
    """How an image in [0, 1] becomes a network input, and back."""

    encode: Callable[[Tensor], Tensor]  # [3, H, W] -> [C, H, W]
    decode: Callable[[Tensor], Tensor]  # [B, C, H, W] -> [B, 3, H, W], not yet clamped


def add_inverse(image: Tensor) -> Tensor:
    """[..., 3, H, W] in [0, 1] -> [..., 6, H, W]: (x, 1 - x), the input of B-cos nets (Böhle et al. 2022)."""
    return torch.cat((image, 1 - image), dim=-3)


def normalized(mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> Encoding:
    """(x - mean) / std, channel by channel, and back."""
    return Encoding(partial(_normalize, mean, std), partial(_denormalize, mean, std))


def _normalize(mean: Sequence[float], std: Sequence[float], image: Tensor) -> Tensor:
    centre, scale = (image.new_tensor(values).view(3, 1, 1) for values in (mean, std))
    return (image - centre).div_(scale)


def _denormalize(mean: Sequence[float], std: Sequence[float], images: Tensor) -> Tensor:
    centre, scale = (images.new_tensor(values).view(3, 1, 1) for values in (mean, std))
    return images * scale + centre


ENCODINGS: Mapping[str, Encoding] = {
    "normalized": normalized(),
    "inverse": Encoding(add_inverse, lambda images: images[:, :3]),
}


def chosen(encoding: str | Encoding) -> Encoding:
    """A name in ENCODINGS, or an encoding of one's own."""
    return lookup(ENCODINGS, encoding, "encoding") if isinstance(encoding, str) else encoding


def with_normalization(name: str, mean: Sequence[float], std: Sequence[float]) -> Encoding:
    """The encoding of that name, which normalises by `mean` and `std` where it does."""
    return lookup({**ENCODINGS, "normalized": normalized(mean, std)}, name, "encoding")


def to_display(images: Tensor, encoding: str | Encoding) -> Tensor:
    """Undo the encoding: [B, C, H, W] network input -> [B, 3, H, W] in [0, 1]."""
    return chosen(encoding).decode(images).clamp(0, 1)


def encoding_of(channels: int) -> str | None:
    """The encoding of inputs of so many channels; None where there is none."""
    return {3: "normalized", 6: "inverse"}.get(channels)


def mean_pixel(encoding: str | Encoding, dtype: torch.dtype = torch.float32) -> Tensor:
    """The mean colour of ImageNet as a net takes it [C]: zeros where inputs are normalised by it."""
    colour = torch.tensor(MEAN, dtype=dtype).view(3, 1, 1)
    return chosen(encoding).encode(colour).flatten()


def to_input(encode: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    """Pixels [..., 3, H, W] uint8, or float in [0, 1], as a net takes them: [..., C, H, W] float32."""
    # Not transforms of v2: their dispatch takes longer than the arithmetic of a cached image.
    return encode(functional.to_dtype_image(pixels, torch.float32, scale=True))


@dataclass(frozen=True)
class EncodedTransform:
    """The `steps`, and then the encoding of the image: a `Transform` whose last part can also be done on the device."""

    steps: Sequence[Callable[[View], View]]
    encode: Callable[[Tensor], Tensor]  # pixels [..., 3, H, W] -> network input [..., C, H, W] float32

    def __call__(self, view: View) -> View:
        view = self.pixels(view)
        return {**view, "image": self.encode(view["image"])}

    def pixels(self, view: View) -> View:
        """The view before its image is encoded: [3, s, s], uint8 unless a step makes it float."""
        for step in self.steps:
            view = step(view)
        return {**view, "image": view["image"].as_subclass(Tensor).contiguous()}


def encoded(steps: Sequence[Callable[[View], View]], encoding: str | Encoding) -> EncodedTransform:
    """The `steps`, and then the encoding of the image: a name in ENCODINGS, or one of one's own."""
    return EncodedTransform(tuple(steps), partial(to_input, chosen(encoding).encode))
