"""A fixed set of images whose attribution maps are drawn after every epoch, so that their change can be watched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from guidance.attribution import Method, Request, explain, needed_classes, one_hot
from guidance.data import GuidanceDataset, Sample, collate, to_display
from guidance.data.annotation import is_annotated
from guidance.data.transforms.encodings import Encoding
from guidance.evaluation.scores import epg
from guidance.maps import merged_mask, upsample
from guidance.models.classifier import Classifier, evaluation_mode
from guidance.pictures.masks import mask_panel
from guidance.pictures.panels import panel
from guidance.runs.logs import Image
from guidance.types import Batch


def _with_empty_mask(sample: Sample) -> Sample:
    """`sample` with its first class, of which nothing is known but that it is there."""
    label = sample.targets.nonzero()[0]
    nothing = torch.zeros((1, *sample.image.shape[-2:]), dtype=torch.bool)
    return sample._replace(classes=label, masks=nothing, segments=None, kinds=None, never=None)


def _seen(trained: GuidanceDataset, sample: Sample) -> Tensor:
    """The region [H, W] of the class of `sample`, in the frame of its image, as training has it; empty where it has none."""
    own = trained[0, sample.index]
    return own.masks[own.classes == sample.classes[0]].any(0)


def spread(dataset: GuidanceDataset, count: int, *, group: int | None = None) -> list[int]:
    """Positions of up to `count` annotated images, spread evenly over the split, or one of its groups, sorted by class.

    Where nothing is annotated, of images that have a class.
    """
    records = dataset.source.records
    among = [i for i, record in enumerate(records) if group is None or record.group == group]
    indices = [i for i in among if is_annotated(records[i], dataset.regions.region)]
    indices = indices or [i for i in among if records[i].classes]
    indices.sort(key=lambda i: records[i].classes)  # stable: within a class in the order of the split
    return [indices[i * len(indices) // count] for i in range(min(count, len(indices)))] if count else []


@dataclass(frozen=True)
class Probe:
    """Images with one class each: `batch` on the host, with M = B regions, which are empty where nothing is annotated."""

    batch: Batch
    encoding: str | Encoding
    classes: tuple[str, ...]
    trained: Tensor | None = None  # [B, H, W] bool: the regions as training has them, such as dilated boxes

    @staticmethod
    def choose(
        dataset: GuidanceDataset, count: int, *, encoding: str | Encoding, trained: GuidanceDataset | None = None
    ) -> Probe | None:
        """`count` annotated images spread evenly over the split sorted by class, each with its first annotated class.

        Where nothing is annotated, images with their first class and an empty mask; None without any of these. `trained`: the
        same split with the regions that training has, which are drawn, too.
        """
        return Probe.of(dataset, spread(dataset, count), encoding=encoding, trained=trained)

    @staticmethod
    def of(
        dataset: GuidanceDataset,
        indices: Sequence[int],
        *,
        encoding: str | Encoding,
        trained: GuidanceDataset | None = None,
    ) -> Probe | None:
        """The images at these positions of the split, as `choose` has them; None if none can be read."""
        annotated = any(is_annotated(dataset.source.records[i], dataset.regions.region) for i in indices)
        samples = [dataset[0, i] for i in indices]
        if annotated:
            samples = [s.choose(slice(1)) for s in samples if s.kept and len(s.classes)]
        else:
            samples = [_with_empty_mask(s) for s in samples if s.kept]
        if not samples:
            return None
        seen = None if trained is None or not annotated else torch.stack([_seen(trained, s) for s in samples])
        return Probe(collate(samples), encoding, dataset.source.classes, seen)

    def maps(self, model: Classifier, *, attribution: str | Method, depth: str, device: torch.device) -> Tensor:
        """Raw maps [B, H, W] of the annotated classes, upsampled to the images, on the host."""
        batch = self.batch.to(device)
        regions = batch.regions
        classes = needed_classes(attribution, batch.targets, regions.image, regions.target)
        request = Request(
            attribution, depth, regions.image, one_hot(regions.target, len(self.classes)), classes, rounds=1
        )
        raw = explain(model, batch.images, request).maps
        return upsample(raw.detach(), (batch.images.shape[2], batch.images.shape[3])).cpu()

    def picture(self, maps: dict[str, Tensor]) -> Image:
        """Panel [h, w, 3] uint8: a row for each image, a column for each entry of `maps` (title -> [B, H, W])."""
        regions = self.batch.regions
        annotated = bool(regions.mask.any())
        scores = {title: epg(m, regions.mask).tolist() for title, m in maps.items() if annotated}
        return panel(
            to_display(self.batch.images, self.encoding),
            maps,
            regions.mask,
            names=[self.classes[k] for k in regions.target.tolist()],
            captions={title: [f"EPG {s:.2f}" for s in values] for title, values in scores.items()},
            # Logits of two nets differ in size; the question is where the evidence lies.
            shared_scale=False,
            trained=self.trained,
        )

    def masks(self, model: Classifier, *, device: torch.device) -> dict[str, Tensor]:
        """Stage -> mask [B, 1, h, w] in {0, 1} as in evaluation, on the host; empty for a net without masks."""
        with evaluation_mode(model), torch.no_grad():
            masks = model(self.batch.images.to(device)).masks
        return {stage: mask.cpu() for stage, mask in masks.items()}

    def mask_picture(self, masks: Mapping[str, Tensor]) -> Image:
        """Panel [h, w, 3] uint8: a row for each image, a column for each entry of `masks`, and the merged mask.

        Drawn after every epoch, it shows how the masks come about (AIM, Fig. 7).
        """
        images = to_display(self.batch.images, self.encoding)
        names = [self.classes[k] for k in self.batch.regions.target.tolist()]
        return mask_panel(images, masks, merged_mask(masks), names=names)
