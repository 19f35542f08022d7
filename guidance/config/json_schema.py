"""The JSON schema of a config, with which editors complete and check the YAML."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from guidance.config.schema import config_type


class _WithoutTitles(GenerateJsonSchema):
    """Titles would say the names of settings again."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a section and those inside it; descriptions stand on one line."""
    schema = model.model_json_schema(schema_generator=_WithoutTitles)
    for section in (schema, *schema["$defs"].values()):
        for field in section.get("properties", {}).values():
            if "description" in field:
                field["description"] = " ".join(field["description"].split())
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def config_schema() -> dict[str, Any]:
    """The schema of every config with the data sets, modes, nets, losses and attributions of the tables as they are now."""
    return schema_of(config_type())


def dump_schema() -> str:
    """The schema as the text of `configs/schema.json`."""
    return json.dumps(config_schema(), indent=1) + "\n"
