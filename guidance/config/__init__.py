"""The configuration of a run: pydantic models, read from YAML, changed with `--set a.b=value`.

Only entry points and assembly/ see these objects; everything below takes plain keyword arguments. Mistakes are found here,
before anything is loaded.
"""

from guidance.config.fields import free_on_resume
from guidance.config.json_schema import config_schema, dump_schema
from guidance.config.reading import (
    change_content,
    dump_config,
    load_config,
    override_config,
    parse_config,
    read_content,
    read_overrides,
)
from guidance.config.schema import Config, check_processes, config_type

__all__ = [
    "Config",
    "change_content",
    "check_processes",
    "config_schema",
    "config_type",
    "dump_config",
    "dump_schema",
    "free_on_resume",
    "load_config",
    "override_config",
    "parse_config",
    "read_content",
    "read_overrides",
]
