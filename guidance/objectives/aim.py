"""AIM (Alshami et al. 2025): the terms of self-supervised masking, and what the mode does beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from guidance import distributed
from guidance.models.aim import MaskedClassifier
from guidance.models.classifier import Classifier
from guidance.models.layers.noise import sample_keys
from guidance.objectives.behaviour import Behaviour
from guidance.objectives.localization import Localization, localization_terms
from guidance.objectives.objective import Classification, ClassificationTerm, Counts, Losses, Objective, Term
from guidance.types import Batch, Forward

COLLAPSED = 0.02  # share of active cells from which down a mask is said to collapse


@dataclass(frozen=True)
class Masking:
    """How masks are trained. L = CE_final + sum_l CE_l + area_weight * sum_l (r_l - threshold_l)^2.

    The sums run over the masked stages (Eq. 7, which leaves out the final classifier that the text names). r_l is the share
    of active cells of the mask of stage l, through which gradients pass straight; with `area_ratio` "sample" that of each
    image, and the loss is their mean, with "batch" that of the global batch. `threshold`: see `annealed_threshold`; one number
    for all stages, as in the paper's experiments, or one for each stage with a mask estimator, called as in
    `Forward.mask_logits` ("stage2"), as Eq. 6 is written; None leaves the area term out, as in the paper's rows without
    annealing. Stages whose mask is enlarged from another stage's have no term of their own.

    `mask_weight` puts the localisation loss on the soft masks sigmoid(A_l), taken as maps (the mean over stages): a mask has no
    class, so its region is the union of the regions that its image has in the batch. Images without any are left out.

    Masks and drop-out are drawn by (seed, epoch, sample), so neither the number of processes nor an interruption changes
    them.
    """

    area_weight: float = 6.0
    area_ratio: str = "sample"
    threshold: float | Mapping[str, float] | None = None
    anneal_start: int = 0
    anneal_epochs: int = 0
    noise_epochs: int | None = None  # for how many epochs masks are drawn; None: for all
    mask_weight: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.area_ratio not in ("sample", "batch"):
            raise ValueError(f"area_ratio must be 'sample' or 'batch', not {self.area_ratio!r}")
        for place, value in _named(self.threshold).items():
            if not 0 < value <= 1:
                raise ValueError(f"{place} must lie in (0, 1], or threshold be None for no area term, not {value}")

    def threshold_of(self, stage: str) -> float | None:
        """Of the active cells of a stage at the end of the descent; None where there is no area term."""
        if not isinstance(self.threshold, Mapping):
            return self.threshold
        # A mask that is enlarged from another stage's is as active as that one, of which there is only one then.
        return self.threshold.get(stage, min(self.threshold.values()))


def aim_objective(
    model: MaskedClassifier,
    masking: Masking | None = None,
    classification: Classification | None = None,
    localization: Localization | None = None,
) -> Objective:
    """The objective of AIM, guided on its attributions like any other net where `localization` has a weight.

    Raises ValueError for thresholds of other stages than those of `model` that have a mask estimator.
    """
    settings, guidance = masking or Masking(), localization or Localization()
    estimating = set(model.net.masks)
    if isinstance(settings.threshold, Mapping) and set(settings.threshold) != estimating:
        raise ValueError(
            f"threshold is given for {', '.join(settings.threshold) or 'no stage'}, but the stages of this net that have a "
            f"mask estimator are {', '.join(model.net.masks)}: name exactly these, or give one number for all"
        )
    classify = ClassificationTerm(classification or Classification("cross_entropy"))
    behaviour = Masked(settings)
    terms = [
        classify.term(),
        Term("auxiliary", auxiliary_losses(classify)),
        Term("active", active_cells),
        *behaviour.area_terms(),
        *mask_terms(settings.mask_weight, guidance),
        *localization_terms(model, guidance),
    ]
    return Objective(model, terms, behaviour)


def annealed_threshold(epoch: int, *, final: float, start: int, epochs: int) -> float:
    """The share of active cells that AIM asks for in `epoch` (from 0): 1 up to epoch `start`, then linearly down to
    `final` over `epochs` epochs, then `final` (AIM, Sec. 3 and A.3, Fig. 9; the shape of the descent is not given there)."""
    done = min(max((epoch - start) / epochs, 0.0), 1.0) if epochs else float(epoch >= start)
    return 1.0 + done * (final - 1.0)


def auxiliary_losses(classify: ClassificationTerm) -> Callable[[Forward, Batch, Counts], Losses]:
    """The classification losses of the stages' own classifiers, added up for each image; none for a net without them."""

    def losses(out: Forward, batch: Batch, counts: Counts) -> Losses:
        if not out.stage_logits:
            return Losses(None)
        stages = [classify.per_image(logits, batch.targets) for logits in out.stage_logits.values()]
        return Losses(torch.stack(stages).sum(0))

    return losses


def active_ratios(out: Forward) -> dict[str, Tensor]:
    """Stage -> the share of active cells of each image [B]."""
    return {stage: out.masks[stage].flatten(1).mean(1) for stage in out.mask_logits}


def active_cells(out: Forward, batch: Batch, counts: Counts) -> Losses:
    """Logs the share of active cells of each stage."""
    share = distributed.world_size() / counts.images
    return Losses(None, {f"active/{stage}": (r.sum() * share).detach() for stage, r in active_ratios(out).items()})


def mask_terms(weight: float, guidance: Localization) -> list[Term]:
    """The localisation loss of the soft masks of every annotated pair's image [M], as a mean over stages."""
    loss = guidance.loss
    if not weight or loss is None:
        return []

    def losses(out: Forward, batch: Batch, counts: Counts) -> Losses:
        regions = batch.regions
        same_image = (regions.image[:, None] == regions.image[None, :]).float()
        union = (same_image @ regions.mask.flatten(1).float()).view(regions.mask.shape) > 0
        soft = [torch.sigmoid(logits[:, 0]).index_select(0, regions.image) for logits in out.mask_logits.values()]
        return Losses(torch.stack([loss(maps, union) for maps in soft]).mean(0))

    return [Term("mask_localization", losses, weight, "regions", guidance.reduction)]


class Masked(Behaviour):
    """Draws masks by sample, lets the threshold fall over the epochs, and tells of masks that collapse."""

    def __init__(self, settings: Masking) -> None:
        self.settings, self.epoch = settings, 0
        self._told: set[str] = set()  # stages whose masks were found to collapse

    def run(self, model: Callable[..., Forward], images: Tensor, batch: Batch) -> Forward:
        return model(images, sample_keys(self.settings.seed, self.epoch, batch.index))

    def begin_epoch(self, model: Classifier, epoch: int) -> None:
        assert isinstance(model, MaskedClassifier)
        self.epoch = epoch
        model.set_noise(self.settings.noise_epochs is None or epoch < self.settings.noise_epochs)

    def advise(self, values: Mapping[str, float]) -> list[str]:
        """Tells of masks that let nothing through: a stage without active cells has no say."""
        found = []
        for name, value in values.items():
            kind, _, stage = name.rpartition("/")
            if kind not in ("train/active", "val/sparsity") or stage in self._told:
                continue
            wanted = self.settings.threshold_of(stage)
            if value <= (COLLAPSED if wanted is None else min(COLLAPSED, wanted / 2)):
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

    def area_terms(self) -> list[Term]:
        """The term "area", from the active shares; it logs the threshold that they should have in this epoch, stage by stage
        where each has its own."""
        settings = self.settings
        if settings.threshold is None:
            return []
        items: Literal["images", "batch"] = "images" if settings.area_ratio == "sample" else "batch"
        return [Term("area", self._area, settings.area_weight, items)]

    def _area(self, out: Forward, batch: Batch, counts: Counts) -> Losses:
        """(r - threshold)^2 (Eq. 6) of each stage and image [S, B], or of each stage [S] in the global batch."""
        settings, active = self.settings, active_ratios(out)
        ratios = torch.stack(list(active.values()))
        if settings.area_ratio == "batch":
            ratios = distributed.all_reduce_sum(ratios.sum(1)) / counts.images
        own = isinstance(settings.threshold, Mapping)
        gaps, notes = [], dict[str, Tensor]()
        for stage, ratio in zip(active, ratios, strict=True):
            final = settings.threshold_of(stage)
            assert final is not None
            threshold = annealed_threshold(
                self.epoch, final=final, start=settings.anneal_start, epochs=settings.anneal_epochs
            )
            gaps.append(ratio - threshold)
            # Of this process's images; their sum over processes is the threshold.
            part = threshold * len(batch.images) * (distributed.world_size() / counts.images)
            name = f"threshold/{stage}" if own else "threshold"
            notes[name] = torch.full((), part, dtype=ratios.dtype, device=ratios.device)
        return Losses(torch.stack(gaps).square(), notes)


def _named(threshold: float | Mapping[str, float] | None) -> dict[str, float]:
    """What each number of a threshold is called in messages."""
    if isinstance(threshold, Mapping):
        return {f"threshold of {stage}": value for stage, value in threshold.items()}
    return {} if threshold is None else {"threshold": threshold}
