"""AIM (objective.mode: aim): self-supervised masking, guided where the config says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, StrictInt, Tag

from guidance.config.fields import Count, Fraction, NotNegative, Positive, Section
from guidance.config.modes.mode import Mode
from guidance.models import BACKBONES, Backbone, Classifier, find_backbone
from guidance.models.aim import LAYOUT, AIMForm, MaskedClassifier, build_aim, check_stop_stage, estimating_stages
from guidance.objectives import Classification, Localization, Masking, Objective, aim_objective

if TYPE_CHECKING:
    from guidance.config.schema import Config


def _numbers_of_stages(value: object) -> object:
    """Names become numbers: JSON, and `--set aim.threshold.1=0.3`, have texts there, and logs say "stage1"."""
    if not isinstance(value, Mapping):
        return value
    names = {key: key.removeprefix("stage") if isinstance(key, str) else "" for key in value}
    return {int(names[key]) if names[key].isdecimal() else key: share for key, share in value.items()}


def _kind_of(value: object) -> str:
    """Which kind of threshold a value was meant to be, so that a mistake is told once, not for each kind."""
    return "stages" if isinstance(value, Mapping) else "all"


Rate = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(gt=0, le=1)]
# The paper's index of a stage -> its share.
Stages = Annotated[dict[StrictInt, Share], BeforeValidator(_numbers_of_stages)]
Threshold = Annotated[Annotated[Share, Tag("all")] | Annotated[Stages, Tag("stages")], Discriminator(_kind_of)]


class AIMSettings(Section):
    """Self-supervised masking (objective.mode: aim)."""

    stop_stage: int = 2
    """Stages are masked from the coarsest down to this one. ConvNeXt has stages 0 to 3, ResNets have 1 to 4."""
    masking: Literal["top_down", "bottom_up"] = "top_down"
    """Masks come from a pathway down from the coarsest stage, or each masked stage hands only its active cells to the next."""
    estimators: Literal["each", "one"] = "each"
    """A mask estimator for each stage, or one for all, at the coarsest."""
    initialization: Literal["default", "edges"] = "default"
    """Of the mask estimators: edges emphasises the rims of their kernels."""
    auxiliary: bool = True
    """A classifier and a loss for each stage."""
    width: Count = 256
    """Channels of the top-down pathway."""
    mask_width: Count = 32
    """Channels inside a mask estimator."""
    dropout: Rate = 0.3
    """Before each classifier of the top-down pathway."""
    # Not `dropout`, of which stored bottom-up runs hold the default without having used it: they go on to the same numbers.
    classifier_dropout: Rate = 0.0
    """bottom_up: before the net's own classifier."""
    skip: bool = False
    """bottom_up: skip connections past the masks (Fig. 27), which make the sparse maps dense again."""
    temperature: Positive = 1.0
    """Of the straight-through gradient."""
    # As in the code that AIM adapts (Verelst & Tuytelaars 2020). Drawn to the end, cells of probability 0.25 are active in
    # training and never after it.
    noise_until: Fraction = 0.8
    """Share of the epochs in which masks are drawn; then the most probable ones are taken."""
    threshold: Threshold | None = 0.25
    """Share of cells that stay active: of all stages, or {stage: share} for each that has a mask estimator. null: no
    area loss."""
    anneal_start: Annotated[int, Field(ge=0)] = 0
    """Epoch at which the threshold leaves 1."""
    anneal_epochs: Annotated[int, Field(ge=0)] | None = None
    """For how many epochs it falls. null: half of all."""
    area_weight: NotNegative = 6.0
    """Of the area loss (lambda)."""
    area_ratio: Literal["sample", "batch"] = "sample"
    """The area loss looks at the share of active cells of each image, or of a batch."""
    mask_weight: NotNegative = 0.0
    """Of objective.localization.loss on the soft masks, where there are regions."""


# aim.masking -> the settings that only it has
BELONGING = {"top_down": ("estimators", "auxiliary", "width", "dropout"), "bottom_up": ("skip", "classifier_dropout")}


def section(config: Config) -> AIMSettings:
    """The settings of AIM."""
    settings = getattr(config, "aim")  # noqa: B009 (a field that configs get from MODES)
    assert isinstance(settings, AIMSettings)
    return settings


def check(config: Config, backbone: Backbone) -> None:
    """Raise ValueError for settings that AIM cannot be trained with."""
    aim, name = section(config), config.model.name
    if not backbone.channels:
        masked = ", ".join(name for name, row in BACKBONES.items() if row.channels)
        raise ValueError(
            f"objective.mode: aim cannot mask the stages of {name}; it can those of {masked}, and of other nets whose depths "
            "are a pyramid of maps [C, h, w], each coarser than the one before, such as torchvision/mobilenet_v3_small"
        )
    check_stop_stage(aim.stop_stage, backbone.stages, name)
    check_threshold(aim, backbone)
    if config.data.single_label and config.objective.classification == "bce":
        raise ValueError(
            "objective.classification: AIM is trained with cross_entropy where images have one label; set it"
        )
    for masking, fields in BELONGING.items():
        for field in fields if aim.masking != masking else ():
            if getattr(aim, field) != AIMSettings.model_fields[field].default:
                raise ValueError(f"aim.{field}: it belongs to aim.masking: {masking}")
    last = aim.anneal_start + (aim.anneal_epochs or 0)
    if aim.threshold is not None and last >= config.trainer.epochs > 1:
        raise ValueError(
            f"aim.anneal_start, aim.anneal_epochs: the threshold would reach {shown(aim.threshold)} in epoch {last + 1} "
            f"of {config.trainer.epochs}; shorten them, or raise trainer.epochs"
        )
    if aim.area_ratio == "batch" and config.trainer.accumulate > 1:
        raise ValueError("aim.area_ratio: batch needs trainer.accumulate: 1, because chunks do not see the batch")
    if aim.mask_weight > 0 and not config.data.single_label and config.data.classes_per_image == "one":
        raise ValueError("aim.mask_weight: a mask has no class; with several labels set data.classes_per_image: all")


def selects(config: Config) -> list[str]:
    """What selects where only labels are learnt from: then annotations may not decide which checkpoint is kept, either."""
    if config.guides:
        return config.pareto.metrics
    return ["accuracy" if config.data.single_label else "f1"]


def check_threshold(aim: AIMSettings, backbone: Backbone) -> None:
    """Raise ValueError unless thresholds of single stages are those of all stages with a mask estimator, and of no other."""
    if not isinstance(aim.threshold, dict):
        return
    given = ", ".join(map(str, aim.threshold)) or "no stage"
    stages = estimating_stages(backbone.stages, aim.stop_stage, one=aim.estimators == "one")
    if set(aim.threshold) != set(stages):
        raise ValueError(
            f"aim.threshold: it names {given}, but with aim.stop_stage: {aim.stop_stage} and aim.estimators: {aim.estimators} "
            f"the stages that have a mask estimator are {', '.join(map(str, stages))}; give each of these its share, or one "
            "number for all"
        )


def shown(threshold: float | dict[int, float]) -> str:
    """A threshold for people."""
    if isinstance(threshold, dict):
        return ", ".join(f"{share:g} (stage {stage})" for stage, share in threshold.items())
    return f"{threshold:g}"


def depths(config: Config, backbone: Backbone) -> tuple[str, tuple[str, ...]]:
    """What the net is called, and the depths at which it can be explained."""
    aim, name = section(config), config.model.name
    if aim.masking != "top_down":
        return name, backbone.depths
    return f"{name}+AIM[{aim.stop_stage}]", backbone.aim_depths(aim.stop_stage)


def wrapping(config: Config, num_classes: int) -> Callable[[Classifier], Classifier]:
    """AIM around the backbone of the config."""
    return partial(_wrap, section(config), find_backbone(config.model.name), num_classes)


def _wrap(aim: AIMSettings, backbone: Backbone, num_classes: int, plain: Classifier) -> Classifier:
    form = AIMForm(
        masking=aim.masking, estimators=aim.estimators, initialization=aim.initialization, auxiliary=aim.auxiliary,
        width=aim.width, mask_width=aim.mask_width, dropout=aim.dropout, temperature=aim.temperature, skip=aim.skip,
        classifier_dropout=aim.classifier_dropout,
    )  # fmt: skip
    return build_aim(
        plain, backbone.channels, first_stage=backbone.first_stage, stop_stage=aim.stop_stage, num_classes=num_classes,
        form=form,
    )  # fmt: skip


def objective(
    config: Config, model: Classifier, classification: Classification, localization: Localization
) -> Objective:
    """The terms of AIM, and those of guidance."""
    aim, epochs = section(config), config.trainer.epochs
    assert isinstance(model, MaskedClassifier)
    threshold: float | dict[str, float] | None
    if isinstance(aim.threshold, dict):
        threshold = {f"stage{index}": share for index, share in aim.threshold.items()}
    else:
        threshold = aim.threshold
    masking = Masking(
        area_weight=aim.area_weight,
        area_ratio=aim.area_ratio,
        threshold=threshold,
        anneal_start=aim.anneal_start,
        anneal_epochs=epochs // 2 if aim.anneal_epochs is None else aim.anneal_epochs,
        noise_epochs=round(aim.noise_until * epochs) if aim.noise_until < 1 else None,
        mask_weight=aim.mask_weight,
        seed=config.seed,
    )
    return aim_objective(model, masking, classification, localization)


AIM = Mode(
    objective,
    section=AIMSettings,
    check=check,
    depths=depths,
    wrapping=wrapping,
    layout=LAYOUT,
    selects=selects,
    region_weight="mask_weight",
    epochs_matter=True,
)
