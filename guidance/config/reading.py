"""YAML and `--set a.b=value` -> Config, with one line for every mistake."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from guidance.config.data import DATA_SECTIONS
from guidance.config.schema import Config, config_type
from guidance.types import suggestion


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, apply `a.b=value` overrides and validate. Raises ValueError that names every wrong key."""
    if path.exists() and not path.is_file():
        raise ValueError(f"the config {path} is not a file")
    if not path.is_file():
        folder = path.parent if path.parent.is_dir() else Path("configs")
        names = sorted(p.name for p in folder.glob("*.yaml"))
        close = difflib.get_close_matches(path.name, names, n=1)
        raise ValueError(f"there is no config file {path}." + (f" Did you mean {folder / close[0]}?" if close else ""))
    content = _read_yaml(path.read_bytes(), f"{path} is not valid YAML")
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold sections such as 'data:' and 'model:', not {type(content).__name__}")
    for override in overrides:
        _apply(content, override)
    return parse_config(content, source=str(path))


def override_config(config: Config, overrides: Sequence[str]) -> Config:
    """The config with `a.b=value` changes, validated again."""
    content = config.model_dump(mode="json")
    for override in overrides:
        _apply(content, override)
    return parse_config(content)


def parse_config(content: Mapping[str, Any], *, source: str = "config") -> Config:
    """Validate a nested dict; ValueError with one line per mistake, each with the key and what was expected."""
    try:
        return config_type().model_validate(content)
    except ValidationError as error:
        lines = [_explain(detail) for detail in error.errors()]
        raise ValueError(f"{source} is not a valid config:\n" + "\n".join(f"  - {line}" for line in lines)) from None


def dump_config(config: Config) -> str:
    """The resolved config as YAML; `load_config` reads it back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _apply(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ValueError(f"--set takes a.b=value, not {reprlib.repr(override)}")
    *sections, name = key.split(".")
    node = content
    for section in sections:
        if not isinstance(node.get(section), dict):
            node[section] = {}
        node = node[section]
    node[name] = _read_yaml(text, f"--set {reprlib.repr(override)}: the value is not valid YAML")


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


def _explain(detail: ErrorDetails) -> str:
    where, model = _locate(detail["loc"])
    if detail["type"] == "extra_forbidden" and model is not None:
        hint = suggestion(str(detail["loc"][-1]), model.model_fields)
        return f"{where}: unknown key; known here: {', '.join(model.model_fields)}.{hint}"
    if detail["type"] == "value_error":
        message = detail["msg"].removeprefix("Value error, ")
        return f"{where}: {message}" if where else message
    known = detail["type"] not in ("missing", "union_tag_not_found")
    given = f" (given: {reprlib.repr(detail['input'])})" if known else ""
    return f"{where}: {detail['msg']}{given}"


def _locate(loc: Sequence[int | str]) -> tuple[str, type[BaseModel] | None]:
    """The dotted key of an error, without the tags of unions, and the section that holds its last part."""
    model: type[BaseModel] | None = config_type()
    parent = model
    names: list[str] = []
    for part in loc:
        if names == ["data"] and part in DATA_SECTIONS:
            model = DATA_SECTIONS[str(part)]
            continue
        if model is None and isinstance(part, str):
            continue  # the branch of a union of plain types
        parent = model
        names.append(str(part))
        field = model.model_fields.get(str(part)) if model is not None else None
        inner = sections_of(field.annotation) if field is not None else []
        model = inner[0] if inner else None
    return ".".join(names), parent


def sections_of(annotation: Any) -> list[type[BaseModel]]:
    """The sections inside an annotation such as `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return [model for part in get_args(annotation) for model in sections_of(part)]
    return []
