"""Batches of a data set, joined from its samples, in the order of a plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from guidance.data.batches import Batches, TrainBatches
from guidance.data.dataset import GuidanceDataset, Sample
from guidance.data.workers import leave_process_group
from guidance.types import Batch, Regions

Plan = TypeVar("Plan", bound=Batches)


def collate(samples: Sequence[Sample]) -> Batch:
    """Join samples to a batch. Samples that are not `kept` are left out; a batch of nothing but those has B = 0."""
    kept = [sample for sample in samples if sample.kept]
    counts = torch.tensor([len(sample.classes) for sample in kept], dtype=torch.long)
    regions = Regions(
        image=torch.repeat_interleave(torch.arange(len(kept)), counts),
        target=torch.cat([sample.classes for sample in kept] or [samples[0].classes]),
        mask=torch.cat([sample.masks for sample in kept] or [samples[0].masks]),
        segment=_join([sample.segments for sample in kept or samples[:1]]),
        rounds=int(counts.max()) if kept else 0,
        kind=_join([sample.kinds for sample in kept or samples[:1]]),
        never=_join([sample.never for sample in kept or samples[:1]]),
    )
    return Batch(
        images=torch.stack([sample.image for sample in kept]) if kept else samples[0].image[None][:0],
        targets=torch.stack([sample.targets for sample in kept]) if kept else samples[0].targets[None][:0],
        regions=regions,
        groups=torch.tensor([sample.group for sample in kept], dtype=torch.long),
        index=torch.tensor([sample.index for sample in kept], dtype=torch.long),
        skipped=sum(sample.skipped for sample in samples),
        dropped=sum(sample.dropped for sample in samples),
        clipped=sum(sample.clipped for sample in samples),
    )


def _join(parts: Sequence[Tensor | None]) -> Tensor | None:
    given = [part for part in parts if part is not None]
    return torch.cat(given) if given else None


class Loader(Generic[Plan]):
    """This process's share of the batches of `dataset` that `batches` plans; loaded by `num_workers` processes, or by itself.

    Iterating over it yields each `guidance.types.Batch`, does not advance the global random state, and raises the ValueError
    of a faulty sample as it was, not wrapped in the traceback of the worker that met it. `pin_memory`: deliver batches in
    memory from which a GPU copies while the process goes on.
    """

    def __init__(
        self, dataset: GuidanceDataset, batches: Plan, *, num_workers: int = 0, pin_memory: bool = False
    ) -> None:
        self.dataset, self.batches = dataset, batches
        self.data_loader: DataLoader[Batch | ValueError] = DataLoader(
            dataset,  # type: ignore[arg-type]  # `collate_fn` makes the batches
            batch_sampler=batches,
            num_workers=num_workers,
            pin_memory=pin_memory,
            collate_fn=_collate_or_error,
            worker_init_fn=leave_process_group,
            persistent_workers=num_workers > 0,
            generator=torch.Generator().manual_seed(dataset.seed),
        )

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.data_loader:
            if isinstance(batch, ValueError):
                raise batch
            yield batch

    def __len__(self) -> int:
        """The number of batches that an iteration yields."""
        return len(self.batches)

    @property
    def batch_size(self) -> int:
        """Samples of a global batch."""
        return self.batches.batch_size

    @property
    def batches_per_epoch(self: Loader[TrainBatches]) -> int:
        """The number of batches of a whole epoch; see `TrainBatches`."""
        return self.batches.batches_per_epoch

    def seek(self: Loader[TrainBatches], *, epoch: int, start: int = 0) -> None:
        """The next iteration yields the batches of `epoch` (from 0) from number `start` on."""
        self.batches.seek(epoch=epoch, start=start)


def _collate_or_error(samples: list[Sample] | ValueError) -> Batch | ValueError:
    return samples if isinstance(samples, ValueError) else collate(samples)
