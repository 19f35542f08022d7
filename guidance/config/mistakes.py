"""What pydantic found wrong with a file of sections, a line for each mistake, under the names that the file uses."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from guidance.config.data import DATA_SECTIONS
from guidance.types import suggestion


def explain(error: ValidationError, root: type[BaseModel]) -> list[str]:
    """A line for each mistake: the dotted key, what was expected, what was given, and for an unknown key the closest one.

    `root`: the model that was validated.
    """
    return [_explain(detail, root) for detail in error.errors()]


def _explain(detail: ErrorDetails, root: type[BaseModel]) -> str:
    where, model = _locate(detail["loc"], root)
    if detail["type"] == "extra_forbidden" and model is not None:
        known = [field.alias or name for name, field in model.model_fields.items()]
        hint = suggestion(str(detail["loc"][-1]), known)
        return f"{where}: unknown key; known here: {', '.join(known)}.{hint}"
    if detail["type"] == "value_error":
        message = detail["msg"].removeprefix("Value error, ")
        return f"{where}: {message}" if where else message
    known_input = detail["type"] not in ("missing", "union_tag_not_found")
    given = f" (given: {reprlib.repr(detail['input'])})" if known_input else ""
    return f"{where}: {detail['msg']}{given}"


def _locate(loc: Sequence[int | str], root: type[BaseModel]) -> tuple[str, type[BaseModel] | None]:
    """The dotted key of an error, without the tags of unions, and the section that holds its last part."""
    annotation: Any = root  # of what the names so far lead to
    parent: type[BaseModel] | None = root
    names: list[str] = []
    for part in loc:
        if names == ["data"] and part in DATA_SECTIONS:
            annotation = DATA_SECTIONS[str(part)]
            continue
        item = _items_of(annotation)
        model = next(iter(sections_of(annotation)), None)
        if model is None and item is None and isinstance(part, str):
            continue  # the branch of a union of plain types
        parent = model
        names.append(str(part))
        if model is not None:
            fields = {field.alias or name: field for name, field in model.model_fields.items()}
            annotation = fields[str(part)].annotation if part in fields else None
        else:
            annotation = item
    return ".".join(names), parent


def _items_of(annotation: Any) -> Any:
    """What a `dict[str, X]`, or a `list[X]` of sections, holds; None of all else."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is dict:
        return arguments[-1]
    return arguments[-1] if origin is list and sections_of(arguments[-1]) else None


def sections_of(annotation: Any) -> list[type[BaseModel]]:
    """The sections inside an annotation such as `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, UnionType, Annotated):
        return [model for part in get_args(annotation) for model in sections_of(part)]
    return []
