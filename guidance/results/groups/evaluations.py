"""What `launch/evaluate.py` has written of the checkpoints of a run, by epoch and split."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from guidance.runs.settings import agree

RESULTS = "results"
# They do not decide the standard metrics: where the data lie, and whether more scores were computed.
_FREE = ("data.root", "evaluation.scores")


class _Found(NamedTuple):
    path: Path
    settings: Mapping[str, Any]
    metrics: Mapping[str, float]


def read_evaluations(
    folder: Path, config: Mapping[str, Any], where: Mapping[str, Any], *, only_own: bool = False
) -> dict[tuple[int, int], dict[str, dict[str, float]]]:
    """(epoch, step) -> split -> metrics, of the results of a run.

    A checkpoint may have been evaluated on a split with several settings (another attribution, another region). Then those
    count that were made with the run's own `config` (flat). `where` asks for others: name -> value as text, of a setting of the
    evaluation ("depth") or of its config ("evaluation.region"); results that differ do not count. `only_own`: nor do those
    that differ from the run's config in anything else, even where there is no other. ValueError where several are left,
    naming the files, and for a file that is damaged.
    """
    found: dict[tuple[int, int, str], list[_Found]] = {}
    for path in sorted((folder / RESULTS).glob("*.json")):
        result = _read(path)
        if result is not None and all(_setting(result, name) == str(value) for name, value in where.items()):
            settings = result.settings
            found.setdefault((settings["epoch"], settings["step"], settings["split"]), []).append(result)
    chosen: dict[tuple[int, int], dict[str, dict[str, float]]] = {}
    for (epoch, step, split), results in found.items():
        own = [found for found in results if _is_own(found, config, where)]
        if own or not only_own:
            chosen.setdefault((epoch, step), {})[split] = dict(_choose(results, own, split).metrics)
    return chosen


def _read(path: Path) -> _Found | None:
    """None for a file that is no evaluation of a split."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); delete it and evaluate again") from error
    settings = content.get("settings") if isinstance(content, dict) else None
    if not isinstance(settings, dict) or not {"split", "epoch", "step"} <= settings.keys() or "metrics" not in content:
        return None
    metrics = {name: math.nan if value is None else float(value) for name, value in content["metrics"].items()}
    return _Found(path, settings, metrics)


def _setting(found: _Found, name: str) -> str:
    return str(found.settings.get(name, found.settings.get("config", {}).get(name)))


def _choose(results: list[_Found], own: list[_Found], split: str) -> _Found:
    likely = own or (results if len(results) == 1 else [])
    if len({found.settings.get("iou_threshold") for found in likely}) == 1:
        return max(likely, key=lambda found: len(found.metrics))
    listed = ", ".join(f"{found.path.name} ({_describe(found)})" for found in results)
    raise ValueError(
        f"epoch {results[0].settings['epoch']} was evaluated on {split} with several settings, and "
        f"{'none is' if not own else 'several are'} those of the run: {listed}; choose with --evaluated, such as depth=input"
    )


def _is_own(found: _Found, config: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    return agree(found.settings.get("config", {}), config, free={*_FREE, *where})


def _describe(found: _Found) -> str:
    names = ("attribution", "depth", "region", "iou_threshold")
    return ", ".join(f"{name}={found.settings[name]}" for name in names if name in found.settings)
