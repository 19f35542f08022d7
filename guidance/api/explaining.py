"""Maps of images, in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from PIL import Image
from torch import Tensor

from guidance.api.images import Picture, Prepared, Preprocessing, prepare, way_of
from guidance.api.nets import Use, check_classes, use_of_net
from guidance.api.runs import encoding_of_run, use_of_run
from guidance.attribution import Method, explain_classes, with_lens
from guidance.data.transforms.encodings import Encoding
from guidance.inference import Run
from guidance.maps import upsample
from guidance.models.classifier import Classifier
from guidance.pictures.overlays import colour_scale, overlay
from guidance.types import lookup

Target: TypeAlias = int | str | Sequence[int | str] | Tensor | None


@dataclass(frozen=True, eq=False)
class ExplainedImages:
    """Images with the maps of some of their classes, on the CPU.

    Of a batch of B images and of C targets each, tensors begin with [B, C]; B is left out where one image was explained, C
    where one target was asked for.
    """

    maps: Tensor  # [B, C, H, W], signed, bilinearly upsampled to the input
    raw: Tensor  # [B, C, h, w], signed, as they are at the depth
    logits: Tensor  # [B, K]
    probabilities: Tensor  # [B, K]: softmax; of a run with `objective.classification: bce`, sigmoid
    targets: Tensor  # [B, C] long: the classes that are explained
    names: tuple[tuple[str, ...], ...]  # of these classes: for each image, of each target
    shown: Tensor | None  # [B, 3, H, W] in [0, 1], always with B: what the net sees

    def overlay(self, image: int = 0, target: int = 0) -> Image.Image:
        """The map of a target of an image, by their positions, over the greyed image: orange for the class, blue against it.

        The maps of an image have one scale. Raises ValueError where inputs are no pictures (of other than 3 or 6 channels).
        """
        if self.shown is None:
            raise ValueError(
                "an input that has neither 3 nor 6 channels is no picture; draw `maps` over one of your own"
            )
        maps = self.maps.reshape(len(self.names), -1, *self.maps.shape[-2:])[image]
        return Image.fromarray(overlay(self.shown[image], maps[target], scale=colour_scale([maps])))


def explain(
    model: Classifier | Run,
    images: Picture | Sequence[Picture],
    target: Target = None,
    *,
    attribution: str | Method | None = None,
    depth: str | None = None,
    against: Sequence[int | str] = (),
    classes: Sequence[str] | None = None,
    preprocess: Preprocessing | Callable[[Image.Image], Tensor] | None = None,
) -> ExplainedImages:
    """Where the evidence for a class lies in an image, or in each of a batch: signed maps, by one forward pass.

    `images`: a path, Pillow image, array ([H, W, 3], uint8 or float in [0, 1]) or uint8 tensor, which `preprocess` makes an
    input (a `Preprocessing`, or a callable from a Pillow image to a tensor, such as `weights.transforms()` of torchvision; a
    run has its own), or a float tensor [C, H, W] or [B, C, H, W], which is one already; or a list of these. `target`: the
    index or name of a class, several of them for each image, a tensor [B] of one index for each image, or None for the
    predicted class. `classes`: names of the outputs. `attribution` and `depth`: a name in ATTRIBUTIONS or a `Method`, and one
    of `model.depths`; by default those of a run, or IxG, and each method at its own depth. `against`: classes that compete
    with the target by Attribution Lens: a run's own, or with the published settings.

    The net is left as it was. `guidance.attribution.explain` is the function below, for requests of any kind. Raises
    ValueError for what does not fit.
    """
    use, way, displayed = _used_with(model, attribution, depth, classes, preprocess)
    given = prepare(images, way, device=next(use.model.parameters()).device, displayed=displayed)
    method, rivals = _against(use, [_index(use.classes, rival) for rival in against])
    choose = partial(_chosen, target, use.classes, len(given.images))
    maps, out = explain_classes(use.model, given.images, choose, method=method, depth=use.depth, against=rivals)
    logits = out.logits.detach()
    return _packed(maps.detach().cpu(), logits.cpu(), choose(logits).cpu(), given, use, several=_several(target))


def _used_with(
    model: Classifier | Run,
    attribution: str | Method | None,
    depth: str | None,
    classes: Sequence[str] | None,
    preprocess: Preprocessing | Callable[[Image.Image], Tensor] | None,
) -> tuple[Use, Encoding, bool]:
    """What a net is used with, how images become inputs, and whether files are turned by their EXIF orientation."""
    if not isinstance(model, Run):
        return use_of_net(model, attribution, depth, classes), way_of(preprocess), True
    use = use_of_run(model, attribution, depth)
    way, displayed = encoding_of_run(model) if preprocess is None else (way_of(preprocess), True)
    return use if classes is None else use._replace(classes=tuple(classes)), way, displayed


def _packed(
    raw: Tensor, logits: Tensor, targets: Tensor, given: Prepared, use: Use, *, several: bool
) -> ExplainedImages:
    """Maps [B * C, h, w] with what they explain, in the shapes of what was asked."""
    names = check_classes(use.classes, logits.shape[1])
    row = 0 if given.single else slice(None)
    column = slice(None) if several else 0

    def shaped(maps: Tensor) -> Tensor:
        return maps.view(*targets.shape, *maps.shape[1:])[row][..., column, :, :]

    return ExplainedImages(
        maps=shaped(upsample(raw, (given.images.shape[2], given.images.shape[3]))),
        raw=shaped(raw),
        logits=logits[row],
        probabilities=(logits.softmax(1) if use.exclusive else logits.sigmoid())[row],
        targets=targets[row][..., column],
        names=tuple(tuple(names[k] for k in found) for found in targets.tolist()),
        shown=given.shown,
    )


def _several(target: Target) -> bool:
    return isinstance(target, Sequence) and not isinstance(target, str)


def _against(use: Use, rivals: list[int]) -> tuple[Method, Tensor | None]:
    """The method in which the rivals compete, and, where it lets classes compete by itself, the rivals for the request."""
    if not rivals or use.lens:
        return use.method, torch.tensor(rivals, device=next(use.model.parameters()).device) if rivals else None
    return with_lens(use.method, classes=rivals), None


def _chosen(target: Target, names: Sequence[str] | None, images: int, logits: Tensor) -> Tensor:
    """The classes to be explained [B, C]."""
    if target is None:
        return logits.argmax(1, keepdim=True)
    if isinstance(target, Tensor):
        found = target.to(logits.device).long().reshape(-1, 1)
        if len(found) != images:
            raise ValueError(
                f"a tensor of targets has one class for each image [B]; got {list(target.shape)} for {images}"
            )
    else:
        several = [target] if isinstance(target, int | str) else list(target)
        indices = [_index(names, one) for one in several]
        found = torch.tensor(indices, dtype=torch.long, device=logits.device).expand(images, -1)
    unknown = found[(found < 0) | (found >= logits.shape[1])].tolist()
    if unknown or not found.shape[1]:
        given = f"the class {unknown[0]}" if unknown else "no class"
        raise ValueError(f"target names {given}, but the net has the classes 0 to {logits.shape[1] - 1}")
    return found


def _index(names: Sequence[str] | None, target: int | str) -> int:
    if not isinstance(target, str):
        return int(target)
    if names is None:
        raise ValueError(f"the class {target!r} is not known by its name: give the names of all outputs as classes")
    return lookup({name: index for index, name in enumerate(names)}, target, "class")
