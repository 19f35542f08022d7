"""Images as users have them, to what a net takes, and back to what is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors

from guidance.data.reading.decode import pixels_of, read_image
from guidance.data.transforms.crops import SQUARES, USUAL
from guidance.data.transforms.encodings import MEAN, STD, Encoding, encoded, encoding_of, with_normalization
from guidance.pictures.overlays import to_uint8
from guidance.types import lookup

Picture: TypeAlias = str | Path | Image.Image | NDArray[Any] | Tensor


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the input of a net.

    `size`: side of the square input in pixels, bilinear and antialiased; None leaves images as large as they are. `crop`:
    "none" (the whole image becomes the square) or "center" (its middle; 224 pixels of a short side of 256). `encoding`:
    "normalized", by `mean` and `std` of each channel, by default ImageNet's, or "inverse", (x, 1 - x), for B-cos nets. Raises
    ValueError for an unknown crop or encoding.
    """

    size: int | None = None
    crop: str = "none"
    encoding: str = "normalized"
    mean: Sequence[float] = MEAN
    std: Sequence[float] = STD

    def __post_init__(self) -> None:
        lookup(SQUARES, self.crop, "crop")
        self.both_ways()

    def encode(self, pixels: Tensor) -> Tensor:
        """[3, H, W], uint8 or float in [0, 1] -> what the net takes [C, s, s]."""
        steps = [] if self.size is None else SQUARES[self.crop](self.size, USUAL)
        image: Tensor = encoded(steps, self.both_ways())({"image": tv_tensors.Image(pixels)})["image"]
        return image

    def both_ways(self) -> Encoding:
        """The encoding of an image of the right size, and its way back."""
        return with_normalization(self.encoding, self.mean, self.std)


class Prepared(NamedTuple):
    """Images as a net takes them."""

    images: Tensor  # [B, C, H, W]
    shown: Tensor | None  # [B, 3, H, W] in [0, 1]; None for images of other than 3 or 6 channels
    single: bool  # whether one image was given, rather than a batch


def way_of(preprocess: Preprocessing | Callable[[Image.Image], Tensor] | None) -> Encoding:
    """How pixels [3, H, W] become an input [C, H, W], and inputs [B, C, H, W] are shown [B, 3, H, W].

    A callable is given a Pillow image, which the transforms of torchvision and timm take; it is undone by the mean and std
    that it tells, or ImageNet's.
    """
    if isinstance(preprocess, Preprocessing):
        return Encoding(preprocess.encode, preprocess.both_ways().decode)
    if preprocess is None:
        return Encoding(_refuse, _decode(MEAN, STD))

    def encode(pixels: Tensor) -> Tensor:
        array = pixels.permute(1, 2, 0).numpy()
        return preprocess(Image.fromarray(array if array.dtype == np.uint8 else to_uint8(array.astype(np.float64))))

    return Encoding(encode, _decode(*_normalization(preprocess)))


def prepare(
    given: Picture | Sequence[Picture], way: Encoding, *, device: torch.device, displayed: bool = True
) -> Prepared:
    """One image, or several, as a net takes them.

    Paths (turned as their EXIF orientation says, if `displayed`), Pillow images, arrays [H, W, 3] or [H, W], uint8 or float
    in [0, 1], and uint8 tensors [3, H, W] or [B, 3, H, W] are encoded; float tensors [C, H, W] or [B, C, H, W] are inputs
    already. Raises ValueError for others, and for images of several sizes.
    """
    many = isinstance(given, Sequence) and not isinstance(given, str)
    if isinstance(given, Tensor) and given.dim() == 4:
        parts, many = list(given), True
    else:
        parts = list(given) if many else [given]  # type: ignore[arg-type]
    if not parts:
        raise ValueError("there is no image to explain")
    inputs = [_input(part, way, displayed) for part in parts]
    sizes = {tuple(x.shape) for x in inputs}
    if len(sizes) > 1:
        raise ValueError(f"images have several sizes as inputs, {sorted(sizes)}: set the size of preprocess")
    images = torch.stack(inputs).to(device)
    shown = way.decode(images.cpu()).clamp(0, 1) if encoding_of(images.shape[1]) else None
    return Prepared(images, shown, not many)


def _input(given: Picture, way: Encoding, displayed: bool) -> Tensor:
    """[C, H, W]."""
    if isinstance(given, Tensor):
        if given.dim() != 3:
            raise ValueError(f"a tensor is an image [C, H, W] or a batch [B, C, H, W], not {list(given.shape)}")
        return given if given.is_floating_point() else way.encode(given)
    return way.encode(_pixels(given, displayed))


def _pixels(given: str | Path | Image.Image | NDArray[Any], displayed: bool) -> Tensor:
    """[3, H, W] uint8, or float in [0, 1]."""
    if isinstance(given, str | Path):
        return read_image(Path(given), displayed=displayed)
    if isinstance(given, Image.Image):
        return pixels_of(given, "the image")
    if not isinstance(given, np.ndarray):
        raise ValueError(f"a {type(given).__name__} is no image: give a path, a Pillow image, an array or a tensor")
    array = np.repeat(given[..., None], 3, axis=2) if given.ndim == 2 else given
    whole, real = array.dtype == np.uint8, np.issubdtype(array.dtype, np.floating)
    if array.ndim != 3 or array.shape[2] != 3 or not (whole or real):
        raise ValueError(
            f"an array is [H, W, 3] or [H, W], uint8 or float in [0, 1], not {list(given.shape)} {given.dtype}"
        )
    if real and not (array.min() >= 0 and array.max() <= 1):
        raise ValueError(
            f"an array of floats lies in [0, 1], but this one in [{array.min():g}, {array.max():g}]; divide by 255, or give "
            "what is an input already as a tensor [C, H, W]"
        )
    pixels = torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1)
    return pixels if whole else pixels.float()


def _refuse(pixels: Tensor) -> Tensor:
    raise ValueError(
        "how an image becomes an input of this net is not known: give preprocess, such as Preprocessing(size=224) "
        "or the transforms() of torchvision's weights, or give inputs as float tensors [C, H, W]"
    )


def _decode(mean: Sequence[float], std: Sequence[float]) -> Callable[[Tensor], Tensor]:
    """Inputs of 6 channels are (x, 1 - x), those of 3 normalised."""

    def decode(images: Tensor) -> Tensor:
        name = encoding_of(images.shape[1])
        assert name is not None
        return with_normalization(name, mean, std).decode(images)

    return decode


def _normalization(transform: object) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and std of a transform, or of a part of it; ImageNet's where it has none."""
    for step in (transform, *getattr(transform, "transforms", ())):
        mean, std = getattr(step, "mean", None), getattr(step, "std", None)
        if mean is not None and std is not None:
            return torch.as_tensor(mean).tolist(), torch.as_tensor(std).tolist()
    return MEAN, STD
