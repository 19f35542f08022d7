"""What a user sees of the log while a run goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tqdm import tqdm

from guidance.runs.logs.logger import Logger


class Console(Logger):
    """One line per epoch, above the progress bars. Values of single steps are the bar's own business.

    `shown`: the names to print, in this order, where they have a value; empty prints all of them.
    """

    def __init__(self, shown: Sequence[str] = ()) -> None:
        self._shown = tuple(shown)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if "epoch" not in values:
            return
        names = [n for n in self._shown if not math.isnan(values.get(n, math.nan))] if self._shown else values
        shown = [f"{name} {_short(values[name])}" for name in names if name != "epoch"]
        tqdm.write(f"epoch {values['epoch']:g} (step {step}): " + "  ".join(shown))


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"
