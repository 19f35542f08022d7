"""The checkpoints of several runs, and what their configs say of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from guidance.importing import import_recorded
from guidance.runs.front_folder import Saved, read_candidates
from guidance.runs.paths import CHECKPOINTS, FRONT, front_folder, suggest_folder
from guidance.runs.settings import flatten

# What a line of front.csv says of its run, whether or not the runs differ in it.
SETTINGS = (
    "seed", "data.name", "model.name", "objective.mode", "objective.localization.loss", "objective.localization.weight",
    "objective.attribution.method", "objective.attribution.depth", "evaluation.iou_threshold",
    "evaluation.threshold_fraction",
)  # fmt: skip


def read_runs(folders: Sequence[Path]) -> dict[str, list[Saved]]:
    """Name of each run -> its checkpoints; a folder that is given twice counts once. ValueError if one has none.

    Modules that a run has recorded are imported.
    """
    if not folders:
        raise ValueError("no folder is given; give one run or more, such as runs/NAME")
    places: dict[Path, Path] = {}
    for folder in folders:
        place = _checkpoints(folder)
        run = place.parent.parent if (place.parent.name, place.name) == (CHECKPOINTS, FRONT) else place
        places.setdefault(place.resolve(), run.resolve())
    common = Path(os.path.commonpath([*places.values()])) if len(places) > 1 else next(iter(places.values())).parent
    found = {
        run.relative_to(common).as_posix() if run != common else run.name: read_candidates(place)
        for place, run in places.items()
    }
    for name, saved in found.items():  # their metrics may be rows of one's own
        import_recorded(saved[0].config, source=f"the run {name}")
    return found


def _checkpoints(folder: Path) -> Path:
    if not folder.is_dir():
        raise ValueError(
            f"there is no folder {folder}; give the folder of a run, such as runs/NAME{suggest_folder(folder)}"
        )
    looked = [front_folder(folder), folder / FRONT, folder]
    for place in looked:
        if any(place.glob("*.pt")):
            return place
    raise ValueError(f"{folder} has no checkpoints; looked for " + ", ".join(f"{place}/*.pt" for place in looked))


def read_settings(runs: Mapping[str, Sequence[Saved]]) -> dict[str, dict[str, Any]]:
    """What tells the runs apart: `SETTINGS`, and every other setting that is not the same in all of them."""
    configs = {run: flatten(saved[0].config) for run, saved in runs.items()}
    every = dict.fromkeys(name for config in configs.values() for name in config)
    values = {name: [config.get(name) for config in configs.values()] for name in every}
    varying = [name for name, found in values.items() if any(value != found[0] for value in found)]
    shown = [name for name in dict.fromkeys((*SETTINGS, *varying)) if name in every]
    return {run: {name: config.get(name) for name in shown} for run, config in configs.items()}


def front_setting(runs: Mapping[str, Sequence[Saved]], key: str) -> Any:
    """What the configs of all runs say about the front, a key of `FRONT_SETTINGS`; ValueError if they differ."""
    default, is_valid = FRONT_SETTINGS[key]
    values = {}
    for run, saved in runs.items():
        section = saved[0].config.get("pareto", {})
        value = section.get(key, default) if isinstance(section, Mapping) else section
        if not is_valid(value):
            raise ValueError(f"run {run}: pareto.{key} of its config is {value!r}; choose with --{key}")
        values[run] = value
    first = next(iter(values.values()))
    if any(value != first for value in values.values()):
        listed = "; ".join(f"{run}: {value}" for run, value in values.items())
        raise ValueError(f"the configs of the runs differ in pareto.{key} ({listed}); choose with --{key}")
    return first


def _is_names(value: Any) -> bool:
    return type(value) is list and all(isinstance(name, str) for name in value)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


# name -> (where the configs do not say, whether a value is one)
FRONT_SETTINGS: Mapping[str, tuple[Any, Callable[[Any], bool]]] = {
    "metrics": (["f1", "epg", "iou"], _is_names),
    "resolution": (0.005, _is_number),
}


def common_folder(folders: Sequence[Path]) -> Path:
    """The closest folder that holds all; the first where they have nothing in common."""
    if len({folder.resolve() for folder in folders}) == 1:
        return folders[0]
    common = Path(os.path.commonpath([folder.resolve() for folder in folders]))
    if common == Path(common.anchor):
        return folders[0]
    return Path(os.path.relpath(common)) if common.is_relative_to(Path.cwd()) else common
