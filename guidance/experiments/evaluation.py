"""What is evaluated of a finished run: each checkpoint of its front, each in a file as launch/evaluate.py writes it."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from guidance.cli import available_device
from guidance.config import free_on_resume, load_config, override_config
from guidance.experiments.definition.schema import EvaluatedSettings
from guidance.inference import evaluate_in_detail
from guidance.results.files import result_path, write_result
from guidance.runs.paths import CONFIG, front_folder
from guidance.runs.settings import flatten

LOG = logging.getLogger(__name__)


class Missing(NamedTuple):
    """An evaluation that has no file yet."""

    checkpoint: Path
    split: str
    overrides: list[str]
    refit: bool


def missing(folder: Path, wanted: Sequence[EvaluatedSettings]) -> list[Missing]:
    """What of the front of the run in `folder` is not evaluated yet. ValueError for settings that do not fit the run."""
    if not wanted or not (folder / CONFIG).is_file():
        return []
    found = list(_results(folder))
    trained = load_config(folder / CONFIG)
    checkpoints = sorted(front_folder(folder).glob("*.pt"))
    lacking = []
    for item in wanted:
        overrides = [f"{name}={_as_yaml(value)}" for name, value in item.settings.items()]
        config = override_config(trained, overrides)
        if item.refit:
            config = override_config(config, ["evaluation.iou_threshold=fit"])
        # Where the data lie decides nothing; whether a faulty image counts does, but is free, as in the run itself.
        settings = _deciding(flatten(config.model_dump(mode="json")), free_on_resume(config))
        for path in checkpoints:
            for split in item.splits:
                has = any(
                    name.startswith(f"{path.stem}.{split}.") and other["split"] == split
                    and other["iou_threshold_from"].endswith(", for this") == item.refit
                    and _deciding(other["config"], free_on_resume(config)) == settings
                    for name, other in found
                )  # fmt: skip
                if not has:
                    lacking.append(Missing(path, split, overrides, item.refit))
    return lacking


def _as_yaml(value: Any) -> str:
    return yaml.safe_dump([value], default_flow_style=True, width=math.inf).strip()[1:-1]


def _deciding(config: dict[str, Any], free: Sequence[str]) -> dict[str, Any]:
    return {k: v for k, v in config.items() if not any(k == name or k.startswith(f"{name}.") for name in free)}


def _results(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name of the file and settings of each evaluation of the run."""
    for path in (folder / "results").glob("*.json"):
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))["settings"]
            if {"split", "iou_threshold_from", "config"} <= set(settings):
                yield path.name, settings
        except (ValueError, KeyError, TypeError):
            LOG.warning("%s is no result of an evaluation; it is left alone", path)


def evaluate_front(
    folder: Path, wanted: Sequence[EvaluatedSettings], *, stop: Callable[[], bool] = lambda: False
) -> int:
    """Evaluate what is missing, until `stop` says so; returns how many were. ValueError or OSError where one cannot be."""
    lacking = missing(folder, wanted)
    if not lacking:
        return 0
    device = "cpu" if load_config(folder / CONFIG).trainer.device == "cpu" else available_device()
    for done, (checkpoint, split, overrides, refit) in enumerate(lacking):
        if stop():
            return done
        found = evaluate_in_detail(checkpoint, split, overrides=overrides, device=device, refit=refit)
        write_result(result_path(checkpoint, split, found.settings), found.metrics, found.settings)
        LOG.info("%s on %s: %s", checkpoint, split, found.description)
    return len(lacking)
