"""What the sections of a config are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True, protected_namespaces=())


@dataclass(frozen=True)
class FreeOnResume:
    """Marks a setting that a resumed run may change without becoming another run, such as how it survives, or where.

    All others must stay as they are. `unless`: whether it matters to a run of that config after all.
    """

    unless: Callable[[Any], bool] = lambda config: False


FREE = FreeOnResume()


def free_on_resume(config: BaseModel) -> tuple[str, ...]:
    """The dotted names of the settings and sections that a run of that config may change when it is resumed."""

    def walk(section: BaseModel, prefix: str) -> Iterator[str]:
        for name, field in type(section).model_fields.items():
            value = getattr(section, name)
            marks = [mark for mark in field.metadata if isinstance(mark, FreeOnResume)]
            if any(not mark.unless(config) for mark in marks):
                yield prefix + name
            elif isinstance(value, BaseModel):
                yield from walk(value, f"{prefix}{name}.")

    return tuple(walk(config, ""))


def _digits_to_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]  # what generators of torch take
ToText = BeforeValidator(_digits_to_text)  # YAML reads 2014 as a number, but such names are texts
Text = Annotated[str, ToText]
