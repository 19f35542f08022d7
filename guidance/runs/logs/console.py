"""What a user sees of the log while a run goes on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tqdm import tqdm

from guidance.progress import duration
from guidance.runs.logs.logger import Logger


class Console(Logger):
    """One line per epoch, above the progress bars. Values of single steps are the bar's own business.

    `shown`: the names to print, in this order, where they have a value; empty prints all of them. `epochs`: of the run, so that
    the time of an epoch ("time/epoch", seconds) says how much there is to go; 0: not told.
    """

    def __init__(self, shown: Sequence[str] = (), *, epochs: int = 0) -> None:
        self._shown, self._epochs = tuple(shown), epochs

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if "epoch" not in values:
            return
        names = [n for n in self._shown if not math.isnan(values.get(n, math.nan))] if self._shown else values
        shown = [f"{name} {_short(values[name])}" for name in names if name != "epoch"]
        tqdm.write(f"epoch {values['epoch']:g} (step {step}): " + "  ".join(shown) + self._to_go(values))

    def _to_go(self, values: Mapping[str, float]) -> str:
        """What the epoch took with all that belongs to one, and the rest of the run at its pace."""
        left, seconds = self._epochs - values["epoch"], values.get("time/epoch", math.nan)
        if left <= 0 or not math.isfinite(seconds):
            return ""
        return f"  ({duration(seconds)}; about {duration(left * seconds)} to go)"


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.4g}"
