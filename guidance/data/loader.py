"""Plans, which say which samples make a batch on which process, and loaders, which carry them out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from guidance.data.dataset import GuidanceDataset, Sample
from guidance.data.splits import permutation
from guidance.data.transforms.encodings import EncodedTransform
from guidance.data.workers import leave_process_group
from guidance.types import Batch, Regions

Keys = list[tuple[int, int]]  # (epoch, index) of each sample of a batch


class Batches(Protocol):
    """`TrainBatches` or `EvaluationBatches`."""

    batch_size: int  # of the global batch

    def __iter__(self) -> Iterator[Keys]: ...

    def __len__(self) -> int: ...


class TrainBatches(Sampler[Keys]):
    """Shuffled batches of this process; together the processes' lists make each global batch, in order of rank.

    The order depends on (seed, epoch) alone. `seek` before each epoch, with the number of global batches that are already
    done to resume within one. The last, incomplete global batch is dropped. `len` counts the batches that an epoch yields
    from `start`; `batches_per_epoch` counts all of them. `chunks`: into how many parts each process will split its batches;
    a part then holds the same samples, over all processes, for any number of processes, as statistics that are
    synchronised for each part need.
    """

    def __init__(
        self, num_samples: int, batch_size: int, *, seed: int = 0, rank: int = 0, world_size: int = 1, chunks: int = 1
    ) -> None:
        if batch_size < 1 or batch_size % (world_size * chunks):
            raise ValueError(
                f"the batch size is global and must be a multiple of the number of processes times that of accumulated "
                f"chunks; got {batch_size} for {world_size} processes and {chunks} chunks"
            )
        if batch_size > num_samples:
            raise ValueError(
                f"the batch size is {batch_size}, but the training split has {num_samples} samples; lower the batch "
                "size"
            )
        self.num_samples, self.batch_size, self.seed = num_samples, batch_size, seed
        self.rank, self.world_size, self.chunks = rank, world_size, chunks
        self.batches_per_epoch = num_samples // batch_size
        self.epoch = 0
        self.start = 0

    def seek(self, *, epoch: int, start: int = 0) -> None:
        """The next iteration yields the batches of `epoch` (from 0) from number `start` on."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        return max(self.batches_per_epoch - self.start, 0)

    def __iter__(self) -> Iterator[Keys]:
        epoch, part = self.epoch, self.batch_size // self.chunks
        local = part // self.world_size
        order = permutation(self.num_samples, self.seed, epoch)
        for batch in range(self.start, self.batches_per_epoch):
            first = batch * self.batch_size + self.rank * local
            starts = range(first, first + self.batch_size, part)
            yield [(epoch, index) for start in starts for index in order[start : start + local]]


class EvaluationBatches(Sampler[Keys]):
    """Fixed batches in dataset order, dealt to the processes in turn: batch j goes to rank j % world_size.

    What a batch holds does not depend on the number of processes. Nothing is padded: the last batch may be smaller, and
    a process may have one batch less than another.
    """

    def __init__(self, num_samples: int, batch_size: int, *, rank: int = 0, world_size: int = 1) -> None:
        if batch_size < 1:
            raise ValueError(f"the evaluation batch size must be at least 1; got {batch_size}")
        self.num_samples, self.batch_size = num_samples, batch_size
        self.rank, self.world_size = rank, world_size

    def _starts(self) -> range:
        return range(self.rank * self.batch_size, self.num_samples, self.world_size * self.batch_size)

    def __len__(self) -> int:
        return len(self._starts())

    def __iter__(self) -> Iterator[Keys]:
        for first in self._starts():
            yield [(0, index) for index in range(first, min(first + self.batch_size, self.num_samples))]


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
    memory from which a GPU copies while the process goes on. Images are delivered as pixels where the transform tells how they
    are encoded, a quarter of the bytes or an eighth; `Batch.to` encodes them.
    """

    def __init__(
        self, dataset: GuidanceDataset, batches: Plan, *, num_workers: int = 0, pin_memory: bool = False
    ) -> None:
        self.dataset, self.batches = dataset, batches
        transform, encode = dataset.transform, None
        if isinstance(transform, EncodedTransform):
            dataset, encode = dataset.with_transform(transform.pixels), transform.encode
        self.data_loader: DataLoader[Batch | ValueError] = DataLoader(
            dataset,  # type: ignore[arg-type]  # `collate_fn` makes the batches
            batch_sampler=batches,
            num_workers=num_workers,
            pin_memory=pin_memory,
            collate_fn=partial(_collate_or_error, encode),
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


def _collate_or_error(
    encode: Callable[[Tensor], Tensor] | None, samples: list[Sample] | ValueError
) -> Batch | ValueError:
    return samples if isinstance(samples, ValueError) else collate(samples)._replace(encode=encode)
