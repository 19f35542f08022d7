"""Config -> net, and the method that explains it."""

from __future__ import annotations

from guidance.attribution import ATTRIBUTIONS, Method, with_lens
from guidance.config import Config
from guidance.config.attributions import AttributionSettings
from guidance.config.modes import MODES
from guidance.models import Classifier, Wrapping, build_model
from guidance.types import lookup


def build_classifier(config: Config, num_classes: int, *, pretrained: bool) -> Classifier:
    """The net of the config; without `pretrained` its weights are fresh, to be replaced by those of a checkpoint."""
    model, mode = config.model, config.mode
    return build_model(
        model.name,
        num_classes=num_classes,
        weights=model.weights if pretrained else None,
        batchnorm=model.batchnorm,
        logit_bias=model.logit_bias,
        drop_path=model.drop_path,
        wrapping=None
        if mode.wrapping is None or mode.layout is None
        else Wrapping(mode.wrapping(config, num_classes), mode.layout),
        layouts=[row.layout for row in MODES.values() if row.layout is not None],
    )


def build_attribution(config: Config) -> tuple[Method, str]:
    """The attribution that evaluation uses, and its depth."""
    settings = config.evaluated_attribution
    return build_method(settings), settings.depth


def build_method(settings: AttributionSettings) -> Method:
    """The method of a section, with its options, and through the lens where it has one."""
    row = lookup(ATTRIBUTIONS, settings.method, "attribution")
    method = row.bind(settings.chosen(settings.method, row, "attribution"))
    lens = settings.lens
    if lens is None:
        return method
    return with_lens(
        method,
        classes=lens.classes,
        inverse_temperatures=lens.inverse_temperatures,
        normalize=lens.normalize,
        magnitude=lens.magnitude,
        threshold=lens.threshold,
    )
