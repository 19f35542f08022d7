"""What DistributedDataParallel wraps: a model together with its loss, from a batch to one scalar.

An objective is a list of terms. To add a training mode, write its terms and a row in MODES (guidance/config/modes).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor, nn

from guidance import distributed
from guidance.attribution import check_explainable
from guidance.models.classifier import Classifier
from guidance.types import Batch, Forward, Step


class Counts(NamedTuple):
    """Sizes of the global batch: over all processes and all accumulated chunks. Host numbers, known before the forward."""

    images: float
    regions: float
    rounds: int  # most pairs on one image of any process: every process runs as many backward passes


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


class Behaviour:
    """What a mode does beside its terms; this one does nothing."""

    def run(self, model: Classifier, images: Tensor, batch: Batch) -> Forward:
        """The forward pass in training; `images` are those of the batch."""
        out: Forward = model(images)
        return out

    def begin_epoch(self, model: Classifier, epoch: int) -> None:
        """Called before each epoch, or the rest of one; epochs count from 0."""

    def advise(self, values: Mapping[str, float]) -> list[str]:
        """What a user should know of an epoch, from its logged values ("train/..." and "val/..."); for each thing once."""
        return []


class Objective(nn.Module):
    """A sum of `terms` of what `model` returns; `model` is what evaluation and checkpoints see."""

    def __init__(self, model: Classifier, terms: Sequence[Term], behaviour: Behaviour | None = None) -> None:
        super().__init__()
        check_explainable(model)
        names = [term.name for term in terms]
        if not any(term.items == "images" for term in terms) or len(set(names)) < len(names):
            raise ValueError(
                "an objective needs different terms, at least one of which is a loss of all images; got "
                + (", ".join(names) or "none")
            )
        self.model, self.terms, self.behaviour = model, tuple(terms), behaviour or Behaviour()
        self.parts = nn.ModuleList([term.losses for term in terms if isinstance(term.losses, nn.Module)])

    @property
    def names(self) -> tuple[str, ...]:
        """What the terms are logged as."""
        return tuple(term.name for term in self.terms)

    def begin_epoch(self, epoch: int) -> None:
        """What the trainer says before each epoch, or the rest of one; epochs count from 0."""
        self.behaviour.begin_epoch(self.model, epoch)

    def advise(self, values: Mapping[str, float]) -> list[str]:
        """What a user should know of an epoch; see `Behaviour.advise`."""
        return self.behaviour.advise(values)

    def counts(self, batch: Batch) -> Counts:
        """Global sizes of a batch that lies on the host. Every process must call it once per step."""
        images, regions = distributed.sum_numbers([len(batch.images), len(batch.regions.image)])
        (rounds,) = distributed.max_numbers([batch.regions.rounds])
        return Counts(images, regions, int(rounds))

    def forward(self, batch: Batch, counts: Counts) -> Step:
        """`batch` on the device of the model; `counts` from `self.counts` on the whole batch of this process."""
        terms = [term for term in self.terms if ITEMS[term.items].count(counts) > 0]
        images = batch.images
        if any(term.by_images for term in terms):
            images = images.detach().requires_grad_()
        out = self.behaviour.run(self.model, images, batch)
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
        assert total is not None
        return Step(total, logged, samples)
