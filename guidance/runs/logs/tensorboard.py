"""Scalars, pictures and settings for TensorBoard."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from guidance.runs.logs.logger import Image, Logger

Setting = bool | int | float | str | None


class TensorBoard(Logger):
    """Scalars, pictures and settings as TensorBoard event files in one folder.

    `purge_step`: hide events of this step and later ones, which a former process wrote before the run was resumed (the
    step resumed at, plus 1). ValueError if the package is not installed.
    """

    def __init__(self, folder: str | Path, *, purge_step: int | None = None) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ValueError(
                "logging to TensorBoard needs the package tensorboard: run `pip install tensorboard`, or switch it off "
                f"with `--set log.tensorboard=false` ({error})"
            ) from error
        self._writer: Any = SummaryWriter(str(folder), purge_step=purge_step)
        self._step = 0

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._step = step
        for name, value in values.items():
            if not math.isnan(value):  # a chart without a point is only in the way
                self._writer.add_scalar(_tag(name), value, step)
        if "epoch" in values:
            self._writer.flush()

    def image(self, step: int, tag: str, image: Image) -> None:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"image {tag!r} is {image.dtype} {list(image.shape)}; expected uint8 [H, W, 3]")
        self._writer.add_image(tag, image, step, dataformats="HWC")

    def hparams(self, config: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Settings and results for the HPARAMS tab; the results are scalars "hparams/<metric>" at the last step.

        SummaryWriter.add_hparams makes a folder for another run at each call; this writes into the run itself.
        """
        from torch.utils.tensorboard.summary import hparams

        settings = {name: _setting(value) for name, value in config.items() if value is not None}
        results = {f"hparams/{name}": float(value) for name, value in metrics.items() if not math.isnan(value)}
        writer = self._writer._get_file_writer()
        for summary in hparams(settings, results):  # type: ignore[no-untyped-call]
            writer.add_summary(summary)
        for name, value in results.items():
            self._writer.add_scalar(name, value, self._step)

    def flush(self) -> int | None:
        self._writer.flush()
        return None

    def close(self) -> None:
        self._writer.close()


def _tag(name: str) -> str:
    """The name of a chart. Charts are grouped by what stands before the first slash: one of each class gets its own group."""
    section, *rest = name.split("/", 2)
    return f"{section}_{'/'.join(rest)}" if len(rest) == 2 else name


def _setting(value: Any) -> Setting:
    # The table of settings would show a bool as 0 or 1, and takes no lists.
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
