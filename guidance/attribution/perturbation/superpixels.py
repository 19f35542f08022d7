"""What perturbation methods switch off in an image, and what they put there instead."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from guidance.data.transforms.encodings import ENCODINGS, encoding_of, mean_pixel

INSTALL = "pip install 'guidance[attribution]'"


def superpixels(image: Tensor, *, segments: int, compactness: float) -> Tensor:
    """SLIC superpixels (Achanta et al. 2012) of a net's input [C, H, W]: each pixel's segment [H, W] long, counted from 0.

    `segments` is how many SLIC aims at; it makes about as many, each connected, by colour in Lab and place, of which
    `compactness` weighs the place. The pixels are those of the image (3 channels: normalised, 6: x and 1 - x); inputs of other
    channels are scaled to [0, 1] and compared as they are. The same image has the same superpixels, always. ValueError where
    scikit-image is not installed.
    """
    try:
        from skimage.segmentation import slic
    except ModuleNotFoundError as error:
        raise ValueError(f"superpixels need scikit-image: {INSTALL}") from error
    encoding = encoding_of(len(image))
    if encoding is not None:
        pixels = ENCODINGS[encoding].decode(image[None])[0].clamp(0, 1)
    else:
        low, high = image.amin(), image.amax()
        pixels = (image - low) / (high - low).clamp_min(torch.finfo(image.dtype).tiny)
    found = slic(
        pixels.movedim(0, 2).double().cpu().numpy(), n_segments=segments, compactness=compactness, start_label=0,
        convert2lab=encoding is not None, channel_axis=-1,
    )  # fmt: skip
    numbers = np.unique(found, return_inverse=True)[1].reshape(found.shape)
    return torch.from_numpy(numbers).to(image.device)


def mean_colour(image: Tensor) -> Tensor:
    """What takes the place of a pixel that is switched off: ImageNet's mean colour, as the net takes it: [C, 1, 1].

    Zero for normalised images, (mean, 1 - mean) for 6 channels, and zero for inputs of other channels. The paper names no
    baseline; this is our choice, the one at which the path of integrated gradients starts too for normalised images.
    """
    encoding = encoding_of(len(image))
    if encoding is None:
        return image.new_zeros(len(image), 1, 1)
    return mean_pixel(encoding, image.dtype).to(image.device)[:, None, None]
