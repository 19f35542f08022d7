"""One split as samples: decoded, transformed, with the regions of each image. The key seeds what is random."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors

from guidance.data.annotation import Annotation, Pairs, RegionOptions, annotate, check_regime, resolve, unannotated
from guidance.data.reading.decode import UnreadableError, read_image
from guidance.data.source import Source, check_on_error
from guidance.data.transforms.crops import crop_annotation
from guidance.data.transforms.views import Segments, Transform, View, to_frame


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
    clipped: int = 0  # boxes that stuck out of the image
    kept: bool = True  # False: the image is unreadable and an evaluation batch leaves it out
    kinds: Tensor | None = None  # [m] long; see `Regions.kind`
    never: Tensor | None = None  # [m, H, W] bool; None where no image of the split has any

    def choose(self, rows: Tensor | slice) -> Sample:
        """The same image with some of its regions."""
        segments, kinds, never = (None if x is None else x[rows] for x in (self.segments, self.kinds, self.never))
        return self._replace(
            classes=self.classes[rows], masks=self.masks[rows], segments=segments, kinds=kinds, never=never
        )


def _one(sample: Sample, seed: int) -> Sample:
    if len(sample.classes) < 2:
        return sample
    return sample.choose(torch.randint(len(sample.classes), (1,), generator=torch.Generator().manual_seed(seed)))


# Which of the regions of an image are used, by `RegionOptions.classes_per_image`.
CHOICES: Mapping[str, Callable[[Sample, int], Sample]] = {"one": _one, "all": lambda sample, seed: sample}


class GuidanceDataset(Dataset[Sample]):
    """The samples of `source`; a key is (epoch, index).

    Augmentation and class draw are seeded by (seed, epoch, index), each with a generator of its own: they depend
    neither on processes and workers nor on each other, and the global random state is left alone.

    `training`: an unreadable image is replaced by the next readable one, so that batches keep their size; otherwise it
    is left out. Both only with `on_error` "skip"; with "raise" it is an `UnreadableError` (a ValueError). `regions`: which
    regions samples have. `annotated`: the indices whose regions may be used; None means all of them. `read`: gives the
    [3, h, w] uint8 image of an index and the (height, width) of its file, as `ImageCache.read`, which is the
    square `Source.crop` of it; None decodes files.
    """

    def __init__(
        self,
        source: Source,
        transform: Transform,
        *,
        training: bool,
        seed: int = 0,
        regions: RegionOptions | None = None,
        annotated: Iterable[int] | None = None,
        on_error: str = "raise",
        read: Callable[[int], tuple[Tensor, tuple[int, int]]] | None = None,
    ) -> None:
        check_on_error(on_error)
        regions = regions or RegionOptions()
        self.read = read or self._decode
        self.cropped = read is not None and source.crop != "none"
        if regions.classes_per_image not in CHOICES:
            raise ValueError(
                f"classes_per_image is {' or '.join(map(repr, CHOICES))}; got {regions.classes_per_image!r}"
            )
        if regions.load_segments and source.read_segments is None:
            raise ValueError(f"dataset {source.name!r} has no segmentations; set load_segments to false")
        check_regime(regions.region, source)
        self.source, self.transform, self.training, self.seed = source, transform, training, seed
        self.regions, self.on_error = regions, on_error
        self.load_never = any(record.never_boxes for record in source.records)
        self.annotated = None if annotated is None else frozenset(annotated)
        outside = [i for i in self.annotated or () if not 0 <= i < len(source.records)]
        if outside:
            raise ValueError(
                f"annotated index {outside[0]} is not in the split, which has {len(source.records)} images"
            )

    def with_regions(self, regions: RegionOptions) -> GuidanceDataset:
        """The same images with other regions."""
        check_regime(regions.region, self.source)
        other = copy.copy(self)
        other.regions = regions
        return other

    def with_transform(self, transform: Transform) -> GuidanceDataset:
        """The same images, transformed otherwise."""
        other = copy.copy(self)
        other.transform = transform
        return other

    def __len__(self) -> int:
        return len(self.source.records)

    def __getitems__(self, keys: list[tuple[int, int]]) -> list[Sample] | ValueError:
        """The samples of a batch, for the loader; what is wrong with one is returned as an error (see `Loader`)."""
        try:
            return [self[key] for key in keys]
        except ValueError as error:
            return error

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        for tried in range(len(self)):
            position = (index + tried) % len(self)
            try:
                image, size = self.read(position)
            except UnreadableError:
                if self.on_error == "raise":
                    raise
                if not self.training:
                    return self._left_out(index)
                continue
            sample = self._sample(image, size, epoch, position)
            return sample._replace(skipped=sample.skipped + tried)
        raise UnreadableError(f"no image of {self.source.name} {self.source.split} can be read; check data.root")

    def _decode(self, index: int) -> tuple[Tensor, tuple[int, int]]:
        image = read_image(self.source.records[index].path, displayed=self.source.displayed)
        return image, (image.shape[1], image.shape[2])

    def _sample(self, image: Tensor, size: tuple[int, int], epoch: int, index: int) -> Sample:
        record = self.source.records[index]
        if self.annotated is not None and index not in self.annotated:
            annotation = unannotated(*size)
        else:
            annotation = annotate(self.source, record, *size, self.regions, on_error=self.on_error)
        draw_seed, transform_seed = np.random.SeedSequence((self.seed, epoch, index)).generate_state(2).tolist()
        view = self._transformed(image, annotation, size, transform_seed)
        pairs = resolve(view, annotation, invert=self.source.complement, never_alone=self.regions.never_alone)
        sample = self._join(view["image"], record.classes, pairs, record.group, index)._replace(
            skipped=annotation.skipped, dropped=pairs.dropped, clipped=annotation.clipped
        )
        return CHOICES[self.regions.classes_per_image](sample, draw_seed)

    def _join(self, image: Tensor, labels: tuple[int, ...], pairs: Pairs, group: int, index: int) -> Sample:
        segments = pairs.segments if self.regions.load_segments else None
        never = pairs.never if self.load_never else None
        targets = self._targets(labels)
        return Sample(
            image, targets, pairs.classes, pairs.masks, segments, group, index, kinds=pairs.kinds, never=never
        )

    def _targets(self, classes: tuple[int, ...]) -> Tensor:
        targets = np.zeros(len(self.source.classes), np.float32)  # its indices take a tenth of the time of a tensor's
        targets[list(classes)] = 1
        return torch.from_numpy(targets)

    def _transformed(self, image: Tensor, annotation: Annotation, size: tuple[int, int], seed: int) -> View:
        """The transformed view of an image; its annotation is in the frame of its file, (height, width) `size`.

        All but segmentations that come from a cache, which are squares as the image is.
        """
        view: View = {
            "image": tv_tensors.Image(image),
            "boxes": tv_tensors.BoundingBoxes(annotation.boxes, format="XYXY", canvas_size=size),
        }
        segments = {"segments": Segments(annotation.segments)} if len(annotation.segments) else {}
        if self.regions.cached is None:
            view |= segments
        if self.cropped:
            view = crop_annotation(view, image.shape[-1], self.source.crop, self.source.resizing)
        elif image.shape[-2:] != size:
            view = to_frame(view, image.shape[-2], image.shape[-1])
        view |= segments if self.regions.cached is not None else {}
        # Not torch.manual_seed: it also reseeds the GPUs, and fork_rng without devices would not restore them.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self.transform(view)

    def _left_out(self, index: int) -> Sample:
        """A placeholder of the right shapes, which `collate` counts and removes."""
        nothing = unannotated(8, 8)
        view = self._transformed(torch.zeros((3, 8, 8), dtype=torch.uint8), nothing, (8, 8), seed=0)
        sample = self._join(view["image"], (), resolve(view, nothing), -1, index)
        return sample._replace(skipped=1, kept=False)
