"""The sections of a config, except those of data sets (data.py) and of training modes (modes/)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer

from guidance.config.attributions import AttributionSettings, EvaluatedAttributionSettings
from guidance.config.fields import (
    FREE,
    Count,
    Fraction,
    FreeOnResume,
    NameIn,
    NotNegative,
    Positive,
    Section,
    WithOptions,
)
from guidance.config.modes import MODES
from guidance.data.transforms.crops import USUAL
from guidance.data.transforms.encodings import MEAN, STD
from guidance.evaluation.metrics import METRICS
from guidance.losses import LOCALIZATION_LOSSES
from guidance.models import BACKBONES

Channels = Annotated[list[float], Field(min_length=3, max_length=3)]  # red, green, blue


class InputSettings(Section):
    """How images are made the input of the net. What is left out is as the weights were trained with, if they have a name or
    are of a run."""

    mean: Channels = Field(default=[*MEAN])
    """Subtracted from red, green and blue, of nets that take normalised images."""
    std: Annotated[list[Positive], Field(min_length=3, max_length=3)] = Field(default=[*STD])
    """What each is divided by then."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """How images are resized."""
    crop_pct: Annotated[float, Field(gt=0, le=1)] = USUAL.crop_pct
    """With the crop center: its side as a share of the short side."""


class ModelSettings(Section):
    name: Annotated[str, NameIn(BACKBONES, others=True)] = "resnet50"
    """The net: of the table, torchvision/NAME, timm/NAME, or package.module:function, which takes the number of classes and
    returns a net. resnet8 is for images of about 32 pixels; a vit takes any data.image_size that is a multiple of its patch."""
    weights: str = "none"
    """Where it starts: none (drawn by the seed), weights by name (imagenet, bcos-v2, bcos-v2-long, xdnn; of torchvision's and
    timm's nets by their names there), or the path of a state dict or checkpoint."""
    input: InputSettings = InputSettings()
    """How images are made its input."""
    batchnorm: Literal["local", "sync", "frozen"] = "local"
    """Statistics of each process, of all processes (and differentiable twice), or those of the weights, kept."""
    logit_bias: Literal["published", "classes"] = "published"
    """Of B-cos nets: ln(0.001 / 0.999) for any number K of classes, or -ln(K - 1)."""
    drop_path: Fraction | None = None
    """Of ConvNeXt: the probability at the last residual branch, falling to 0 at the first. null: the net's own."""

    @model_serializer(mode="wrap")
    def _without_usual_input(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A config of usual images is stored as it was when there were no others.
        content: dict[str, Any] = handler(self)
        if self.input == InputSettings():
            content.pop("input", None)
        return content


class LocalizationSettings(WithOptions):
    loss: Annotated[str, NameIn(LOCALIZATION_LOSSES)] = "energy"
    """How far a map is from its mask."""
    weight: NotNegative = 0.0
    """Of the localisation loss (lambda); 0 trains without guidance."""
    alpha: NotNegative = 0.5
    """energy_star: exponent of the box size."""
    area: Literal["pixels", "fraction"] = "pixels"
    """energy_star: unit of the box size."""


class ObjectiveSettings(Section):
    mode: Annotated[str, NameIn(MODES)] = "guided"
    """The training mode."""
    classification: Literal["bce", "cross_entropy"] = "bce"
    """Sigmoids, or a softmax for classes that exclude each other."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """cross_entropy only."""
    class_weights: Literal["none", "balanced"] | list[Positive] = "none"
    """none, balanced (1 / frequency, the largest 1), or a list, one for each class."""
    weighting: Literal["sample", "class"] = "sample"
    """What a class weight multiplies: an image's loss, or that of one output."""
    reduction: Literal["sum", "mean"] = "sum"
    """Of the localisation loss over the annotated images of a batch: sum, as in the published code, or mean."""
    localization: LocalizationSettings = LocalizationSettings()
    """The loss on the maps."""
    attribution: AttributionSettings = AttributionSettings()
    """The maps that are guided, and evaluated unless evaluation.attribution says otherwise."""

    @property
    def exclusive(self) -> bool:
        """Whether the classes exclude each other, so that a net's probabilities are a softmax over them; else sigmoids."""
        return self.classification == "cross_entropy"


class OptimizerSettings(Section):
    name: Literal["adam", "adamw", "sgd"] = "adam"
    """The optimizer."""
    lr: Positive = 1e-4
    """Learning rate, of the classifier alone where backbone_lr is set."""
    backbone_lr: Positive | None = None
    """Of all but the classifier, or of all but what AIM adds. null: lr."""
    weight_decay: NotNegative = 0.0
    """Of all weights."""
    momentum: Fraction = 0.9
    """sgd only."""


class ScheduleSettings(Section):
    name: Literal["constant", "cosine", "step"] = "constant"
    """Of the learning rate."""
    warmup_epochs: NotNegative = 0.0
    """Linear, from 1 % of the learning rate."""
    step_epochs: Positive = 30.0
    """step: epochs between two reductions."""
    gamma: Fraction = 0.1
    """step: factor of a reduction."""


class EarlyStopSettings(Section):
    metric: Annotated[str, NameIn(METRICS, others=True)] = "f1"
    """Stop by this metric ..."""
    minimum: float = 0.0
    """... when its best value so far is lower than this ..."""
    epochs: Count = 2
    """... after this many epochs."""


def _not_fp16(precision: object) -> object:
    if precision == "fp16":
        raise ValueError(
            "fp16 is not offered: gradients below 6e-8 become zero in it, and a factor on the loss, as of a gradient scaler, "
            "does not reach those that maps are made of, which are taken before there is a loss. Use bf16, which has the "
            "range of fp32, or fp32 (docs/reference/precision.md)"
        )
    return precision


# Their number decides the learning rate of every step, or, in some modes, when something ends.
EPOCHS = FreeOnResume(
    unless=lambda config: config.schedule.name == "cosine" or config.mode.epochs_matter,
    exception="schedule.name is cosine, or objective.mode is aim",
)


class TrainerSettings(Section):
    epochs: Annotated[int, Field(ge=0), EPOCHS] = 50
    """Passes over the training images; 0 evaluates the weights that the run starts from, and keeps them."""
    batch_size: Count = 64
    """Images of a step, of all processes together."""
    accumulate: Count = 1
    """Chunks into which each process splits its share of a batch."""
    clip_norm: Positive | None = None
    """Largest norm of the gradients. null: no limit."""
    precision: Annotated[Literal["fp32", "bf16"], BeforeValidator(_not_fp16)] = "fp32"
    """bf16 changes maps, and those of B-cos nets by half: docs/reference/precision.md."""
    compile: Annotated[bool, FREE] = False
    """torch.compile of the net with its maps, in training and evaluation: docs/guides/speed.md."""
    checkpoint_activations: Annotated[bool, FREE] = False
    """Features are computed again in the backward pass instead of being kept: docs/guides/scale.md."""
    device: Annotated[Literal["auto", "cpu", "cuda"], FREE] = "auto"
    """auto: a GPU where there is one."""
    timeout_minutes: Annotated[Positive, FREE] = 30
    """For how long processes of a training wait for one that does something alone, such as building a cache."""
    checkpoint_every: Annotated[Count | None, FREE] = None
    """Steps between checkpoints within an epoch. null: one after each epoch."""
    early_stop: Annotated[EarlyStopSettings | None, FREE] = None
    """When to give up. null: never."""


class EvaluationSettings(Section):
    batch_size: Annotated[Count, FREE] = 16
    """Images of each process."""
    region: Literal["box", "segment", "best"] = "box"
    """What EPG and IoU are measured against; best: a class's segmentation where it has one, else its boxes."""
    scores: Literal["standard", "all"] = "standard"
    """all: also region attribution, and precision and recall of pixels."""
    pixel_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the largest value above which a pixel is active."""
    pixel_map: Literal["raw", "blurred"] = "raw"
    """Which map pixel_threshold is compared with."""
    blur: Positive = 2.0
    """Standard deviation in pixels, of region attribution and of blurred maps."""
    attribution: Annotated[EvaluatedAttributionSettings, BeforeValidator(lambda v: {} if v is None else v)] = (
        EvaluatedAttributionSettings()
    )
    """What is evaluated, where it is not as in objective.attribution."""
    crop: Literal["none", "center", "shifted", "shifted_center"] = "none"
    """Of the images of every evaluated split: stretched; the square in the middle; a smaller one beside the centre,
    enlarged; or the same crop beside the centre."""
    shift: Annotated[float, Field(ge=0, lt=0.5)] = 0.25
    """Of shifted crops: how far from the centre, as a share of the short side."""
    iou_threshold: Fraction | Literal["fit"] = 0.5
    """fit: the best on the validation split, kept in the checkpoint."""
    threshold_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the validation images on which alone it is fitted, and which then serve nothing else. 0: all of them,
    which serve everything."""


class ParetoSettings(Section):
    metrics: list[Annotated[str, NameIn(METRICS, others=True)]] = Field(default=["f1", "epg", "iou"], min_length=1)
    """A checkpoint is kept if none is better in all of these. Where AIM guides nothing, the default is accuracy (f1
    with several labels)."""
    resolution: NotNegative = 0.005
    """Values are rounded to it before they are compared."""


class LogSettings(Section):
    every: Count = 10
    """Steps between two lines."""
    tensorboard: bool = True
    """Whether to write for TensorBoard."""
    probe_images: Annotated[int, Field(ge=0)] = 8
    """Validation images whose maps are shown after each epoch."""
