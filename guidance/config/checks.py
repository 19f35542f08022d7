"""Which settings of different sections fit together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guidance.attribution import ATTRIBUTIONS
from guidance.attribution.lens import find_class_set
from guidance.config.attributions import AttributionSettings, LensSettings
from guidance.config.modes import MODES
from guidance.evaluation.metrics import METRICS, oriented
from guidance.losses import LOCALIZATION_LOSSES
from guidance.models import Backbone, find_backbone
from guidance.types import lookup

if TYPE_CHECKING:
    from guidance.config.schema import Config

# What a metric needs that a setting of the evaluation decides: need -> (setting, its value, what to say otherwise).
EVALUATED: dict[str, tuple[str, str, str]] = {
    "box": ("region", "box", "compares segmentations with boxes; set evaluation.region to box"),
    "all scores": ("scores", "all", "is only computed with evaluation.scores: all"),
}


def check_config(config: Config) -> None:
    """Raise ValueError for the first settings that do not fit together, with what to do."""
    backbone = find_backbone(config.model.name)
    localization = config.objective.localization
    loss = lookup(LOCALIZATION_LOSSES, localization.loss, "objective.localization.loss")
    localization.chosen(localization.loss, loss, "objective.localization")
    if config.mode.check is not None:
        config.mode.check(config, backbone)
    for name, mode in MODES.items():
        if (
            name != config.objective.mode
            and mode.section is not None
            and getattr(config, name, None) not in (None, mode.section())
        ):
            raise ValueError(f"{name}: these settings need objective.mode: {name}")
    check_attributions(config, backbone)
    check_objective(config)
    if config.trainer.compile and config.trainer.checkpoint_activations:
        raise ValueError(
            "trainer.compile decides by itself what is computed again instead of being kept: set "
            "trainer.checkpoint_activations: false, or trainer.compile: false"
        )
    if config.trainer.checkpoint_activations and config.model.batchnorm == "sync":
        raise ValueError(
            "trainer.checkpoint_activations: with model.batchnorm: sync a part of the net that is computed again asks all "
            "processes for their statistics, and one without annotated images would not be there; use frozen or local"
        )
    if reason := backbone.refuses_size(config.data.image_size, config.model.name):
        raise ValueError(f"data.image_size: {reason}")
    check_metrics(config)
    for place, region in (("data", config.data.region), ("evaluation", config.evaluation.region)):
        if region == "segment" and "segmentations" not in config.data.offers:
            raise ValueError(f"{place}.region: {config.data.name} has no segmentations; use 'box'")


def check_objective(config: Config) -> None:
    """Raise ValueError for a loss that these data cannot be trained with."""
    objective = config.objective
    if objective.classification == "cross_entropy" and not config.data.single_label:
        raise ValueError(
            f"objective.classification: images of {config.data.name} have several labels; use 'bce' instead of cross_entropy"
        )
    if objective.label_smoothing and objective.classification != "cross_entropy":
        raise ValueError("objective.label_smoothing: it belongs to objective.classification: cross_entropy")
    if config.guides and config.data.annotated_fraction == 0:
        raise ValueError(
            f"{config.guiding_settings} is above 0 but data.annotated_fraction is 0: guidance needs annotated images"
        )


def check_attributions(config: Config, backbone: Backbone) -> None:
    """Those that are used: a depth that is left over from another net does no harm where nothing is guided."""
    guided, own = config.objective.attribution, config.evaluation.attribution
    lookup(ATTRIBUTIONS, guided.method, "objective.attribution.method")
    where = {
        name: "objective" if getattr(own, name) is None else "evaluation"
        for name in ("method", "depth", "options", "lens")
    }
    used = [(config.evaluated_attribution, where)]
    if config.objective.localization.weight > 0:
        used.insert(0, (guided, dict.fromkeys(where, "objective")))
        if not ATTRIBUTIONS[guided.method].trainable:
            raise ValueError(
                f"objective.attribution.method: a loss on the maps of {guided.method} cannot be trained through"
                f"{ATTRIBUTIONS[guided.method].untrainable}; set evaluation.attribution to look at them, and guide another"
            )
    for attribution, place in used:
        check_attribution(config, backbone, attribution, place)


def check_attribution(
    config: Config, backbone: Backbone, attribution: AttributionSettings, place: dict[str, str]
) -> None:
    """Raise ValueError for a method or depth that the net does not have; `place`: the section that each comes from."""
    method = lookup(ATTRIBUTIONS, attribution.method, f"{place['method']}.attribution.method")
    lacks = method.refuses(backbone.traits)
    if lacks:
        gives = ", ".join(name for name, row in ATTRIBUTIONS.items() if not row.refuses(backbone.traits))
        raise ValueError(
            f"{place['method']}.attribution.method: {config.model.name} cannot give {attribution.method!r}, which needs "
            f"{lacks}; it gives {gives}"
        )
    attribution.chosen(attribution.method, method, f"{place['options']}.attribution")
    if attribution.lens is not None:
        check_lens(config, attribution.lens, f"{place['lens']}.attribution.lens")
    net, depths = config.mode.depths(config, backbone)
    if attribution.depth not in depths:
        raise ValueError(
            f"{place['depth']}.attribution.depth: {net} has no depth {attribution.depth!r}; it has {', '.join(depths)}"
        )
    # What a mode has put around a backbone comes with layers of its own.
    centred = backbone.centred if config.mode.wrapping is None else ()
    if reason := method.refuses_depth(attribution.depth, centred):
        raise ValueError(
            f"{place['depth']}.attribution.depth: {attribution.method} has no map at {attribution.depth!r}: {reason}; set "
            f"{place['method']}.attribution.depth to {method.depth}"
        )


def check_lens(config: Config, lens: LensSettings, place: str) -> None:
    """Raise ValueError for a set of competing classes in which, on these data, nothing competes."""
    if isinstance(lens.classes, str) and find_class_set(lens.classes)[0].choose is None and config.data.single_label:
        raise ValueError(
            f"{place}.classes: images of {config.data.name} have one class, so that under {lens.classes} nothing competes "
            "with it; use another set, such as top2"
        )


def check_metrics(config: Config) -> None:
    """Raise ValueError for metrics that cannot select, or that these data and this evaluation do not have."""
    if len(set(config.pareto.metrics)) < len(config.pareto.metrics):
        raise ValueError(f"pareto.metrics: a metric is named twice in {', '.join(config.pareto.metrics)}")
    names = {f"pareto.metrics[{i}]": name for i, name in enumerate(config.pareto.metrics)}
    if config.trainer.early_stop is not None:
        names["trainer.early_stop.metric"] = config.trainer.early_stop.metric
    for place, name in names.items():
        check_metric(config, place, name)


def check_metric(config: Config, place: str, name: str) -> None:
    """Raise ValueError unless the metric `name`, which the setting `place` asks for, can select here."""
    row = lookup(METRICS, name, f"metric ({place})")
    try:
        oriented(name, 0.0)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    if row.higher_is_better is False and place.startswith("trainer"):
        raise ValueError(f"{place}: more {name} is not better, so there is no minimum to reach; use another metric")
    for need in row.needs:
        setting, value, message = EVALUATED.get(need, ("", "", ""))
        if setting and getattr(config.evaluation, setting) != value:
            raise ValueError(f"{place}: {name} {message}")
        if not setting and need not in ("regions", *config.data.offers):  # of regions only the data can tell
            raise ValueError(f"{place}: {name} needs {need}, which {config.data.name} does not have")
