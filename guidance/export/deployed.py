"""The module that is exported: from pixels to logits, and to the map of the predicted class."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from guidance.assembly import build_attribution, build_classifier
from guidance.assembly.sets import encoding
from guidance.attribution import ATTRIBUTIONS, takes_one_gradient
from guidance.data.transforms.encodings import Encoding
from guidance.inference import Run
from guidance.maps import upsample
from guidance.models import Classifier


class Deployed(nn.Module):
    """`model` in evaluation mode with its pre-processing inside: images [B, 3, H, W] in [0, 1], RGB -> logits [B, K].

    `encoding`: of the net's input. `depth`: where the predicted class is explained; then the result is (logits,
    maps [B, H, W], signed), by the net's pullback, so that no autograd is needed.
    """

    def __init__(self, model: Classifier, encoding: Encoding, depth: str | None = None) -> None:
        super().__init__()
        self.model, self.encoding, self.depth = model, encoding, depth

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.encoding.encode(images)
        if self.depth is None:
            logits: Tensor = self.model(x).logits
            return logits
        out = self.model.explainable(x, self.depth, graph=False)
        seed = functional.one_hot(out.logits.argmax(1), out.logits.shape[1]).to(out.logits.dtype)
        gradient = out.pullbacks[self.depth](seed, None)
        maps = self.model.cells(out.features[self.depth] * gradient, self.depth).sum(1)
        return out.logits, upsample(maps, (images.shape[2], images.shape[3]))


def deployed(run: Run, *, maps: bool) -> Deployed:
    """What is exported of a run; `maps`: of its own attribution. ValueError, which says why, where these need autograd."""
    # A net of its own: tracing leaves nothing behind in that of the run.
    model = build_classifier(run.config, len(run.classes), pretrained=False)
    model.load_state_dict(run.model.state_dict())
    return Deployed(model, encoding(run.config), _explained_depth(run) if maps else None).eval()


def _explained_depth(run: Run) -> str:
    """The depth of the run's maps, where they can be exported."""
    settings = run.config.evaluated_attribution
    if settings.lens is not None or not takes_one_gradient(build_attribution(run.config)[0], run.model):
        single = " and ".join(name for name, row in ATTRIBUTIONS.items() if takes_one_gradient(row, run.model))
        raise ValueError(
            f"--maps: {settings.title} is more than one gradient times the features; maps of {single} can be "
            "exported. Choose one with --set evaluation.attribution.method=ixg evaluation.attribution.lens=none, or leave "
            "--maps out"
        )
    size = run.config.data.image_size
    images = torch.zeros(1, run.model.channels or 3, size, size, device=next(run.model.parameters()).device)
    if settings.depth not in run.model.explainable(images, settings.depth, graph=False).pullbacks:
        raise ValueError(
            f"--maps: {run.config.model.name} has no pullback to depth {settings.depth!r}, so that its maps need autograd, "
            "which an exported file does not have. B-cos nets, X-DNNs, ResNets and DenseNets have one; masks of AIM, ConvNeXts "
            "and vit_* do not. Leave --maps out"
        )
    return settings.depth
