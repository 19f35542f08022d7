"""The JSON schema of an experiment's file, with which editors complete and check it, down to the settings of its runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from guidance.config.json_schema import config_schema, schema_of
from guidance.experiments.definition.reading import EXTENDS
from guidance.experiments.definition.schema import Experiment

CONFIG_SCHEMA = "../schema.json"  # from where the file of this schema lies, configs/experiments
Schema = dict[str, Any]


def experiment_schema() -> Schema:
    """The schema of every experiment; what a setting of a run may be is said by that of configs."""
    schema = schema_of(Experiment)
    sections, properties = schema["$defs"], schema["properties"]
    for section in (schema, *sections.values()):
        _refer_to_settings(section["properties"])
    evaluated = properties["evaluate"]
    evaluated["anyOf"] = [
        evaluated.pop("items"),
        {"type": evaluated.pop("type"), "items": {"$ref": "#/$defs/EvaluatedSettings"}},
    ]
    for name in ("stages", "groups"):
        (named,) = properties[name]["patternProperties"].values()
        # null removes one of the file that is extended.
        named["anyOf"] = [{"$ref": named.pop("$ref")}, {"type": "null"}]
        properties[name]["additionalProperties"] = False
    properties[EXTENDS] = {
        "anyOf": [{"type": "string", "format": "path"}, {"type": "null"}],
        "default": None,
        "description": "Another experiment, relative to the file, from which all is taken that is not said here. null: none.",
    }
    schema["anyOf"] = [{"required": schema.pop("required")}, {"required": [EXTENDS]}]
    sections["Settings"], sections["Grid"] = _settings()
    return schema


def dump_experiment_schema() -> str:
    """The schema as the text of `configs/experiments/schema.json`."""
    return json.dumps(experiment_schema(), indent=1) + "\n"


def _refer_to_settings(properties: dict[str, Schema]) -> None:
    """In place: what a section says of a run's settings is checked as they are in a config."""
    meant = {"set": {"$ref": "#/$defs/Settings"}, "grid": {"$ref": "#/$defs/Grid"}}
    for name in meant.keys() & properties.keys():
        properties[name] = {key: properties[name][key] for key in ("description", "default")} | meant[name]
    if "list" in properties:
        properties["list"]["items"] = meant["set"]
    for choice in properties.get("base", {}).get("anyOf", ()):
        if choice.get("type") == "object":
            choice.clear()
            choice["$ref"] = CONFIG_SCHEMA


def _settings() -> tuple[Schema, Schema]:
    """Settings by their dotted names, with one value and with a list of values each."""
    config = config_schema()
    different: dict[str, list[tuple[str, Schema]]] = {}  # by name: each data set has its own, of which most are equal
    for name, pointer, setting in _walk(config, "", "#", config["$defs"]):
        known = different.setdefault(name, [])
        if all(setting != other for _, other in known):
            known.append((pointer, setting))
    properties = {
        name: {"anyOf": [{"$ref": f"{CONFIG_SCHEMA}{pointer}"} for pointer, _ in found]}
        for name, found in different.items()
    }
    of_rows = r"\.options\.[^.]+$"  # options of a loss or an attribution, which have no settings of their own
    grid = {name: _several({"$ref": f"#/$defs/Settings/properties/{name}"}) for name in properties}
    closed = {"type": "object", "additionalProperties": False}
    return (
        closed | {"properties": properties, "patternProperties": {of_rows: {}}},
        closed | {"properties": grid, "patternProperties": {of_rows: _several({})}},
    )


def _several(value: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "items": value}


def _walk(section: Schema, prefix: str, pointer: str, defs: Schema) -> Iterator[tuple[str, str, Schema]]:
    """The dotted name of each setting, its place in the schema and what stands there; one of data as often as sets have it."""
    for name, setting in section["properties"].items():
        yield f"{prefix}{name}", f"{pointer}/properties/{name}", setting
        choices = (setting, *setting.get("anyOf", ()), *setting.get("oneOf", ()))
        for inner in (choice["$ref"].rpartition("/")[2] for choice in choices if "$ref" in choice):
            yield from _walk(defs[inner], f"{prefix}{name}.", f"#/$defs/{inner}", defs)
