"""What mkdocs makes while it builds: the config reference, the names of the API, and pages that are files of the root."""

from __future__ import annotations

import re
from importlib import import_module
from inspect import getmodule
from pathlib import Path

from guidance.config.reference import reference
from guidance.experiments.definition.reference import experiment_reference

ROOT = Path(__file__).parents[1]
# A page that is a file of the root, whose links start there.
ROOT_FILES = {"contributing.md": "CONTRIBUTING.md", "changes.md": "CHANGELOG.md"}


def names(module: str) -> list[str]:
    """The public names of a module: its `__all__`, or what is defined in it."""
    found = import_module(module)
    own = [name for name, value in vars(found).items() if not name.startswith("_") and getmodule(value) is found]
    return list(getattr(found, "__all__", own))


def directive(module: str, name: str) -> str:
    """What mkdocstrings documents. A function of a module of its own name is asked for there, or it would be the module."""
    home = getattr(getattr(import_module(module), name), "__module__", module)
    if home != module and home.endswith(f".{name}"):
        return f'<a id="{module}.{name}"></a>\n\n::: {home}.{name}\n\n'
    return f"::: {module}.{name}\n\n"


def api(module: str) -> str:
    """A heading for a module, and what mkdocstrings makes of each of its names."""
    return f"## `{module}`\n\n" + "".join(directive(module, name) for name in names(module))


def on_page_markdown(markdown: str, page, config, files) -> str:
    """Fill the places that a page leaves."""
    place = page.file.src_uri
    if place in ROOT_FILES:
        markdown = (ROOT / ROOT_FILES[place]).read_text().replace("](docs/", "](")
    for mark, content in (("config", reference), ("experiment", experiment_reference)):
        if f"<!-- {mark} reference -->" in markdown:
            markdown = markdown.replace(f"<!-- {mark} reference -->", content())
    return re.sub(r"<!-- names of ([\w.]+) -->", lambda found: api(found[1]), markdown)
