"""The only importer of torch.distributed. Every function is a no-op, or the identity, for one process."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from guidance.allocator import keep_freed_memory

LOG = logging.getLogger(__name__)


@contextmanager
def process_group(device: str = "auto", *, minutes: float = 30) -> Iterator[torch.device]:
    """Join the processes that torchrun started (or be the only one); yields the device of this process.

    `device`: "auto" (CUDA if there is one), "cpu" or "cuda". NCCL carries the gradients on CUDA, gloo on the CPU; small
    control messages (counts, a stop request) always travel by gloo. `minutes`: for how long processes wait for each other.
    """
    use_cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if use_cuda and not torch.cuda.is_available():
        raise ValueError("trainer.device is 'cuda', but torch sees no CUDA device; use 'auto' or 'cpu'")
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    chosen = torch.device("cuda", local_rank) if use_cuda else torch.device("cpu")
    if use_cuda and local_rank >= torch.cuda.device_count():
        raise ValueError(
            f"this is process {local_rank} of its machine, but torch sees {torch.cuda.device_count()} GPU(s): "
            "start as many processes as there are GPUs (--nproc_per_node), or set trainer.device=cpu"
        )
    if use_cuda:
        torch.cuda.set_device(chosen)
    else:
        keep_freed_memory()  # the next tensors take it
    check_launcher()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        dist.init_process_group("cpu:gloo,cuda:nccl" if use_cuda else "gloo", timeout=timedelta(minutes=minutes))
    try:
        yield chosen
    except RuntimeError as error:
        found = [text for pattern, text in LOST.items() if _initialized() and re.search(pattern, str(error))]
        if found:
            raise LostProcessError(f"{found[0]} ({str(error).splitlines()[0]})") from error
        raise
    except (ValueError, OSError) as error:
        if not _first_to_tell(str(error)):
            raise ToldError(str(error)) from error
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


class LostProcessError(ValueError):
    """Another process of the group has ended."""


class ToldError(ValueError):
    """An error that another process of the group tells."""


# What gloo and NCCL say where the other end of a connection is gone or silent, and what it means.
LOST: Mapping[str, str] = {
    r"Connection (closed|reset|refused)|Broken pipe|remote process exited|[Rr]emote end closed|closed by peer": (
        "another process has ended, and so this one does: look for its error, or else whether it was killed, as for memory"
    ),
    r"[Tt]imed out": (
        "another process did not answer in time, and so this one ends: it hangs, or does something that takes longer than the "
        "others wait (trainer.timeout_minutes)"
    ),
}


def _first_to_tell(message: str) -> bool:
    """Whether no other process of the group has told the same: all of them find the same mistakes."""
    if world_size() == 1:
        return True
    try:
        return int(dist.distributed_c10d._get_default_store().add(f"told/{hash_of(message)}", 1)) == 1
    except Exception:  # the process that holds the store may have ended; better told twice than never
        return True


def hash_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_launcher() -> None:
    """Raise ValueError where a cluster has started several processes that do not know of each other."""
    if "WORLD_SIZE" in os.environ:
        return
    tasks = {name: os.environ.get(name, "1") for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")}
    several = [f"{name}={value}" for name, value in tasks.items() if value.isdigit() and int(value) > 1]
    if several:
        raise ValueError(
            f"{several[0]}, but this process does not know of the others: each would train alone, and all in the same folder. "
            "Start one task for each machine, and torchrun in it: srun --ntasks-per-node=1 torchrun --nproc_per_node=8 ..."
        )
    if os.environ.get("SLURM_NTASKS", "1") not in ("", "1"):
        LOG.warning(
            "SLURM has reserved %s tasks, but this process runs alone; several processes are started by torchrun "
            "--nproc_per_node=N", os.environ["SLURM_NTASKS"],
        )  # fmt: skip


def _initialized() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Number of this process among all processes, from 0."""
    return dist.get_rank() if _initialized() else 0


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if _initialized() else 1


def is_main() -> bool:
    """Whether this process writes files and prints."""
    return rank() == 0


def is_local_main() -> bool:
    """Whether this process is the one of its machine that downloads files."""
    return os.environ.get("LOCAL_RANK", "0") == "0"


def barrier() -> None:
    """Wait until every process is here."""
    if world_size() > 1:
        sum_numbers([0.0])


def sum_numbers(values: Sequence[float]) -> list[float]:
    """Add host numbers over all processes (float64, so integers up to 2**53 are exact)."""
    return _reduced(values, "SUM")


def max_numbers(values: Sequence[float]) -> list[float]:
    """Largest of each host number over all processes."""
    return _reduced(values, "MAX")


def _reduced(values: Sequence[float], operation: str) -> list[float]:
    if world_size() == 1:
        return [float(v) for v in values]
    # A group that somebody else has made may have NCCL alone, which takes no tensors of the host.
    device = "cpu" if "cpu" in dist.get_backend_config() else "cuda"
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(tensor, op=getattr(dist.ReduceOp, operation))
    return tensor.tolist()


def mean(values: Tensor) -> Tensor:
    """Mean of a detached tensor over all processes, on its own device."""
    if world_size() == 1:
        return values
    values = values.clone()
    dist.all_reduce(values)
    return values / world_size()


def broadcast_buffers(module: nn.Module) -> None:
    """Give every process the main process's buffers, such as running statistics."""
    if world_size() > 1:
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


class _AllReduceSum(torch.autograd.Function):
    """Sum over processes whose backward is itself a sum, and therefore differentiable any number of times.

    torch's SyncBatchNorm has no double backward; torch.distributed.nn.functional.all_reduce does the same as this class
    but is on its way out of the newest releases.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return all_reduce_sum(grads[0])


def all_reduce_sum(x: Tensor) -> Tensor:
    """Differentiable (also twice) sum over all processes. Every process must call it equally often, also in backward."""
    return x if world_size() == 1 else _AllReduceSum.apply(x)


def gather_objects(value: Any) -> list[Any]:
    """`value` of every process, in order of rank, on every process."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def broadcast_object(value: Any) -> Any:
    """The main process's `value`, on every process."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]


def main_does(work: Callable[[], None]) -> None:
    """Let the main process do `work`; every process waits, and raises its ValueError (an OSError as one). A collective call."""
    problem = ""
    if is_main():
        try:
            work()
        except (ValueError, OSError) as error:
            problem = str(error) or type(error).__name__
    if problem := broadcast_object(problem):
        raise ValueError(problem)


def parallel(module: nn.Module, device: torch.device) -> nn.Module:
    """Wrap in DistributedDataParallel where there is more than one process."""
    if world_size() == 1:
        return module
    # Of filters of one pixel, whose two layouts are the same in memory.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    devices = [device.index] if device.type == "cuda" else None
    return DistributedDataParallel(module, devices, gradient_as_bucket_view=True)


@contextmanager
def no_sync(module: nn.Module, *, active: bool) -> Iterator[None]:
    """Leave out the gradient all-reduce, for all but the last chunk of an accumulated batch."""
    with module.no_sync() if active and isinstance(module, DistributedDataParallel) else nullcontext():
        yield
