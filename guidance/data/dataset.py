"""One split as samples: decoded, transformed, with the regions of each image. The key seeds what is random."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from guidance.data.decode import UnreadableError, check_boxes, read_image
from guidance.data.source import Record, Source, check_on_error
from guidance.data.transforms import Transform, View
from guidance.regions import boxes_to_mask, complement, dilate_boxes, union_by_class


class Sample(NamedTuple):
    """One image with its regions, m of them; `collate` joins samples to a `guidance.types.Batch`."""

    image: Tensor  # [C, H, W] float
    targets: Tensor  # [K] float in {0, 1}
    classes: Tensor  # [m] long: class of each region, ascending
    masks: Tensor  # [m, H, W] bool
    segments: Tensor | None  # [m, H, W] bool; None where not loaded
    group: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody calls; see `Batch.index`
    skipped: int = 0  # unreadable images that this one replaces, and its own faulty boxes and segmentations
    dropped: int = 0  # annotated classes whose region the transform removed
    kept: bool = True  # False: the image is unreadable and an evaluation batch leaves it out


class _Annotation(NamedTuple):
    """What is known about the regions of one image, in the frame of its file."""

    boxes: Tensor  # [n, 4] float32
    box_classes: Tensor  # [n] long
    segments: Tensor | None  # [k, H, W] uint8: one per distinct box class, ascending
    skipped: int


class GuidanceDataset(Dataset[Sample]):
    """The samples of `source`; a key is (epoch, index).

    Augmentation and class draw are seeded by (seed, epoch, index), each with a generator of its own: they depend
    neither on processes and workers nor on each other, and the global random state is left alone.

    `training`: an unreadable image is replaced by the next readable one, so that batches keep their size; otherwise it
    is left out. Both only with `on_error` "skip"; with "raise" it is an `UnreadableError` (a ValueError).
    `classes_per_image`: "one" (drawn uniformly among the annotated classes that still have a region after the
    transform) or "all". `annotated`: the indices whose regions may be used; None means all of them. `dilation`: see
    `dilate_boxes`; boxes are dilated in the frame of the file, so a crop moves them like any other box.
    """

    def __init__(
        self,
        source: Source,
        transform: Transform,
        *,
        training: bool,
        seed: int = 0,
        classes_per_image: str = "all",
        annotated: Iterable[int] | None = None,
        dilation: float = 0.0,
        load_segments: bool = False,
        on_error: str = "raise",
    ) -> None:
        check_on_error(on_error)
        if classes_per_image not in ("one", "all"):
            raise ValueError(f"classes_per_image is 'one' or 'all'; got {classes_per_image!r}")
        if load_segments and source.read_segments is None:
            raise ValueError(f"dataset {source.name!r} has no segmentations; set load_segments to false")
        if not dilation >= 0:
            raise ValueError(f"dilation is a fraction of the box side and must be at least 0; got {dilation}")
        self.source, self.transform, self.training, self.seed = source, transform, training, seed
        self.classes_per_image, self.dilation, self.on_error = classes_per_image, dilation, on_error
        self.load_segments = load_segments
        self.annotated = None if annotated is None else frozenset(annotated)
        outside = [i for i in self.annotated or () if not 0 <= i < len(source.records)]
        if outside:
            raise ValueError(
                f"annotated index {outside[0]} is not in the split, which has {len(source.records)} images"
            )

    def __len__(self) -> int:
        return len(self.source.records)

    def __getitems__(self, keys: list[tuple[int, int]]) -> list[Sample] | ValueError:
        """The samples of a batch, for the loader; what is wrong with one is returned as an error (see `loading.read`)."""
        try:
            return [self[key] for key in keys]
        except ValueError as error:
            return error

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        for tried in range(len(self)):
            position = (index + tried) % len(self)
            try:
                image = read_image(self.source.records[position].path)
            except UnreadableError:
                if self.on_error == "raise":
                    raise
                if not self.training:
                    return self._left_out(index)
                continue
            sample = self._sample(image, epoch, position)
            return sample._replace(skipped=sample.skipped + tried)
        raise UnreadableError(f"no image of {self.source.name} {self.source.split} can be read; check data.root")

    def _sample(self, image: Tensor, epoch: int, index: int) -> Sample:
        record = self.source.records[index]
        if self.annotated is not None and index not in self.annotated:
            record = record._replace(boxes=(), box_classes=())
        annotation = self._annotation(record, *image.shape[-2:])
        draw_seed, transform_seed = np.random.SeedSequence((self.seed, epoch, index)).generate_state(2).tolist()
        view = self._transformed(image, annotation, transform_seed)
        classes, masks, segments, dropped = self._regions(view, annotation.box_classes)
        if self.classes_per_image == "one" and len(classes) > 1:
            chosen = torch.randint(len(classes), (1,), generator=torch.Generator().manual_seed(draw_seed))
            classes, masks = classes[chosen], masks[chosen]
            segments = None if segments is None else segments[chosen]
        targets, skipped = self._targets(record.classes), annotation.skipped
        return Sample(view["image"], targets, classes, masks, segments, record.group, index, skipped, dropped)

    def _targets(self, classes: tuple[int, ...]) -> Tensor:
        targets = torch.zeros(len(self.source.classes))
        targets[list(classes)] = 1
        return targets

    def _annotation(self, record: Record, height: int, width: int) -> _Annotation:
        boxes, classes, skipped = check_boxes(record, height, width, self.on_error)
        if self.dilation > 0:
            boxes = dilate_boxes(boxes, self.dilation, height, width)
        present = sorted(set(classes.tolist()))
        if not self.load_segments or not present:
            return _Annotation(boxes, classes, None, skipped)
        segments = torch.zeros((len(present), height, width), dtype=torch.uint8)
        try:
            self._read_segments(record, present, segments)
        except UnreadableError:
            if self.on_error == "raise":
                raise
            skipped += 1
        return _Annotation(boxes, classes, segments, skipped)

    def _read_segments(self, record: Record, classes: list[int], out: Tensor) -> None:
        assert self.source.read_segments is not None
        found = self.source.read_segments(record)
        for row, index in enumerate(classes):
            if index not in found:
                continue
            if found[index].shape != out.shape[1:]:
                raise UnreadableError(
                    f"segmentation {record.segmentation} is {tuple(found[index].shape)} (height, width), but its image "
                    f"{record.path} is {tuple(out.shape[1:])}; both must have the same size"
                )
            out[row] = found[index]

    def _transformed(self, image: Tensor, annotation: _Annotation, seed: int) -> View:
        view: View = {
            "image": tv_tensors.Image(image),
            "boxes": tv_tensors.BoundingBoxes(annotation.boxes, format="XYXY", canvas_size=tuple(image.shape[-2:])),
        }
        if annotation.segments is not None:
            view["segments"] = tv_tensors.Mask(annotation.segments)
        # Not torch.manual_seed: it also reseeds the GPUs, and fork_rng without devices would not restore them.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self.transform(view)

    def _regions(self, view: View, box_classes: Tensor) -> tuple[Tensor, Tensor, Tensor | None, int]:
        """Classes, masks and segments of the regions that are left, and the number of classes without one."""
        height, width = view["image"].shape[-2:]
        boxes = boxes_to_mask(view["boxes"].as_subclass(Tensor), height, width)
        classes, masks = union_by_class(boxes, box_classes)
        segments = view["segments"].as_subclass(Tensor) > 0 if "segments" in view else None
        if self.load_segments and segments is None:
            segments = torch.zeros_like(masks)
        if self.source.complement:
            masks = complement(masks)
        left = masks.flatten(1).any(1)
        dropped = int((~left).sum())
        return classes[left], masks[left], None if segments is None else segments[left], dropped

    def _left_out(self, index: int) -> Sample:
        """A placeholder of the right shapes, which `collate` counts and removes."""
        nothing = _Annotation(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), None, 0)
        view = self._transformed(torch.zeros((3, 8, 8), dtype=torch.uint8), nothing, seed=0)
        classes, masks, segments, _ = self._regions(view, nothing.box_classes)
        return Sample(view["image"], self._targets(()), classes, masks, segments, -1, index, skipped=1, kept=False)
