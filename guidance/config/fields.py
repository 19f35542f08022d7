"""What the sections of a config are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from guidance.types import suggestion


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, validate_default=True, protected_namespaces=())


class WithOptions(Section):
    """A section that chooses a row of a table, such as a loss: rows may have options that are no settings of their own here."""

    options: dict[str, Any] = Field(default_factory=dict)  # of the chosen row, by name

    def chosen(self, options: Mapping[str, Any], place: str) -> dict[str, Any]:
        """What this section says about the `options` of a row (name -> default): in a setting of that name, or in `options`.

        Raises ValueError, naming `place`, for an option that the row does not have, or that is a setting of its own.
        """
        settings = type(self).model_fields
        for name in self.options:
            if name in settings:
                raise ValueError(f"{place}.options: set {name} as {place}.{name} instead")
            if name not in options:
                known = ", ".join(options) or "none"
                raise ValueError(
                    f"{place}.options: what is chosen there has no option {name!r}; it takes {known}."
                    f"{suggestion(name, options)}"
                )
        return {name: getattr(self, name) for name in options if name in settings} | self.options

    @model_serializer(mode="wrap")
    def _without_empty_options(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A config that needs no options is stored as it was when there were none.
        content: dict[str, Any] = handler(self)
        if not self.options:
            content.pop("options", None)
        return content


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
