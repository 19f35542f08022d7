"""Whether the losses of the latest steps were finite, found out without waiting for the device."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from guidance import distributed
from guidance.types import Step


class NonFiniteError(ValueError):
    """The loss or the weights are not finite. Nothing was saved from this step on."""


class _Watched(NamedTuple):
    number: int
    step: Step
    finite: Tensor  # [] bool on the host, valid once `copied` has happened
    copied: torch.cuda.Event | None


class LossGuard:
    """Looks at a step's loss when the next step has been queued: by then the device has long computed it."""

    def __init__(self) -> None:
        self._watched: list[_Watched] = []

    def watch(self, number: int, step: Step) -> None:
        """Remember the loss of step `number`."""
        finite, copied = torch.isfinite(step.loss.detach()), None
        if finite.is_cuda:
            on_host = torch.empty((), dtype=torch.bool, pin_memory=True)
            on_host.copy_(finite, non_blocking=True)
            finite, copied = on_host, torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record()
        self._watched.append(_Watched(number, step, finite, copied))

    def failure(self, *, before: int) -> str:
        """What went wrong on this process in a step under number `before`; empty if nothing did."""
        while self._watched and self._watched[0].number < before:
            watched = self._watched.pop(0)
            if watched.copied is not None:
                watched.copied.synchronize()
            if not bool(watched.finite):
                return f"step {watched.number}: {_terms(watched.step)}"
        return ""


def _terms(step: Step) -> str:
    bad = {name: index[~torch.isfinite(loss)].tolist() for name, (index, loss) in step.samples.items()}
    return ", ".join(f"{name} (samples {indices[:16]})" for name, indices in bad.items() if indices) or "the total"


def raise_non_finite(failure: str) -> None:
    """Raise on every process, naming what each of them found. A collective call."""
    found = [text for text in distributed.gather_objects(failure) if text]
    raise NonFiniteError(
        f"the loss is not finite at {'; '.join(found)}. The checkpoints on disk are from before. Lower optimizer.lr or "
        "objective.localization.weight, set trainer.clip_norm, or look at the named samples (positions in the training split)."
    )


def check_finite(guard: LossGuard, weights: nn.Module, step: int) -> None:
    """Raise NonFiniteError, on every process, if a loss before `step` or a weight is not finite. A collective call."""
    failure = guard.failure(before=step)
    if distributed.max_numbers([float(bool(failure))])[0]:
        raise_non_finite(failure)
    bad = [name for name, p in weights.named_parameters() if not bool(torch.isfinite(p).all())]
    if bad:
        raise NonFiniteError(
            f"weights are not finite after step {step} although the loss was: {', '.join(bad[:5])}. "
            "The checkpoints on disk are from before. Lower optimizer.lr or set trainer.clip_norm."
        )
