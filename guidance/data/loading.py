"""Which samples make a batch, on which process, and how samples are joined."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from guidance.data.dataset import GuidanceDataset, Sample
from guidance.types import Batch, Regions

Keys = list[tuple[int, int]]  # (epoch, index) of each sample of a batch
ANNOTATED = 2**31  # purpose of a permutation that is no epoch: else the annotated images would come first in epoch 0


class Batches(Protocol):
    """`TrainBatches` or `EvaluationBatches`."""

    def __iter__(self) -> Iterator[Keys]: ...

    def __len__(self) -> int: ...


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


class TrainBatches(Sampler[Keys]):
    """Shuffled batches of this process; together the processes' lists make each global batch, in order of rank.

    The order depends on (seed, epoch) alone. Set `epoch` before each epoch, and `start` to the number of global batches
    that are already done to resume within one. The last, incomplete global batch is dropped. `len` counts the batches
    that an epoch yields from `start`; `batches_per_epoch` counts all of them. `chunks`: into how many parts each process
    will split its batches; a part then holds the same samples, over all processes, for any number of processes, as
    statistics that are synchronised for each part need.
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

    def __len__(self) -> int:
        return max(self.batches_per_epoch - self.start, 0)

    def __iter__(self) -> Iterator[Keys]:
        epoch, part = self.epoch, self.batch_size // self.chunks
        local = part // self.world_size
        order = _permutation(self.num_samples, self.seed, epoch)
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


def build_loader(
    dataset: GuidanceDataset, batches: Batches, *, num_workers: int = 0, pin_memory: bool = False
) -> DataLoader[Batch]:
    """A loader of `Batch`es. Iterating over it does not advance the global random state."""
    return DataLoader(
        dataset,  # type: ignore[arg-type]  # `collate_fn` makes the batches
        batch_sampler=batches,
        num_workers=num_workers,
        pin_memory=pin_memory,
        collate_fn=_collate_or_error,
        worker_init_fn=_leave_process_group,
        persistent_workers=num_workers > 0,
        generator=torch.Generator().manual_seed(dataset.seed),
    )


def read(loader: DataLoader[Batch]) -> Iterator[Batch]:
    """The batches of `build_loader`. An error of a worker is raised as it was, not wrapped in the worker's traceback."""
    for batch in loader:
        if isinstance(batch, ValueError):
            raise batch
        yield batch


def abandon_workers() -> None:
    """Kill the loader workers of this process, which may hang where SIGTERM does not reach: its exit would wait for them."""
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would call their end an error
    for worker in multiprocessing.active_children():
        worker.kill()


@contextmanager
def naming_killed_workers(then: str) -> Iterator[None]:
    """Inside, the death of a loader worker is a ValueError with its likely cause and its cure, and `then`, how to go on.

    torch raises it wherever the main process happens to be, so this belongs around the whole of a training or evaluation.
    """
    try:
        yield
    except BrokenPipeError:  # of whoever read what is printed here
        raise
    except (RuntimeError, ConnectionError, EOFError) as error:  # the latter two if it was just handing over a batch
        killed = re.search(r"DataLoader worker.*?pid\D*([\d, ]+)", str(error))
        if killed is None and isinstance(error, RuntimeError):
            raise
        worker = f"a loader worker (pid {killed.group(1).strip()})" if killed else "a loader worker"
        if "Terminated" in str(error):
            raise ValueError(
                f"{worker} was ended by SIGTERM, which the main process needs alone, to save before it ends (a supervisor that "
                f"signals all processes at once can be told so: KillMode=mixed of systemd); {then}"
            ) from error
        raise ValueError(
            f"{worker} was killed, most likely because memory ran out (the machine's, or that of /dev/shm, through which "
            f"workers hand over images): lower data.num_workers, and {then}"
        ) from error


def _collate_or_error(samples: list[Sample] | ValueError) -> Batch | ValueError:
    return samples if isinstance(samples, ValueError) else collate(samples)


def _leave_process_group(worker: int) -> None:
    # Schedulers and torchrun signal a whole process group, but the trainer needs its workers until it has saved. SIGTERM
    # itself must go on working: it is how the trainer's own exit ends them.
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    if hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def annotated_subset(candidates: int | Sequence[int], fraction: float, seed: int) -> list[int]:
    """The indices, ascending, whose regions may be used when only `fraction` of them are annotated.

    `candidates`: the indices to choose from, or their number N for 0 to N - 1. int(fraction * N) are chosen, as
    published (Rao et al. 2023), but at least one where `fraction` > 0. The choice depends on the seed and the
    candidates alone, and subsets are nested: a smaller fraction chooses a subset of what a larger one does.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"annotated_fraction must lie between 0 and 1; got {fraction}")
    indices = range(candidates) if isinstance(candidates, int) else candidates
    count = int(fraction * len(indices) + 1e-9)  # 0.29 * 100 is 28.999999999999996
    if fraction > 0:
        count = max(count, min(1, len(indices)))
    return sorted(indices[position] for position in _permutation(len(indices), seed, ANNOTATED)[:count])


def _permutation(size: int, seed: int, purpose: int) -> list[int]:
    state = int(np.random.SeedSequence((seed, purpose)).generate_state(1)[0])
    order: list[int] = torch.randperm(size, generator=torch.Generator().manual_seed(state)).tolist()
    return order
