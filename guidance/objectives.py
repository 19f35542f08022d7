"""What DistributedDataParallel wraps: a model together with its loss, from a batch to one scalar.

To add a training mode, write an `Objective`, and a function that builds it in OBJECTIVES of guidance/assembly/parts.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from guidance import distributed
from guidance.attribution import attribute, check_explainable, needs_gradient
from guidance.attribution.gradient import Attribution
from guidance.maps import positive_energy
from guidance.models.aim import MaskedClassifier
from guidance.models.classifier import Classifier
from guidance.models.noise import sample_keys
from guidance.types import Batch, Forward, Step

COLLAPSED = 0.02  # share of active cells from which down a mask is said to collapse


class Counts(NamedTuple):
    """Sizes of the global batch: over all processes and all accumulated chunks. Host numbers, known before the forward."""

    images: float
    regions: float
    rounds: int  # most pairs on one image of any process: every process runs as many backward passes


class Objective(nn.Module):
    """Interface of a training mode; `model` is what evaluation and checkpoints see."""

    model: Classifier

    def begin_epoch(self, epoch: int) -> None:
        """What the trainer says before each epoch, or the rest of one; epochs count from 0."""

    def advise(self, values: Mapping[str, float]) -> list[str]:
        """What a user should know of an epoch, from its logged values ("train/..." and "val/..."); for each thing once."""
        return []

    def counts(self, batch: Batch) -> Counts:
        """Global sizes of a batch that lies on the host. Every process must call it once per step."""
        images, regions = distributed.sum_numbers([len(batch.images), len(batch.regions.image)])
        (rounds,) = distributed.max_numbers([batch.regions.rounds])
        return Counts(images, regions, int(rounds))

    def forward(self, batch: Batch, counts: Counts) -> Step:
        raise NotImplementedError


def classification_loss(
    logits: Tensor,
    targets: Tensor,
    *,
    kind: str,
    weights: Tensor | None,
    weighting: str,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Loss per image [B].

    `kind` "bce": binary cross entropy on every logit, mean over the K classes (model guidance, Sec. 3.1);
    "cross_entropy": softmax cross entropy, for targets [B, K] with one positive class.
    `weights` [K] with `weighting` "sample": the loss of an image is multiplied by the weight of its class (mean over its
    positive classes, 1 for an image without any); "class": the term of each output is multiplied by that output's weight.
    `label_smoothing` e (cross entropy only): targets become (1 - e) t + e / K (Szegedy et al. 2016, Sec. 7).
    """
    hard = targets
    if kind == "cross_entropy":
        if label_smoothing:
            targets = (1 - label_smoothing) * targets + label_smoothing / targets.shape[1]
        per_class = -targets * functional.log_softmax(logits, dim=1)
        if weights is not None and weighting == "class":
            per_class = per_class * weights
        loss = per_class.sum(1)
    else:
        per_class = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        if weights is not None and weighting == "class":
            per_class = per_class * weights
        loss = per_class.mean(1)
    if weights is not None and weighting == "sample":
        positives = hard.sum(1)
        loss = loss * torch.where(positives > 0, (hard * weights).sum(1) / positives.clamp_min(1), 1.0)
    return loss


class GuidedClassification(Objective):
    """Classification plus localisation: L = L_class + weight * L_loc (model guidance, Eq. 1).

    L_class is the mean over the global batch. L_loc is, with `reduction` "sum", the sum over the annotated pairs of the
    global batch (the published code's convention, which its values of lambda need), and with "mean" their mean. Either way
    the number of processes and of accumulated chunks changes nothing, because both are formed from global counts and
    multiplied by the number of processes that DistributedDataParallel divides by. The logged terms are unweighted:
    "classification", "localization" as a mean over pairs, and "zero_maps", the share of maps without positive evidence.
    """

    def __init__(
        self,
        model: Classifier,
        *,
        classification: str = "bce",
        class_weights: Tensor | None = None,
        weighting: str = "sample",
        localization: Callable[[Tensor, Tensor], Tensor] | None = None,
        weight: float = 0.0,
        reduction: str = "sum",
        attribution: str | Attribution = "ixg",
        depth: str = "input",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        check_explainable(model)
        if classification not in ("bce", "cross_entropy"):
            raise ValueError(f"classification must be 'bce' or 'cross_entropy', not {classification!r}")
        if weighting not in ("sample", "class"):
            raise ValueError(f"weighting must be 'sample' or 'class', not {weighting!r}")
        if reduction not in ("sum", "mean"):
            raise ValueError(f"reduction must be 'sum' or 'mean', not {reduction!r}")
        if label_smoothing and classification != "cross_entropy":
            raise ValueError("label_smoothing needs classification 'cross_entropy'")
        if weight and depth not in model.depths:
            raise ValueError(f"this net has no depth {depth!r}; it has {', '.join(model.depths)}")
        self.model = model
        self.classification, self.weighting, self.reduction = classification, weighting, reduction
        self.localization = localization if weight else None
        self.weight, self.attribution, self.depth = weight, attribution, depth
        self.label_smoothing = label_smoothing
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, batch: Batch, counts: Counts) -> Step:
        """`batch` on the device of the model; `counts` from `self.counts` on the whole batch of this process."""
        # Without any region on any process all of them skip the map together, so that collective calls stay paired.
        guided = self.localization is not None and counts.regions > 0
        images = batch.images
        if guided and self.depth == "input" and needs_gradient(self.attribution, self.model):
            images = images.detach().requires_grad_()
        out = self._run(images, batch)
        step = self._classify(out, batch, counts)
        if not guided:
            return step
        per_region, zero = self._localize(out, batch, counts)
        step = self._add(step, "localization", self.weight, per_region, batch, counts)
        return step._replace(
            terms={**step.terms, "zero_maps": zero.sum() * (distributed.world_size() / counts.regions)}
        )

    def _add(self, step: Step, name: str, weight: float, per_region: Tensor, batch: Batch, counts: Counts) -> Step:
        """`step` with a loss of every annotated pair [M] of this process, by `weight` and `reduction`."""
        mean = per_region.sum() * (distributed.world_size() / counts.regions)
        scale = weight * (counts.regions if self.reduction == "sum" else 1.0)
        terms = {**step.terms, name: mean.detach()}
        samples = {**step.samples, name: (batch.index[batch.regions.image], per_region.detach())}
        return Step(step.loss + scale * mean, terms, samples)

    def _run(self, images: Tensor, batch: Batch) -> Forward:
        out: Forward = self.model(images)
        return out

    def _classify(self, out: Forward, batch: Batch, counts: Counts) -> Step:
        """What is asked of the net without looking at its maps."""
        per_image = self._classification(out.logits, batch)
        mean = per_image.sum() * (distributed.world_size() / counts.images)
        return Step(mean, {"classification": mean.detach()}, {"classification": (batch.index, per_image.detach())})

    def _classification(self, logits: Tensor, batch: Batch) -> Tensor:
        """The classification loss per image [B], in float32 or better."""
        logits = logits if logits.dtype == torch.float64 else logits.float()
        return classification_loss(
            logits, batch.targets.to(logits.dtype), kind=self.classification, weights=self.class_weights,
            weighting=self.weighting, label_smoothing=self.label_smoothing,
        )  # fmt: skip

    def _localize(self, out: Forward, batch: Batch, counts: Counts) -> tuple[Tensor, Tensor]:
        """For every annotated pair: its localisation loss [M], and whether its map has no positive part [M] bool."""
        assert self.localization is not None
        regions = batch.regions
        attribution = attribute(
            self.attribution, self.model, out, self.depth, regions.image, regions.target,
            create_graph=True, rounds=counts.rounds,
        )  # fmt: skip
        zero = ~positive_energy(attribution.detach())[1]
        return self.localization(attribution, regions.mask), zero


def annealed_threshold(epoch: int, *, final: float, start: int, epochs: int) -> float:
    """The share of active cells that AIM asks for in `epoch` (from 0): 1 up to epoch `start`, then linearly down to
    `final` over `epochs` epochs, then `final` (AIM, Sec. 3 and A.3, Fig. 9; the shape of the descent is not given there)."""
    done = min(max((epoch - start) / epochs, 0.0), 1.0) if epochs else float(epoch >= start)
    return 1.0 + done * (final - 1.0)


class AIMMasking(GuidedClassification):
    """AIM (Alshami et al. 2025): L = CE_final + sum_l CE_l + area_weight * sum_l (r_l - threshold)^2, and guidance.

    The sums run over the masked stages (Eq. 7, which leaves out the final classifier that the text names). r_l is the share
    of active cells of the mask of stage l, through which gradients pass straight; with `area_ratio` "sample" that of each
    image, and the loss is their mean, with "batch" that of the global batch. `threshold`: see `annealed_threshold`; None
    leaves the area term out, as in the paper's rows without annealing. Stages whose mask is enlarged from another stage's
    have no term of their own.

    With `localization` and `weight` the net is guided like any other, on its attributions. `mask_weight` puts the same loss
    on its soft masks sigmoid(A_l), taken as maps (the mean over stages): a mask has no class, so its region is the union of
    the regions that its image has in the batch. Images without any are left out.

    Masks and drop-out are drawn by (seed, epoch, sample), so neither the number of processes nor an interruption changes
    them.
    """

    model: MaskedClassifier

    def __init__(
        self,
        model: MaskedClassifier,
        *,
        area_weight: float = 6.0,
        area_ratio: str = "sample",
        threshold: float | None = None,
        anneal_start: int = 0,
        anneal_epochs: int = 0,
        noise_epochs: int | None = None,
        mask_weight: float = 0.0,
        seed: int = 0,
        classification: str = "cross_entropy",
        class_weights: Tensor | None = None,
        weighting: str = "sample",
        localization: Callable[[Tensor, Tensor], Tensor] | None = None,
        weight: float = 0.0,
        reduction: str = "sum",
        attribution: str | Attribution = "gradcam",
        depth: str = "final",
        label_smoothing: float = 0.0,
    ) -> None:
        if area_ratio not in ("sample", "batch"):
            raise ValueError(f"area_ratio must be 'sample' or 'batch', not {area_ratio!r}")
        if threshold is not None and not 0 < threshold <= 1:
            raise ValueError(f"threshold must lie in (0, 1], or be None for no area term, not {threshold}")
        super().__init__(
            model, classification=classification, class_weights=class_weights, weighting=weighting,
            localization=localization, weight=weight, reduction=reduction, attribution=attribution, depth=depth,
            label_smoothing=label_smoothing,
        )  # fmt: skip
        self.area_weight, self.area_ratio, self.threshold = area_weight, area_ratio, threshold
        self.anneal_start, self.anneal_epochs, self.noise_epochs = anneal_start, anneal_epochs, noise_epochs
        self.mask_localization = localization if mask_weight else None
        self.mask_weight, self.seed, self.epoch = mask_weight, seed, 0
        self._told: set[str] = set()  # stages whose masks were found to collapse

    def begin_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        self.model.set_noise(self.noise_epochs is None or epoch < self.noise_epochs)

    def advise(self, values: Mapping[str, float]) -> list[str]:
        """Tells of masks that let nothing through: a stage without active cells has no say."""
        found = []
        collapsed = COLLAPSED if self.threshold is None else min(COLLAPSED, self.threshold / 2)
        for name, value in values.items():
            kind, _, stage = name.rpartition("/")
            if kind in ("train/active", "val/sparsity") and value <= collapsed and stage not in self._told:
                self._told.add(stage)
                when = (
                    "in training" if kind == "train/active" else "in evaluation, where the most probable ones are taken"
                )
                found.append(
                    f"the masks of {stage} collapse: {100 * value:.1f} % of their cells are active {when}. Raise "
                    "aim.threshold, lower optimizer.lr or aim.area_weight, or let the threshold fall for longer "
                    "(aim.anneal_epochs)"
                )
        return found

    def _run(self, images: Tensor, batch: Batch) -> Forward:
        out: Forward = self.model(images, sample_keys(self.seed, self.epoch, batch.index))
        return out

    def _classify(self, out: Forward, batch: Batch, counts: Counts) -> Step:
        step = super()._classify(out, batch, counts)
        share = distributed.world_size() / counts.images
        loss, terms, samples = step.loss, dict(step.terms), dict(step.samples)
        if out.stage_logits:
            auxiliary = torch.stack([self._classification(x, batch) for x in out.stage_logits.values()]).sum(0)
            loss = loss + auxiliary.sum() * share
            terms["auxiliary"] = (auxiliary.sum() * share).detach()
            samples["auxiliary"] = (batch.index, auxiliary.detach())
        ratios = {stage: out.masks[stage].flatten(1).mean(1) for stage in out.mask_logits}
        terms |= {f"active/{stage}": (ratio.sum() * share).detach() for stage, ratio in ratios.items()}
        if self.threshold is not None:
            area, threshold = self._area(torch.stack(list(ratios.values())), counts)
            loss = loss + self.area_weight * area
            terms |= {
                "area": area.detach(),
                "threshold": torch.full_like(area.detach(), threshold * len(batch.images) * share),
            }
        step = Step(loss, terms, samples)
        if self.mask_localization is not None and counts.regions > 0:
            per_region = self._localize_masks(out, batch)
            step = self._add(step, "mask_localization", self.mask_weight, per_region, batch, counts)
        return step

    def _area(self, ratios: Tensor, counts: Counts) -> tuple[Tensor, float]:
        """From the active shares [S, B], the sum over stages of (r - threshold)^2 (Eq. 6); and this epoch's threshold."""
        assert self.threshold is not None
        threshold = annealed_threshold(
            self.epoch, final=self.threshold, start=self.anneal_start, epochs=self.anneal_epochs
        )
        if self.area_ratio == "sample":
            area = (ratios - threshold).square().sum() * (distributed.world_size() / counts.images)
        else:
            area = (distributed.all_reduce_sum(ratios.sum(1)) / counts.images - threshold).square().sum()
        return area, threshold

    def _localize_masks(self, out: Forward, batch: Batch) -> Tensor:
        """The localisation loss of the soft masks of every pair's image [M], as a mean over stages."""
        assert self.mask_localization is not None
        regions = batch.regions
        same_image = (regions.image[:, None] == regions.image[None, :]).float()
        union = (same_image @ regions.mask.flatten(1).float()).view(regions.mask.shape) > 0
        soft = [torch.sigmoid(logits[:, 0]).index_select(0, regions.image) for logits in out.mask_logits.values()]
        return torch.stack([self.mask_localization(maps, union) for maps in soft]).mean(0)
