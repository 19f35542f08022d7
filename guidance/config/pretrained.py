"""What named weights say about the images that they were trained with, as settings of a config."""

from __future__ import annotations

from typing import Any

from guidance.config.data import CommonData
from guidance.config.sections import InputSettings, ModelSettings
from guidance.models import find_backbone

FIXED = ("mean", "std")  # other values would be other images to the weights


def as_trained(model: ModelSettings, data: CommonData) -> tuple[ModelSettings, CommonData]:
    """Both sections, in which what is not set is as the weights were trained with, and these have their own name.

    Weights of a file, and fresh ones, leave everything as it is. Raises ValueError for another mean or standard deviation
    than that of named weights.
    """
    backbone = find_backbone(model.name)
    weights = backbone.aliases.get(model.weights, model.weights)
    found = backbone.formats.get(weights)
    if found is None:
        return model, data
    own = InputSettings.model_validate({name: getattr(found, name) for name in InputSettings.model_fields})
    given = {name: getattr(model.input, name) for name in model.input.model_fields_set}
    for name in FIXED:
        if name in given and given[name] != getattr(own, name):
            raise ValueError(
                f"model.input.{name}: the weights {weights} of {model.name} were trained with {getattr(own, name)}, not "
                f"{given[name]}; leave it out"
            )
    changed: dict[str, Any] = {"weights": weights, "input": own.model_copy(update=given)}
    if "image_size" not in data.model_fields_set:
        data = type(data).model_validate(data.model_dump(exclude_unset=True) | {"image_size": found.image_size})
    return model.model_copy(update=changed), data
