"""What flows through the pipeline. Shapes and units are documented here, once.

Letters: B images in a batch, K classes, C channels, H x W pixels of the network input, h x w cells of a feature map,
M annotated (image, class) pairs.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Regions(NamedTuple):
    """The annotated (image, class) pairs of a batch, M of them."""

    image: Tensor  # [M] long: row of the batch
    target: Tensor  # [M] long: class index
    mask: Tensor  # [M, H, W] bool: where evidence for the class may lie (union of boxes, or a segmentation; see `kind`)
    segment: (
        Tensor | None
    )  # [M, H, W] bool: the class's segmentation; all False for a pair without; None where not loaded
    rounds: int  # most pairs on one image: this many backward passes explain all of them (an int: no device sync)
    kind: Tensor | None = None  # [M] long: guidance.regions.BOX, SEGMENT or NEVER; None where all are boxes
    never: Tensor | None = None  # [M, H, W] bool: where evidence must not lie; None where no image of the split has any

    def to(self, device: torch.device | str) -> Regions:
        return self._map(lambda x: x.to(device, non_blocking=True))

    def select(self, rows: Tensor) -> Regions:
        """The pairs `rows` [m]; `image` and `rounds` as they are."""
        return self._map(lambda x: x[rows])

    def _map(self, change: Callable[[Tensor], Tensor]) -> Regions:
        image, target, mask = (change(x) for x in self[:3])
        segment, kind, never = (None if x is None else change(x) for x in (self.segment, self.kind, self.never))
        return Regions(image, target, mask, segment, self.rounds, kind, never)


COUNTED = ("skipped", "dropped", "clipped")  # what a batch counts


class Batch(NamedTuple):
    """A batch of samples; everything that an objective or a metric may ask for."""

    images: Tensor  # [B, C, H, W] float; C = 3 normalised, or 6 = (x, 1 - x) for B-cos (but see `encode`)
    targets: Tensor  # [B, K] float in {0, 1}: multi-hot, also for single-label data
    regions: Regions  # training: at most one per image, drawn at random, or all; evaluation: every positive class
    groups: Tensor  # [B] long, -1 where the dataset has none
    index: Tensor  # type: ignore[assignment]  # [B] long: position in the dataset (identity of the sample)
    skipped: int = 0  # unreadable samples that `data.on_error: skip` left out or replaced
    dropped: int = 0  # annotated pairs left without a region: by a crop, or a never region that the loss cannot use
    clipped: int = 0  # boxes that stuck out of their images
    encode: Callable[[Tensor], Tensor] | None = (
        None  # where `images` are still pixels [B, 3, H, W], what makes them that
    )

    def to(self, device: torch.device | str) -> Batch:
        """The batch on `device`, with images as the net takes them: pixels are copied, and encoded there."""
        images, targets, groups, index = (
            x.to(device, non_blocking=True) for x in (self.images, self.targets, self.groups, self.index)
        )
        return self._replace(
            images=images if self.encode is None else self.encode(images),
            targets=targets, regions=self.regions.to(device), groups=groups, index=index, encode=None,
        )  # fmt: skip

    def chunk(self, chunks: int) -> list[Batch]:
        """Split into `chunks` batches along B (sizes as `torch.chunk`), each with its own regions.

        Call it before `.to(device)`: picking the regions of a chunk needs their image rows on the host.
        """
        if chunks == 1:
            return [self]
        parts, start = [], 0
        for images in self.images.chunk(chunks):
            stop = start + len(images)
            rows = ((self.regions.image >= start) & (self.regions.image < stop)).nonzero().flatten()
            regions = self.regions.select(rows)
            regions = regions._replace(image=regions.image - start)
            counted = self if start == 0 else self._replace(skipped=0, dropped=0, clipped=0)  # once
            parts.append(
                counted._replace(
                    images=images, targets=self.targets[start:stop], regions=regions, groups=self.groups[start:stop],
                    index=self.index[start:stop],
                )
            )  # fmt: skip
            start = stop
        return parts


class Forward(NamedTuple):
    """What a classifier returns."""

    logits: Tensor  # [B, K]
    # depth -> the state there, in the graph, mostly [B, C, h, w] (see guidance.models.classifier.Depth); "input" is the image
    features: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]  # stage -> [B, 1, h, w] in {0, 1}; empty unless the net masks its features
    # depth -> (gradient by the logits [R, K], rows of the batch: [R], a slice, or None for all) -> gradient by the features at
    # that depth [R, C, h, w], without a backward pass; only where the net offers it (guidance.models.pullback.rules)
    pullbacks: Mapping[str, Callable[[Tensor, Tensor | slice | None], Tensor]] = MappingProxyType({})
    mask_logits: Mapping[str, Tensor] = MappingProxyType({})  # stage -> [B, 1, h, w] float: what its mask was made from
    stage_logits: Mapping[str, Tensor] = MappingProxyType({})  # stage -> [B, K]: of its own, auxiliary classifier
    inside: Mapping[str, Tensor] = MappingProxyType({})  # layer that the net watches -> its output, in the graph


class Step(NamedTuple):
    """What an objective returns."""

    loss: Tensor  # scalar to backpropagate; the mean over processes is the loss of the global batch
    terms: Mapping[
        str, Tensor
    ]  # detached scalars for the log, unweighted; their mean over processes is the global value
    samples: Mapping[
        str, tuple[Tensor, Tensor]
    ]  # term -> (index [n] of samples, their detached losses [n]), for errors
    logits: Tensor  # [B, K], detached


def lookup(table: Mapping[str, T], name: str, what: str) -> T:
    """`table[name]`; a miss is a ValueError that lists the keys and the closest match."""
    if name in table:
        return table[name]
    raise ValueError(f"unknown {what} {name!r}; known: {', '.join(sorted(table))}.{suggestion(name, table)}")


def suggestion(name: str, known: Iterable[str]) -> str:
    """ " Did you mean ...?" with the closest of the names that are known; empty where none is close."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def check_options(given: Iterable[str], known: Collection[str], what: str) -> None:
    """Raise ValueError for the first of the options `given` that `what` does not have; it lists those that are known."""
    for name in given:
        if name not in known:
            listed = ", ".join(known) or "none"
            raise ValueError(f"{what} has no option {name!r}; it takes {listed}.{suggestion(name, known)}")
