"""Plans: which samples make a batch, on which process. They hold no data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from torch.utils.data import Sampler

from guidance.data.splits import permutation

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
