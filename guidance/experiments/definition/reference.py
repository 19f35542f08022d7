"""The reference of an experiment's file in the docs: each key with its meaning, default and range."""

from __future__ import annotations

from pydantic import BaseModel

from guidance.config.reference import table
from guidance.experiments.definition.json_schema import experiment_schema
from guidance.experiments.definition.schema import EvaluatedSettings, Experiment, StageSettings

BELOW: dict[str, type[BaseModel]] = {"A stage or a group": StageSettings, "An item of `evaluate`": EvaluatedSettings}


def experiment_reference() -> str:
    """Markdown: a table of what stands at the top of the file, and one for each kind of item."""
    schema = experiment_schema()
    tables = {"The file": table(Experiment, schema | {"required": ["base"]})}
    tables |= {title: table(model, schema["$defs"][model.__name__]) for title, model in BELOW.items()}
    return "\n".join(f"## {title}\n\n{rows}" for title, rows in tables.items())
