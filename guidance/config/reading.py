"""YAML and `--set a.b=value` -> Config, with one line for every mistake."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from guidance.config.mistakes import explain
from guidance.config.schema import Config, config_type
from guidance.importing import import_recorded


def load_config(path: Path, overrides: Sequence[str] = (), *, imports: Sequence[str] = ()) -> Config:
    """Read a YAML file, apply `a.b=value` overrides and validate. Raises ValueError that names every wrong key.

    `imports`: modules that were imported beside those that the file names, to be recorded with them.
    """
    content = read_content(path)
    change_content(content, read_overrides(overrides))
    if imports:
        content["imports"] = list(dict.fromkeys([*(content.get("imports") or []), *imports]))
    return parse_config(content, source=str(path))


def read_content(
    path: Path, *, what: str = "config", sections: str = "sections such as 'data:' and 'model:'"
) -> dict[str, Any]:
    """What a YAML file of sections holds. Raises ValueError where it is none; `what` and `sections` say what was expected."""
    if path.exists() and not path.is_file():
        raise ValueError(f"the {what} {path} is not a file")
    if not path.is_file():
        folder = path.parent if path.parent.is_dir() else Path("configs")
        names = sorted(p.name for p in folder.glob("*.yaml"))
        close = difflib.get_close_matches(path.name, names, n=1)
        raise ValueError(f"there is no {what} file {path}." + (f" Did you mean {folder / close[0]}?" if close else ""))
    content = _read_yaml(path.read_bytes(), f"{path} is not valid YAML")
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold {sections}, not {type(content).__name__}")
    return content


def override_config(config: Config, overrides: Sequence[str]) -> Config:
    """The config with `a.b=value` changes, validated again."""
    content = config.model_dump(mode="json")
    change_content(content, read_overrides(overrides))
    return parse_config(content)


def parse_config(content: Mapping[str, Any], *, source: str = "config") -> Config:
    """Validate a nested dict; ValueError with one line per mistake, each with the key and what was expected.

    The modules that it names under `imports` are imported before, so that their rows are known.
    """
    import_recorded(content, source=source)
    try:
        return config_type().model_validate(content)
    except ValidationError as error:
        lines = explain(error, config_type())
        raise ValueError(f"{source} is not a valid config:\n" + "\n".join(f"  - {line}" for line in lines)) from None


def dump_config(config: Config) -> str:
    """The resolved config as YAML; `load_config` reads it back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def read_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """`a.b=value` as the command line has them -> {"a.b": value}, the values read as YAML; of a name the last one counts."""
    found: dict[str, Any] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ValueError(f"--set takes a.b=value, not {reprlib.repr(override)}")
        found.pop(key, None)
        found[key] = _read_yaml(text, f"--set {reprlib.repr(override)}: the value is not valid YAML")
    return found


def change_content(content: dict[str, Any], settings: Mapping[str, Any]) -> None:
    """Set {"a.b": value} in nested sections, in order; sections that are not there are made."""
    for key, value in settings.items():
        *sections, name = key.split(".")
        node = content
        for section in sections:
            if not isinstance(node.get(section), dict):
                node[section] = {}
            node = node[section]
        node[name] = value


def _read_yaml(text: str | bytes, wrong: str) -> Any:
    try:
        return yaml.safe_load(text)
    except RecursionError as error:
        raise ValueError(f"{wrong}: it is nested too deep") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{wrong}: {error}") from error
    except Exception as error:  # what tags such as !!timestamp raise on what is none is not documented
        raise ValueError(
            f"{wrong}: a value does not fit its tag (such as !!timestamp), or is out of every range: {error}"
        ) from error
