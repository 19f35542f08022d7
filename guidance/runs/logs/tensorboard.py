"""Scalars, pictures and settings for TensorBoard."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from guidance.runs.logs.logger import Image, Logger

SETTINGS_SUFFIX = ".settings"  # of the file that holds settings and layout


class TensorBoard(Logger):
    """Scalars, pictures and settings as TensorBoard event files in one folder.

    `purge_step`: hide events of this step and later ones, which a former process wrote before the run was resumed (see
    `open_loggers`). ValueError if the package is not installed.
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

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if not math.isnan(value):  # a chart without a point is only in the way
                self._writer.add_scalar(_tag(name), value, step)
        if "epoch" in values:
            self._writer.flush()

    def image(self, step: int, tag: str, image: Image) -> None:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"image {tag!r} is {image.dtype} {list(image.shape)}; expected uint8 [H, W, 3]")
        self._writer.add_image(tag, image, step, dataformats="HWC")

    def begin(
        self, settings: Mapping[str, Any], metrics: Sequence[str], charts: Mapping[str, Mapping[str, Sequence[str]]]
    ) -> None:
        """The HPARAMS tab and the layout of the CUSTOM SCALARS tab, in a file of their own.

        A resumed run replaces that file: TensorBoard shows the first settings that it finds, and some may have changed. The
        results in the HPARAMS tab are the last values of the scalars `metrics` themselves, so nothing is written twice.
        """
        for old in Path(self._writer.log_dir).glob(f"*{SETTINGS_SUFFIX}"):
            old.unlink()
        with type(self._writer)(self._writer.log_dir, filename_suffix=SETTINGS_SUFFIX) as writer:
            writer.add_custom_scalars({
                section: {title: ["Multiline", [f"{re.escape(_tag(name))}$" for name in names]] for title, names in of.items()}
                for section, of in charts.items()
            })  # fmt: skip
            for summary in _hparams(settings, [_tag(name) for name in metrics]):
                writer._get_file_writer().add_summary(summary)

    def flush(self) -> int | None:
        self._writer.flush()
        return None

    def close(self) -> None:
        self._writer.close()


def _tag(name: str) -> str:
    """The name of a chart. Charts are grouped by what stands before the first slash: one of each class gets its own group."""
    section, *rest = name.split("/", 2)
    return f"{section}_{'/'.join(rest)}" if len(rest) == 2 else name


def _hparams(settings: Mapping[str, Any], tags: Sequence[str]) -> list[Any]:
    """What the HPARAMS plugin reads: the columns, and the values of this run.

    TensorBoard takes the columns from any one of the runs that it shows. So all settings are among them, also those that
    this run leaves unset, of which it has no value; SummaryWriter.add_hparams leaves them out.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    values = {name: _setting(value) for name, value in settings.items() if value is not None}
    start = plugin_data_pb2.SessionStartInfo()
    for name, value in values.items():
        field = "string_value" if isinstance(value, str) else "number_value"
        setattr(start.hparams[name], field, value)
    kinds = {str: api_pb2.DATA_TYPE_STRING, int: api_pb2.DATA_TYPE_FLOAT64, float: api_pb2.DATA_TYPE_FLOAT64}
    columns = [api_pb2.HParamInfo(name=name, type=kinds[type(values.get(name, ""))]) for name in settings]
    results = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in tags]
    experiment = api_pb2.Experiment(hparam_infos=columns, metric_infos=results)
    summaries = []
    for tag, content in (
        (metadata.EXPERIMENT_TAG, {"experiment": experiment}),
        (metadata.SESSION_START_INFO_TAG, {"session_start_info": start}),
    ):
        data = plugin_data_pb2.HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, **content).SerializeToString()
        plugin = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME, content=data)
        summaries.append(Summary(value=[Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin))]))
    return summaries


def _setting(value: Any) -> float | str:
    # The table of settings would show a bool as 0 or 1, and takes no lists.
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
