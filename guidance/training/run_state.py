"""What a run carries beside its weights: a stop request, running means of the logged terms, random states."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.optim import Optimizer

from guidance import distributed


class StoppedWaitingError(BaseException):
    """What was waited for did not come within the patience that a stop request leaves.

    No Exception: it is raised wherever the process happens to be, and a decoder would take it for a fault of its file.
    """


class StopRequest:
    """Whether SIGTERM or SIGUSR1 arrived (a scheduler wants the machine back).

    A step is finished first. What is only waited for, such as data from a worker that hangs, is given `patience` seconds.
    """

    def __init__(self, patience: float = 10.0) -> None:
        self.received, self.patience = False, patience
        self._waiting = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = True
        self._set_alarm()

    def _set_alarm(self) -> None:
        if self._waiting and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, self.patience)

    def _run_out(self, number: int, frame: FrameType | None) -> None:
        if self._waiting:
            raise StoppedWaitingError

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around something that may be given up: raises StoppedWaitingError when the patience has run out."""
        self._waiting = True
        if self.received:
            self._set_alarm()
        try:
            yield
        finally:
            self._waiting = False
            if self.received and hasattr(signal, "setitimer"):
                signal.setitimer(signal.ITIMER_REAL, 0)

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Install the handlers, and put the former ones back."""
        handlers = {"SIGTERM": self._receive, "SIGUSR1": self._receive, "SIGALRM": self._run_out}
        handlers = {name: handler for name, handler in handlers.items() if hasattr(signal, name)}
        former = {name: signal.signal(getattr(signal, name), handler) for name, handler in handlers.items()}
        try:
            yield self
        finally:
            for name, handler in former.items():
                signal.signal(getattr(signal, name), handler)

    def agreed(self) -> bool:
        """Whether any process was asked to stop; the same answer on all of them."""
        return distributed.max_numbers([float(self.received)])[0] > 0


class Means:
    """Running means of the logged terms; sums stay on the device until they are read."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, terms: Mapping[str, Tensor]) -> None:
        for name, value in terms.items():
            value = value.detach().double()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def read(self) -> dict[str, float]:
        """Means over the added steps and over all processes (a collective call)."""
        if not self.sums:
            return {}
        stacked = torch.stack([self.sums[name] / self.counts[name] for name in self.sums])
        return dict(zip(self.sums, distributed.mean(stacked).tolist(), strict=True))

    def state_dict(self) -> dict[str, Any]:
        return {"sums": {name: value.cpu() for name, value in self.sums.items()}, "counts": dict(self.counts)}

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        self.sums = {name: value.to(device).reshape(()) for name, value in state["sums"].items()}
        self.counts = {name: natural(state["counts"][name]) for name in self.sums}


@contextmanager
def part(name: str) -> Iterator[None]:
    """Around the loading of a part of a training state: whatever is wrong with it is a ValueError that names the part."""
    try:
        yield
    except Exception as error:  # of plain types in any disorder, and of what torch makes of them
        raise ValueError(f"of its training state, {name} is missing, damaged, or does not fit this run") from error


def natural(value: Any) -> int:
    """`value`, a whole number of at least 0; ValueError for anything else."""
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no natural number")
    return value


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Numbers by their names; ValueError for anything else."""
    if any(type(value) not in (int, float) or type(name) is not str for name, value in values.items()):
        raise ValueError("not all are numbers by their names")
    return dict(values)


def load_optimizer(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Load the state of an optimizer, whose tensors must have the shapes of their parameters: torch finds out in a step."""
    groups = [dict(group) for group in optimizer.param_groups]
    optimizer.load_state_dict(dict(state))
    for old, new in zip(groups, optimizer.param_groups, strict=True):
        if any(name not in new or not _alike(value, new[name]) for name, value in old.items()):
            raise ValueError("a group of parameters lacks a setting")
    if len({frozenset(values) for values in optimizer.state.values()}) > 1:
        raise ValueError("some parameters lack what others have")
    kinds: dict[str, set[tuple[type, bool]]] = {}
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            scaled = isinstance(value, Tensor) and value.dim() > 0
            if scaled and value.shape != parameter.shape:
                raise ValueError("a tensor has another shape than its parameter")
            if value is not None and parameter.dim() > 0:
                kinds.setdefault(name, set()).add((type(value), scaled))
    if any(len(found) > 1 for found in kinds.values()):
        raise ValueError("what it holds for some parameters is of another type than for others")


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_alike, a, b))
    if a is None or b is None:
        return True
    return isinstance(a, int | float) == isinstance(b, int | float) and (
        isinstance(a, int | float) or type(a) is type(b)
    )


def get_rng() -> dict[str, Any]:
    """State of every random number generator of this process, as plain types."""
    kind, keys, position, has_gauss, gauss = numpy.random.get_state()
    words = torch.from_numpy(numpy.asarray(keys).astype("int64"))
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "numpy": [str(kind), words, int(position), int(has_gauss), float(gauss)],
        "python": random.getstate(),
    }  # fmt: skip


def seed_rng(seed: int) -> None:
    """Seed every random number generator of this process."""
    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def set_rng(state: Mapping[str, Any]) -> None:
    """Put back what `get_rng` returned."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    kind, keys, position, has_gauss, gauss = state["numpy"]
    numpy.random.set_state((kind, keys.numpy().astype("uint32"), position, has_gauss, gauss))
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))
