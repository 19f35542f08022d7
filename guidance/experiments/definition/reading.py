"""The file of an experiment, and others that it extends -> `Experiment`, with one line for every mistake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from guidance.config import read_content, read_overrides
from guidance.config.mistakes import explain
from guidance.experiments.definition.schema import Experiment

EXTENDS = "extends"


def load_experiment(path: Path, overrides: Sequence[str] = ()) -> Experiment:
    """Read the file of an experiment; `overrides`, `a.b=value`, change a config setting in all of its runs.

    `extends: FILE` (relative to the file) takes over all that FILE says: sections are joined, everything else is replaced, and
    null removes. Raises ValueError, with one line for each mistake.
    """
    content = _read(path, ())
    _override(content, read_overrides(overrides), str(path))
    return parse_experiment({"name": path.stem} | content, source=str(path))


def parse_experiment(content: Mapping[str, Any], *, source: str = "experiment") -> Experiment:
    """Validate a nested dict; ValueError with one line per mistake, each with the key and what was expected."""
    try:
        return Experiment.model_validate(content)
    except ValidationError as error:
        lines = explain(error, Experiment)
        message = f"{source} is not a valid experiment:\n" + "\n".join(f"  - {line}" for line in lines)
        raise ValueError(message) from None


def dump_experiment(experiment: Experiment) -> str:
    """The resolved experiment as YAML; `load_experiment` reads it back."""
    content = experiment.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return yaml.safe_dump(content, sort_keys=False)


def _read(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    content = read_content(path, what="experiment", sections="keys such as 'base:' and 'groups:'")
    if path.resolve() in above:
        raise ValueError(f"{path} extends itself, through {', '.join(str(p) for p in above)}")
    parts = [content]
    for section in ("stages", "groups"):
        parts += [part for part in _mapping(content.get(section)).values() if isinstance(part, dict)]
    for part in parts:
        if isinstance(part.get("base"), str):
            part["base"] = str((path.parent / part["base"]).resolve())
    extended = content.pop(EXTENDS, None)
    if extended is None:
        return content
    if not isinstance(extended, str):
        raise ValueError(f"{path}: {EXTENDS} is the path of an experiment file, not {extended!r}")
    return merge(_read(path.parent / extended, (*above, path.resolve())), content)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`: sections are joined, all else is replaced, and None removes what is there."""
    merged = dict(below)
    for key, value in above.items():
        if value is None and key in merged:
            del merged[key]
        elif isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def _override(content: dict[str, Any], settings: Mapping[str, Any], source: str) -> None:
    """Put settings of the command line where they hold for all runs. ValueError for one that a group varies."""
    if not settings:
        return
    for section in ("stages", "groups"):
        for name, part in _mapping(content.get(section)).items():
            points = part.get("list") if isinstance(part, dict) else None
            varied = [part.get("grid")] if isinstance(part, dict) else []
            varied += points if isinstance(points, list) else []
            for setting in settings:
                if any(setting in _mapping(values) for values in varied):
                    raise ValueError(f"--set {setting}: {section}.{name} of {source} varies it; change it there")
                if isinstance(part, dict) and isinstance(part.get("set"), dict):
                    part["set"].pop(setting, None)
    if "seed" in settings:
        raise ValueError("--set seed: choose among the seeds of the file with --seeds")
    content["set"] = {k: v for k, v in _mapping(content.get("set")).items() if k not in settings} | dict(settings)
