"""Image, boxes and segmentations that are transformed together (torchvision.transforms.v2 on tv_tensors)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional
from torchvision.transforms.v2.functional import register_kernel

# "image" [3, H, W] uint8 -> [C, s, s] float; "boxes" [n, 4] float32; "segments" [k, H, W] uint8, absent if not loaded
View = dict[str, Any]
Transform = Callable[[View], View]


class Segments(tv_tensors.Mask):  # type: ignore[misc]
    """Segmentations [k, H, W] uint8 whose cells are taken at their centres when they are resized.

    torchvision takes them at their upper left corners, which moves a segmentation by up to half a pixel of the result
    against its image and its boxes: much, where a photograph becomes 64 pixels wide.
    """


@register_kernel(functional.resize, Segments)  # type: ignore[untyped-decorator]
def _resize_segments(
    segments: Tensor, size: list[int], interpolation: Any = None, max_size: Any = None, antialias: Any = True
) -> Segments:
    height, width = segments.shape[-2:]
    if len(size) == 1:  # of the short side
        size = [int(size[0] * side / min(height, width)) for side in (height, width)]
    if not len(segments):
        return Segments(segments.new_zeros((0, *size)))
    cells = torch.nn.functional.interpolate(segments.as_subclass(Tensor)[None], size, mode="nearest-exact")[0]
    return Segments(cells)


@register_kernel(functional.resized_crop, Segments)  # type: ignore[untyped-decorator]
def _crop_segments(
    segments: Tensor, top: int, left: int, height: int, width: int, size: list[int], interpolation: Any = None,
    antialias: Any = True,
) -> Segments:  # fmt: skip
    cells = functional.crop_mask(segments.as_subclass(Tensor), top, left, height, width)
    resized: Segments = _resize_segments(cells, size)
    return resized


def to_frame(view: View, height: int, width: int) -> View:
    """Move every box and mask to an image of (height, width), as its resize moves them.

    For an image that was resized when it was cached, while its annotation is in the frame of its file.
    """
    size, moved = [height, width], dict(view)
    for name, value in view.items():
        if isinstance(value, tv_tensors.BoundingBoxes):
            boxes, canvas = value.as_subclass(Tensor), (height, width)
            if len(boxes):  # moving none takes as long as moving some
                boxes, canvas = functional.resize_bounding_boxes(boxes, canvas_size=value.canvas_size, size=size)
            moved[name] = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=canvas)
        elif isinstance(value, tv_tensors.Mask):
            moved[name] = functional.resize(value, size)
    return moved
