"""Whether an exported file gives what the net gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from guidance.assembly import build_evaluation_dataset
from guidance.assembly.sets import encoding
from guidance.attribution import Request, explain, one_hot
from guidance.data import to_display
from guidance.inference import Run, split_of
from guidance.maps import upsample

TOLERANCE = 1e-5  # of the largest magnitude of an output
IMAGES = 5  # not the number that the net was traced with


def sample_images(run: Run) -> tuple[Tensor, str]:
    """Images [B, 3, H, W] in [0, 1], and where they come from: the validation split, or chance where that is not at hand."""
    size = run.config.data.image_size
    try:
        source = split_of(run, run.config.data.val_split, "the net")
        dataset = build_evaluation_dataset(run.config, source)
        found = [dataset[i, 0].image for i in range(min(IMAGES, len(dataset)))]
    except (ValueError, OSError):
        generator = torch.Generator().manual_seed(0)
        return torch.rand(IMAGES, 3, size, size, generator=generator), "random images"
    return to_display(torch.stack(found), encoding(run.config)), f"images of {source.name} {source.split}"


def expected_outputs(run: Run, images: Tensor, predicted: Tensor | None = None) -> list[Tensor]:
    """Logits, and maps of the classes `predicted` [B] by the exported net, as this project computes them for images in [0, 1].

    The net may predict another class where two logits differ by rounding alone.
    """
    encoded = encoding(run.config).encode(images)
    with torch.no_grad():
        logits = run.model(encoded).logits
    if predicted is None:
        return [logits]
    settings = run.config.evaluated_attribution
    request = Request(
        settings.method, settings.depth, torch.arange(len(images)), one_hot(predicted, logits.shape[1]), rounds=1
    )
    raw = explain(run.model, encoded, request).maps.detach()
    return [logits, upsample(raw, (images.shape[2], images.shape[3]))]


def differences(found: Sequence[Tensor], expected: Sequence[Tensor]) -> Mapping[str, float]:
    """Output -> the largest difference over the largest magnitude of what was expected.

    Raises ValueError where outputs are missing, of another shape, or further apart than TOLERANCE, or not finite.
    """
    if [x.shape for x in found] != [x.shape for x in expected]:
        shapes = [[list(x.shape) for x in outputs] for outputs in (found, expected)]
        raise ValueError(f"the exported net returns outputs of the shapes {shapes[0]} instead of {shapes[1]}")
    result = {}
    for name, x, y in zip(("logits", "maps"), found, expected, strict=False):
        peak = float(y.abs().max())
        result[name] = float((x - y).abs().max()) / (peak if peak > 0 else 1.0)
        if not result[name] <= TOLERANCE:  # NaN neither
            raise ValueError(
                f"the {name} of the exported net differ from ours by {result[name]:.1e} of their largest magnitude, more than "
                f"{TOLERANCE:g}; nothing was written"
            )
    return result
