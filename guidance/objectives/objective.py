"""What DistributedDataParallel wraps: a model together with its loss, from a batch to one scalar, as a list of terms.

The terms that every mode has are here: L = L_class + weight * L_loc (model guidance, Eq. 1). To add a training mode, write its
terms and a row in MODES (guidance/config/modes).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from guidance import distributed
from guidance.attribution import CompiledNet, Request, check_explainable
from guidance.models.classifier import Classifier
from guidance.objectives.behaviour import Behaviour
from guidance.types import Batch, Forward, Step, lookup


class Counts(NamedTuple):
    """Sizes of the global batch: over all processes and all accumulated chunks. Host numbers, known before the forward."""

    images: float
    regions: float
    rounds: int  # most pairs on one image of any process: every process runs as many backward passes
    classes: int = 1  # most classes of one image of any process


def global_counts(targets: Tensor, regions: int, *, rounds: int) -> Counts:
    """The counts of a batch of which this process has a share: `targets` [B] long or [B, K]. A collective call."""
    most = int(targets.gt(0).sum(1).max()) if targets.dim() == 2 and len(targets) else 1
    all_images, all_regions = distributed.sum_numbers([len(targets), regions])
    most_rounds, most_classes = distributed.max_numbers([rounds, most])
    return Counts(all_images, all_regions, int(most_rounds), int(most_classes))


class Losses(NamedTuple):
    """What a term makes of the part of a batch that a process has."""

    values: Tensor | None  # losses of single items, of any shape; None for a term that only logs
    # Further detached scalars for the log; their mean over processes is the value of the global batch.
    notes: Mapping[str, Tensor] = {}


@dataclass(frozen=True)
class Items:
    """What the losses of a term are counted by."""

    count: Callable[[Counts], float]  # in the global batch
    index: Callable[[Batch], Tensor] | None  # of the sample that each loss of a process belongs to


ITEMS: Mapping[str, Items] = {
    "images": Items(lambda counts: counts.images, lambda batch: batch.index),
    "regions": Items(lambda counts: counts.regions, lambda batch: batch.index[batch.regions.image]),
    # Every process has the losses of the global batch, of which the mean over processes is taken.
    "batch": Items(lambda counts: float(distributed.world_size()), None),
}


@dataclass(frozen=True)
class Term:
    """One loss, logged by its name as a mean over items, unweighted.

    Its share of the total is `weight` times that mean (`reduction` "mean") or times the sum over the items of the global batch
    ("sum", the published code's convention). Either way the number of processes and of accumulated chunks changes nothing,
    because both are formed from global counts and multiplied by the number of processes that DistributedDataParallel divides
    by. Where the global batch has none of its items, all processes leave the term out together, so that collective calls stay
    paired.
    """

    name: str
    losses: Callable[[Forward, Batch, Counts], Losses]  # a module where it has tensors that must lie on the device
    weight: float = 1.0
    items: Literal["images", "regions", "batch"] = "images"
    reduction: Literal["mean", "sum"] = "mean"
    by_images: bool = False  # whether it asks autograd for gradients by the images
    # what it will ask of the forward pass, for a net that must know it beforehand; None: nothing but what a Forward holds
    asks: Callable[[Batch, Counts], Request] | None = None

    def __post_init__(self) -> None:
        lookup(ITEMS, self.items, f"items of the term {self.name}")
        if self.reduction not in ("sum", "mean"):
            raise ValueError(f"reduction must be 'sum' or 'mean', not {self.reduction!r}")
        if self.items == "batch" and self.reduction == "sum":
            raise ValueError(
                f"the term {self.name} is of the whole batch, as a sum already: its reduction must be 'mean'"
            )


class Objective(nn.Module):
    """A sum of `terms` of what `model` returns; `model` is what evaluation and checkpoints see."""

    def __init__(self, model: Classifier, terms: Sequence[Term], behaviour: Behaviour | None = None) -> None:
        super().__init__()
        check_explainable(model)
        self.model, self.terms, self.behaviour = model, tuple(terms), behaviour
        if not any(term.items == "images" for term in terms) or len(set(self.names)) < len(terms):
            raise ValueError(f"an objective needs different terms, one or more of them of all images; got {self.names}")
        self.compiled: CompiledNet | None = None  # the model, where it shall run as one compiled function
        self.parts = nn.ModuleList([term.losses for term in terms if isinstance(term.losses, nn.Module)])

    @property
    def names(self) -> tuple[str, ...]:
        """What the terms are logged as."""
        return tuple(term.name for term in self.terms)

    def begin_epoch(self, epoch: int) -> None:
        """See `Behaviour.begin_epoch`; the trainer calls it."""
        if self.behaviour is not None:
            self.behaviour.begin_epoch(self.model, epoch)

    def advise(self, values: Mapping[str, float]) -> list[str]:
        """What a user should know of an epoch; see `Behaviour.advise`."""
        return [] if self.behaviour is None else self.behaviour.advise(values)

    def counts(self, batch: Batch) -> Counts:
        """Global sizes of a batch that lies on the host. Every process must call it once per step."""
        return global_counts(batch.targets, len(batch.regions.image), rounds=batch.regions.rounds)

    def forward(self, batch: Batch, counts: Counts) -> Step:
        """`batch` on the device of the model; `counts` from `self.counts` on the whole batch of this process."""
        terms = [term for term in self.terms if ITEMS[term.items].count(counts) > 0]
        images = batch.images
        if any(term.by_images for term in terms):
            images = images.detach().requires_grad_()
        out = self._run(terms, images, batch, counts)
        total: Tensor | None = None
        logged: dict[str, Tensor] = {}
        samples: dict[str, tuple[Tensor, Tensor]] = {}
        for term in terms:
            items, found = ITEMS[term.items], term.losses(out, batch, counts)
            if found.values is not None:
                count = items.count(counts)
                mean = found.values.sum() * (distributed.world_size() / count)
                share = term.weight * (count if term.reduction == "sum" else 1.0) * mean
                total = share if total is None else total + share
                logged[term.name] = mean.detach()
                if items.index is not None and found.values.dim() == 1:
                    samples[term.name] = items.index(batch), found.values.detach()
            logged |= found.notes
        if total is None:
            raise ValueError(f"no term of this objective gave a loss, only notes: {', '.join(self.names)}")
        return Step(total, logged, samples, out.logits.detach())

    def _run(self, terms: Sequence[Term], images: Tensor, batch: Batch, counts: Counts) -> Forward:
        net: Callable[..., Forward] = self.model
        if self.compiled is not None:
            requests = [term.asks(batch, counts) for term in terms if term.asks is not None]
            if len(requests) > 1:
                raise ValueError("a compiled net answers one term alone; set trainer.compile: false")
            net = partial(self.compiled, request=requests[0] if requests else None)
        return net(images) if self.behaviour is None else self.behaviour.run(net, images, batch)


@dataclass(frozen=True, eq=False)
class Classification:
    """Which loss of logits [B, K] and targets [B, K] classification is trained with; see `per_image`."""

    kind: str = "bce"  # "bce" or "cross_entropy"
    weights: Tensor | None = None  # [K], of the classes
    weighting: str = "sample"  # what a class weight multiplies: an image's loss, or one output's ("class")
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in ("bce", "cross_entropy"):
            raise ValueError(f"classification must be 'bce' or 'cross_entropy', not {self.kind!r}")
        if self.weighting not in ("sample", "class"):
            raise ValueError(f"weighting must be 'sample' or 'class', not {self.weighting!r}")
        if self.label_smoothing and self.kind != "cross_entropy":
            raise ValueError("label_smoothing needs classification 'cross_entropy'")

    def per_image(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        """Loss per image [B]; `weights` are those of this record, on the device and of the type that the logits have.

        `kind` "bce": binary cross entropy on every logit, mean over the K classes (model guidance, Sec. 3.1);
        "cross_entropy": softmax cross entropy, for targets [B, K] with one positive class.
        With `weighting` "sample" the loss of an image is multiplied by the weight of its class (mean over its
        positive classes, 1 for an image without any); "class": the term of each output is multiplied by that output's weight.
        `label_smoothing` e (cross entropy only): targets become (1 - e) t + e / K (Szegedy et al. 2016, Sec. 7).
        """
        hard = targets
        if self.kind == "cross_entropy":
            if self.label_smoothing:
                targets = (1 - self.label_smoothing) * targets + self.label_smoothing / targets.shape[1]
            per_class = -targets * functional.log_softmax(logits, dim=1)
            if weights is not None and self.weighting == "class":
                per_class = per_class * weights
            loss = per_class.sum(1)
        else:
            per_class = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
            if weights is not None and self.weighting == "class":
                per_class = per_class * weights
            loss = per_class.mean(1)
        if weights is not None and self.weighting == "sample":
            positives = hard.sum(1)
            loss = loss * torch.where(positives > 0, (hard * weights).sum(1) / positives.clamp_min(1), 1.0)
        return loss


class ClassificationTerm(nn.Module):
    """The term "classification"; a module, because class weights must lie on the device of the net."""

    def __init__(self, settings: Classification) -> None:
        super().__init__()
        self.settings = settings
        self.weights: Tensor | None
        self.register_buffer("weights", settings.weights, persistent=False)

    def term(self) -> Term:
        return Term("classification", self)

    def forward(self, out: Forward, batch: Batch, counts: Counts) -> Losses:
        """The mean over the global batch is the loss."""
        return Losses(self.per_image(out.logits, batch.targets))

    def per_image(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss per image [B], in float32 or better."""
        logits = logits if logits.dtype == torch.float64 else logits.float()
        return self.settings.per_image(logits, targets.to(logits.dtype), self.weights)
