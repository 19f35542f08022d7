"""The config reference of the docs: every setting with its meaning, default, range, and whether a resumed run may change it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from guidance.config.data import DATA_SECTIONS, CommonData
from guidance.config.fields import FreeOnResume
from guidance.config.json_schema import config_schema
from guidance.config.mistakes import sections_of
from guidance.config.schema import config_type

HEAD = "| key | default | meaning |\n|---|---|---|\n"
Schema = Mapping[str, Any]


def reference() -> str:
    """Markdown: a heading and a table for each section, and for what each data set has of its own."""
    schema = config_schema()
    parts = [f"## Sections\n\n{table(config_type(), schema)}"]
    for name, field in config_type().model_fields.items():
        if name == "data":
            parts += _data(schema)
        else:
            (model,) = sections_of(field.annotation) or (None,)
            parts += _sections(model, schema, name, _free(field)) if model is not None else []
    return "\n".join(parts)


def _data(schema: Schema) -> Iterator[str]:
    """What all sets have, and what is different in one."""
    defs = schema["$defs"]
    common = _common(defs)
    yield "## `data`\n\nWhat every data set has.\n\n" + table(CommonData, common)
    for name, model in DATA_SECTIONS.items():
        own = defs[model.__name__]
        changed = {k: v for k, v in own["properties"].items() if k != "name" and v != common["properties"].get(k)}
        title = own["properties"]["name"]["description"]
        yield f"## `data.name: {name}`\n\n{title}\n\n" + table(
            model, {"properties": changed, "required": own["required"]}, "data."
        )


def _common(defs: Schema) -> Schema:
    """The settings of CommonData, as the first section has them that changes nothing, with the names of all sets."""
    first = defs[next(iter(DATA_SECTIONS.values())).__name__]
    kept = {name: first["properties"][name] for name in CommonData.model_fields}
    kept["name"] = {"enum": list(DATA_SECTIONS), "description": "The data set."}
    return {"properties": kept, "required": first["required"]}


def _sections(model: type[BaseModel], schema: Schema, name: str, free: str) -> Iterator[str]:
    """A section and those inside it; `free`: what is said of all its settings."""
    content = schema["$defs"][model.__name__]
    said = f"{content['description']}\n\n" if "description" in content else ""
    yield f"## `{name}`\n\n{said}" + table(model, content, free)
    for key, field in model.model_fields.items():
        for inner in sections_of(field.annotation):
            yield from _sections(inner, schema, f"{name}.{key}", free or _free(field))


def table(model: type[BaseModel], content: Schema, inherited: str = "") -> str:
    """A row for each setting; `inherited`: whether the section as a whole may change on resume."""
    rows = []
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    for name, setting in content["properties"].items():
        field = fields.get(name, FieldInfo())  # what is no field is read before the section is, such as `extends`
        inner = sections_of(field.annotation)
        values = "" if inner else _values(setting)
        # A description that is that of the section itself stands there alone.
        said = setting.get("description") or (inner[0].__doc__ if inner else None)
        meaning = [said, f"{values[:1].upper()}{values[1:]}." if values else "", inherited or _free(field)]
        shown = _default(setting, name in content.get("required", ())) if not inner or "anyOf" in setting else ""
        cells = [f"`{name}`", shown, " ".join(filter(None, meaning))]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n")
    return HEAD + "".join(rows) if rows else "It has no settings of its own.\n"


def _free(field: FieldInfo) -> str:
    """Whether a resumed run may change a setting, for people."""
    for mark in field.metadata:
        if isinstance(mark, FreeOnResume):
            return f"*May change on resume, unless {mark.exception}.*" if mark.exception else "*May change on resume.*"
    return ""


def _default(setting: Schema, required: bool) -> str:
    if required:
        return "required"
    value = setting.get("default", {})  # what is made anew for each config stands in no schema; all of it is empty
    return f"`{value}`" if value and isinstance(value, str) else f"`{json.dumps(value)}`"


def _values(setting: Schema) -> str:
    """What a setting may be, for people: its names, or its type and range."""
    choices = setting.get("anyOf") or setting.get("oneOf")
    if choices:
        return " or ".join(filter(None, (_values(choice) for choice in choices if choice.get("type") != "null")))
    if "enum" in setting:
        return ", ".join(f"`{value}`" for value in setting["enum"])
    if "const" in setting:
        return f"`{setting['const']}`"
    kind = setting.get("type")
    if "$ref" in setting:
        return ""
    if kind == "array":
        return f"a list: {_values(setting['items'])}".removesuffix(": ")
    if kind == "object":
        inner = setting.get("additionalProperties")
        return f"a mapping: {_values(inner)}" if isinstance(inner, dict) else "a mapping"
    if kind == "boolean":
        return "`true`, `false`"
    if kind in ("integer", "number"):
        return " ".join(filter(None, ["a whole number" if kind == "integer" else "a number", _range(setting)]))
    if setting.get("format") == "path":
        return "a path"
    return f"a text like `{setting['pattern']}`" if "pattern" in setting else "a text"


def _range(setting: Schema) -> str:
    low, above = setting.get("minimum"), setting.get("exclusiveMinimum")
    high, below = setting.get("maximum"), setting.get("exclusiveMaximum")
    ends = [
        f"above {above:g}" if above is not None else f"from {low:g}" if low is not None else "",
        f"below {below:g}" if below is not None else f"to {high:,}" if high is not None else "",
    ]
    return " ".join(filter(None, ends))
