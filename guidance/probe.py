"""A fixed set of images whose attribution maps are drawn after every epoch, so that their change can be watched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from guidance.attribution import attribute
from guidance.attribution.gradient import Attribution
from guidance.data import GuidanceDataset, collate, to_display
from guidance.logs import Image
from guidance.maps import merged_mask, upsample
from guidance.mask_pictures import mask_panel
from guidance.metrics import epg
from guidance.models.classifier import Classifier
from guidance.types import Batch
from guidance.visualize import panel


@dataclass(frozen=True)
class Probe:
    """Images with one class each: `batch` on the host, with M = B regions, which are empty where nothing is annotated."""

    batch: Batch
    encoding: str
    classes: tuple[str, ...]

    @staticmethod
    def choose(dataset: GuidanceDataset, count: int, *, encoding: str) -> Probe | None:
        """`count` annotated images spread evenly over the split, each with its first annotated class.

        Without any annotation images that have a class; None without any of these.
        """
        records = dataset.source.records
        annotated = [i for i, record in enumerate(records) if record.boxes]
        if not annotated:
            return Probe._without_regions(
                dataset, [i for i, record in enumerate(records) if record.classes], count, encoding
            )
        picked = [annotated[i * len(annotated) // count] for i in range(min(count, len(annotated)))] if count else []
        samples = [dataset[0, i] for i in picked]
        samples = [
            s._replace(classes=s.classes[:1], masks=s.masks[:1], segments=None)
            for s in samples if s.kept and len(s.classes)
        ]  # fmt: skip
        return Probe(collate(samples), encoding, dataset.source.classes) if samples else None

    @staticmethod
    def _without_regions(dataset: GuidanceDataset, indices: list[int], count: int, encoding: str) -> Probe | None:
        picked = [indices[i * len(indices) // count] for i in range(min(count, len(indices)))] if count else []
        samples = []
        for i in picked:
            sample = dataset[0, i]
            classes = torch.tensor(dataset.source.records[i].classes[:1])
            nothing = torch.zeros((1, *sample.image.shape[-2:]), dtype=torch.bool)
            samples += [sample._replace(classes=classes, masks=nothing, segments=None)] if sample.kept else []
        return Probe(collate(samples), encoding, dataset.source.classes) if samples else None

    def maps(self, model: Classifier, *, attribution: str | Attribution, depth: str, device: torch.device) -> Tensor:
        """Raw maps [B, H, W] of the annotated classes, upsampled to the images, on the host."""
        training = model.training
        model.eval()
        try:
            batch = self.batch.to(device)
            out = model.explainable(batch.images, depth)
            regions = batch.regions
            raw = attribute(attribution, model, out, depth, regions.image, regions.target, create_graph=False, rounds=1)
        finally:
            model.train(training)
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
        )

    def masks(self, model: Classifier, *, device: torch.device) -> dict[str, Tensor]:
        """Stage -> mask [B, 1, h, w] in {0, 1} as in evaluation, on the host; empty for a net without masks."""
        training = model.training
        model.eval()
        try:
            with torch.no_grad():
                masks = model(self.batch.images.to(device)).masks
        finally:
            model.train(training)
        return {stage: mask.cpu() for stage, mask in masks.items()}

    def mask_picture(self, masks: Mapping[str, Tensor]) -> Image:
        """Panel [h, w, 3] uint8: a row for each image, a column for each entry of `masks`, and the merged mask.

        Drawn after every epoch, it shows how the masks come about (AIM, Fig. 7).
        """
        images = to_display(self.batch.images, self.encoding)
        names = [self.classes[k] for k in self.batch.regions.target.tolist()]
        return mask_panel(images, masks, merged_mask(masks), names=names)
