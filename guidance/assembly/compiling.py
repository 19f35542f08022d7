"""Config -> the net as compiled functions: one for training, one for evaluation."""

from __future__ import annotations

import logging

from guidance.assembly.nets import build_method
from guidance.attribution import CompiledNet, check_compilable
from guidance.attribution.compiled import PLAIN
from guidance.config import Config
from guidance.config.attributions import AttributionSettings
from guidance.models import Classifier
from guidance.models.classifier import evaluation_mode

LOG = logging.getLogger(__name__)


def compiled_for_training(config: Config, model: Classifier) -> CompiledNet:
    """Raises ValueError where the net cannot be compiled, or not with the maps that are guided."""
    guided = config.objective.localization.weight > 0
    _check(config, model, config.objective.attribution if guided else None)
    return CompiledNet(model)


def compiled_for_evaluation(config: Config, model: Classifier) -> CompiledNet:
    """Raises ValueError where the net cannot be compiled, or not with the maps that are evaluated."""
    if not model.layerwise_evaluation:
        raise ValueError(
            f"trainer.compile: not every layer of this net is known to offer a pullback (layerwise_evaluation): {PLAIN}"
        )
    with evaluation_mode(model):
        _check(config, model, config.evaluated_attribution)
    return CompiledNet(model)


def compiled_beside_training(config: Config, model: Classifier) -> CompiledNet | None:
    """For the evaluations of a run: None where nothing shall be compiled; nor where it cannot be, of which a line is logged."""
    if not config.trainer.compile:
        return None
    try:
        return compiled_for_evaluation(config, model)
    except ValueError as error:
        LOG.info("the evaluation is not compiled. %s", error)
        return None


def _check(config: Config, model: Classifier, attribution: AttributionSettings | None) -> None:
    size = config.data.image_size
    image = (model.channels or 3, size, size)
    if attribution is None:
        check_compilable(model, image)
        return
    if attribution.lens is not None:
        raise ValueError(
            "trainer.compile: the lens compares classes that are only known after the forward pass, so its maps cannot be a "
            f"part of it; set attribution.lens: none, or {PLAIN}"
        )
    check_compilable(model, image, build_method(attribution), attribution.depth)
