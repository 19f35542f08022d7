"""The sections of a config, except those of data sets (data.py) and of training modes (modes/)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from guidance.config.fields import FREE, Count, Fraction, FreeOnResume, NotNegative, Positive, Section, WithOptions


class ModelSettings(Section):
    name: str = "resnet50"
    weights: str = "none"  # none | imagenet | bcos-v2 | xdnn | PATH of a state dict or checkpoint
    batchnorm: Literal["local", "sync", "frozen"] = "local"
    logit_bias: Literal["published", "classes"] = "published"  # of B-cos nets: ln(0.001 / 0.999), or -ln(K - 1)
    drop_path: Fraction | None = None  # of the last residual branch, falling to 0 at the first; None: the net's own


class LocalizationSettings(WithOptions):
    loss: str = "energy"
    weight: NotNegative = 0.0  # lambda; 0 trains without guidance
    alpha: NotNegative = 0.5  # energy_star: exponent of the box size
    area: Literal["pixels", "fraction"] = "pixels"  # energy_star: unit of the box size


class AttributionSettings(WithOptions):
    method: str = "ixg"
    depth: str = "input"
    steps: Count = 20  # intgrad: points of the quadrature


class EvaluatedAttributionSettings(WithOptions):
    """What is left out is as in objective.attribution, so that another method keeps the depth of the run."""

    method: str | None = None
    depth: str | None = None
    steps: Count | None = None


class ObjectiveSettings(Section):
    mode: str = "guided"  # a name in MODES
    classification: Literal["bce", "cross_entropy"] = "bce"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0  # cross_entropy only
    class_weights: Literal["none", "balanced"] | list[Positive] = "none"  # balanced: 1 / frequency, largest 1
    weighting: Literal["sample", "class"] = "sample"  # what a class weight multiplies: an image's loss, or one output's
    reduction: Literal["sum", "mean"] = "sum"  # of the localisation loss over the annotated images of a batch
    localization: LocalizationSettings = LocalizationSettings()
    attribution: AttributionSettings = AttributionSettings()


class OptimizerSettings(Section):
    name: Literal["adam", "adamw", "sgd"] = "adam"
    lr: Positive = 1e-4
    backbone_lr: Positive | None = None  # of all but the classifier, or all but what AIM adds; None: lr
    weight_decay: NotNegative = 0.0
    momentum: Fraction = 0.9  # sgd only


class ScheduleSettings(Section):
    name: Literal["constant", "cosine", "step"] = "constant"
    warmup_epochs: NotNegative = 0.0  # linear, from 1 % of the learning rate
    step_epochs: Positive = 30.0  # step: epochs between two reductions
    gamma: Fraction = 0.1  # step: factor of a reduction


class EarlyStopSettings(Section):
    metric: str = "f1"
    minimum: float = 0.0  # stop when the best value so far is lower ...
    epochs: Count = 2  # ... after this many epochs


class TrainerSettings(Section):
    # Their number decides the learning rate of every step, or, in some modes, when something ends.
    epochs: Annotated[Count, FreeOnResume(unless=lambda c: c.schedule.name == "cosine" or c.mode.epochs_matter)] = 50
    batch_size: Count = 64  # of all processes together
    accumulate: Count = 1  # chunks into which each process splits its share of a batch
    clip_norm: Positive | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Annotated[Literal["auto", "cpu", "cuda"], FREE] = "auto"
    checkpoint_every: Annotated[Count | None, FREE] = None  # steps between checkpoints within an epoch
    early_stop: Annotated[EarlyStopSettings | None, FREE] = None


class EvaluationSettings(Section):
    batch_size: Annotated[Count, FREE] = 16  # of each process
    region: Literal["box", "segment", "best"] = "box"  # what EPG and IoU are measured against
    scores: Literal["standard", "all"] = "standard"  # all: also region attribution, and precision and recall of pixels
    pixel_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of the largest value; above it a pixel is active
    pixel_map: Literal["raw", "blurred"] = "raw"  # which map is compared with it: see scores.pixel_scores
    blur: Positive = 2.0  # standard deviation in pixels, of region attribution and of blurred pixels
    attribution: Annotated[EvaluatedAttributionSettings, BeforeValidator(lambda v: {} if v is None else v)] = (
        EvaluatedAttributionSettings()
    )
    crop: Literal["none", "center", "shifted", "shifted_center"] = "none"  # of the images of every evaluated split
    shift: Annotated[float, Field(ge=0, lt=0.5)] = (
        0.25  # of the centre, as a share of the short side; for shifted crops
    )
    iou_threshold: Fraction | Literal["fit"] = 0.5  # fit: best on the validation split, kept in the checkpoint
    # Share of the validation images on which alone it is fitted; they are left out of all other metrics of that split.
    threshold_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0


class ParetoSettings(Section):
    metrics: list[str] = Field(default=["f1", "epg", "iou"], min_length=1)
    resolution: NotNegative = 0.005


class LogSettings(Section):
    every: Count = 10  # steps
    tensorboard: bool = True
    probe_images: Annotated[int, Field(ge=0)] = 8  # validation images whose maps are shown after each epoch
