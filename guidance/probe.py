"""A fixed set of images whose attribution maps are drawn after every epoch, so that their change can be watched."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from guidance.attribution import attribute
from guidance.attribution.gradient import Attribution
from guidance.data import GuidanceDataset, collate, to_display
from guidance.logs import Image
from guidance.maps import upsample
from guidance.metrics import epg
from guidance.models.classifier import Classifier
from guidance.types import Batch
from guidance.visualize import panel


@dataclass(frozen=True)
class Probe:
    """Images with one annotated class each: `batch` on the host, with M = B regions."""

    batch: Batch
    encoding: str
    classes: tuple[str, ...]

    @staticmethod
    def choose(dataset: GuidanceDataset, count: int, *, encoding: str) -> Probe | None:
        """`count` annotated images spread evenly over the split, each with its first annotated class; None without any."""
        annotated = [i for i, record in enumerate(dataset.source.records) if record.boxes]
        picked = [annotated[i * len(annotated) // count] for i in range(min(count, len(annotated)))] if count else []
        samples = [dataset[0, i] for i in picked]
        samples = [
            s._replace(classes=s.classes[:1], masks=s.masks[:1], segments=None)
            for s in samples if s.kept and len(s.classes)
        ]  # fmt: skip
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
        scores = {title: epg(m, regions.mask).tolist() for title, m in maps.items()}
        return panel(
            to_display(self.batch.images, self.encoding),
            maps,
            regions.mask,
            names=[self.classes[k] for k in regions.target.tolist()],
            captions={title: [f"EPG {s:.2f}" for s in values] for title, values in scores.items()},
            # Logits of two nets differ in size; the question is where the evidence lies.
            shared_scale=False,
        )
