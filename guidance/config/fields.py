"""What the sections of a config are made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Protocol

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
)
from pydantic_core import CoreSchema

from guidance.types import check_options


class Section(BaseModel):
    """Its settings are described by the text below each: for the JSON schema, and for the config reference of the docs."""

    model_config = ConfigDict(
        extra="forbid",
        allow_inf_nan=False,
        validate_default=True,
        protected_namespaces=(),
        use_attribute_docstrings=True,
    )


class HasOptions(Protocol):
    """A row of a table, such as a loss, as far as its options go."""

    @property
    def options(self) -> Mapping[str, Any]: ...  # name -> default
    @property
    # those that have a setting of their own in the section that chooses the row
    def settings(self) -> Sequence[str]: ...


def _of_type(value: Any, default: Any) -> bool:
    """Whether an option may have this value: a number for a number, a bool for a bool alone; anything for None."""
    if default is None:
        return True
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, float):
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(value, type(default))


class WithOptions(Section):
    """A section that chooses a row of a table, such as a loss: rows may have options that are no settings of their own here."""

    options: dict[str, Any] = Field(default_factory=dict)
    """Options of what the section chooses, by name, that have no setting of their own, such as those of a loss of your own."""
    # A config that does not use these is stored as it was when there were none.
    unstored: ClassVar[Sequence[str]] = ("options",)

    def chosen(self, name: str, row: HasOptions, place: str) -> dict[str, Any]:
        """What this section says about the options of the `row` that it calls `name`: in its own settings, or in `options`.

        Raises ValueError, naming `place`, for an option that the row does not have, that is a setting of its own, or whose
        value is of another type than the default.
        """
        own = [option for option in row.options if option not in row.settings]
        for option, value in self.options.items():
            if option in row.settings:
                raise ValueError(f"{place}.options: set {option} as {place}.{option} instead")
            check_options([option], own, f"{place}.options: {name}")
            default = row.options[option]
            if not _of_type(value, default):
                raise ValueError(
                    f"{place}.options: {option} of {name} is a {type(default).__name__}, such as {default!r}, not {value!r}"
                )
        return {setting: getattr(self, setting) for setting in row.settings} | self.options

    @model_serializer(mode="wrap")
    def _without_what_is_empty(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        return {name: value for name, value in content.items() if value or name not in self.unstored}


@dataclass(frozen=True)
class FreeOnResume:
    """Marks a setting that a resumed run may change without becoming another run, such as how it survives, or where.

    All others must stay as they are. `unless`: whether it matters to a run of that config after all; `exception` says when that
    is, for people.
    """

    unless: Callable[[Any], bool] = lambda config: False
    exception: str = ""


FREE = FreeOnResume()


@dataclass(frozen=True, eq=False)
class NameIn:
    """Marks a setting that is a name of a table, which may still grow, so that the JSON schema lists the names."""

    table: Mapping[str, object]
    others: bool = False  # names that are not in the table are possible, too

    def __get_pydantic_json_schema__(self, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema, names = handler(core_schema), {"type": "string", "enum": list(self.table)}
        return {**schema, "anyOf": [names, {"type": "string"}]} if self.others else {**schema, **names}


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
