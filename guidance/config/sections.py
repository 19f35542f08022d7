"""The sections of a config, except those of data sets (data.py) and of training modes (modes/)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer

from guidance.attribution.lens import INVERSE_TEMPERATURES, find_class_set
from guidance.config.fields import FREE, Count, Fraction, FreeOnResume, NotNegative, Positive, Section, WithOptions
from guidance.data.transforms.crops import USUAL
from guidance.data.transforms.encodings import MEAN, STD

Channels = Annotated[list[float], Field(min_length=3, max_length=3)]  # red, green, blue


class InputSettings(Section):
    """How images are made the input of the net. What is left out is as the weights were trained with, if they have a name."""

    mean: Channels = Field(default=[*MEAN])  # of nets that take normalised images
    std: Annotated[list[Positive], Field(min_length=3, max_length=3)] = Field(default=[*STD])
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    crop_pct: Annotated[float, Field(gt=0, le=1)] = (
        USUAL.crop_pct
    )  # crop: center: its side as a share of the short side


class ModelSettings(Section):
    # A name in BACKBONES | torchvision/NAME | timm/NAME | package.module:function, num_classes -> net
    name: str = "resnet50"
    weights: str = "none"  # none | a name in the row of the net | PATH of a state dict or checkpoint
    input: InputSettings = InputSettings()
    batchnorm: Literal["local", "sync", "frozen"] = "local"
    logit_bias: Literal["published", "classes"] = "published"  # of B-cos nets: ln(0.001 / 0.999), or -ln(K - 1)
    drop_path: Fraction | None = None  # of the last residual branch, falling to 0 at the first; None: the net's own

    @model_serializer(mode="wrap")
    def _without_usual_input(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A config of usual images is stored as it was when there were no others.
        content: dict[str, Any] = handler(self)
        if self.input == InputSettings():
            content.pop("input", None)
        return content


class LocalizationSettings(WithOptions):
    loss: str = "energy"
    weight: NotNegative = 0.0  # lambda; 0 trains without guidance
    alpha: NotNegative = 0.5  # energy_star: exponent of the box size
    area: Literal["pixels", "fraction"] = "pixels"  # energy_star: unit of the box size


NO_LENS = "none"  # as `lens`, or as its `classes`: an evaluation without the lens of the run


def _known_classes(classes: str | list[int]) -> str | list[int]:
    if isinstance(classes, str) and classes != NO_LENS:
        find_class_set(classes)
    return classes


def _says_none(lens: object) -> bool:
    return lens == NO_LENS or (isinstance(lens, dict) and lens.get("classes") == NO_LENS)


ClassIndex = Annotated[int, Field(ge=0)]
Competing = Annotated[str | Annotated[list[ClassIndex], Field(min_length=1)], AfterValidator(_known_classes)]
InverseTemperatures = Annotated[list[Positive], Field(min_length=1)]
AboveChance = Annotated[float, Field(ge=0, lt=1)]


class LensSettings(Section):
    """Attribution Lens around the method, see guidance.attribution.lens."""

    classes: Competing = "top2"  # a name in CLASS_SETS, or the classes that compete, by their positions
    inverse_temperatures: InverseTemperatures = Field(default=[*INVERSE_TEMPERATURES])
    normalize: bool = False  # maps compete after division by their joint largest magnitude
    magnitude: bool = False  # magnitudes compete
    threshold: AboveChance = 0.0  # how far above chance a class must lie

    @property
    def description(self) -> str:
        """For people: the classes, and what is not as by default."""
        classes = self.classes if isinstance(self.classes, str) else "classes " + ", ".join(map(str, self.classes))
        usual = LensSettings(classes=self.classes).model_dump()
        return ", ".join([classes, *(f"{k} {v}" for k, v in self.model_dump().items() if v != usual[k])])


class EvaluatedLensSettings(Section):
    """What is left out is as in objective.attribution.lens, if there is one."""

    classes: Competing | None = None
    inverse_temperatures: InverseTemperatures | None = None
    normalize: bool | None = None
    magnitude: bool | None = None
    threshold: AboveChance | None = None


class AttributionSettings(WithOptions):
    unstored = ("options", "lens")

    method: str = "ixg"
    depth: str = "input"
    steps: Count = 20  # intgrad: points of the quadrature
    lens: Annotated[LensSettings | None, BeforeValidator(lambda v: None if _says_none(v) else v)] = None

    @property
    def title(self) -> str:
        """The method with its lens, for people."""
        return self.method if self.lens is None else f"{self.method} + lens ({self.lens.description})"

    def without_lens(self) -> AttributionSettings:
        return self.model_copy(update={"lens": None})


class EvaluatedAttributionSettings(WithOptions):
    """What is left out is as in objective.attribution, so that another method keeps the depth of the run."""

    unstored = ("options", "lens")

    method: str | None = None
    depth: str | None = None
    steps: Count | None = None
    lens: Annotated[
        EvaluatedLensSettings | None, BeforeValidator(lambda v: {"classes": NO_LENS} if v == NO_LENS else v)
    ] = None

    def merged(self, guided: AttributionSettings) -> AttributionSettings:
        """What evaluation uses. Another method does not inherit the options of the guided one."""
        changed = self.model_dump(exclude_none=True)
        same = self.method in (None, guided.method)
        changed["options"] = {**(guided.options if same else {}), **self.options}
        own = changed.pop("lens", None)
        if own:
            lens = ({} if guided.lens is None else guided.lens.model_dump()) | own
            changed["lens"] = None if lens.get("classes") == NO_LENS else LensSettings(**lens)
        return guided.model_copy(update=changed)


class ObjectiveSettings(Section):
    mode: str = "guided"  # a name in MODES
    classification: Literal["bce", "cross_entropy"] = "bce"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0  # cross_entropy only
    class_weights: Literal["none", "balanced"] | list[Positive] = "none"  # balanced: 1 / frequency, largest 1
    weighting: Literal["sample", "class"] = "sample"  # what a class weight multiplies: an image's loss, or one output's
    reduction: Literal["sum", "mean"] = "sum"  # of the localisation loss over the annotated images of a batch
    localization: LocalizationSettings = LocalizationSettings()
    attribution: AttributionSettings = AttributionSettings()

    @property
    def exclusive(self) -> bool:
        """Whether the classes exclude each other, so that a net's probabilities are a softmax over them; else sigmoids."""
        return self.classification == "cross_entropy"


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


def _not_fp16(precision: object) -> object:
    if precision == "fp16":
        raise ValueError(
            "fp16 is not offered: gradients below 6e-8 become zero in it, and a factor on the loss, as of a gradient scaler, "
            "does not reach those that maps are made of, which are taken before there is a loss. Use bf16, which has the "
            "range of fp32, or fp32 (docs/precision.md)"
        )
    return precision


class TrainerSettings(Section):
    # Their number decides the learning rate of every step, or, in some modes, when something ends.
    # 0 evaluates the weights that the run starts from, as its config says, and keeps them.
    epochs: Annotated[
        int, Field(ge=0), FreeOnResume(unless=lambda c: c.schedule.name == "cosine" or c.mode.epochs_matter)
    ] = 50
    batch_size: Count = 64  # of all processes together
    accumulate: Count = 1  # chunks into which each process splits its share of a batch
    clip_norm: Positive | None = None
    precision: Annotated[Literal["fp32", "bf16"], BeforeValidator(_not_fp16)] = "fp32"
    compile: Annotated[bool, FREE] = False  # the net with its maps, by torch.compile
    checkpoint_activations: Annotated[bool, FREE] = False  # features are computed again in the backward pass, not kept
    device: Annotated[Literal["auto", "cpu", "cuda"], FREE] = "auto"
    # For how long processes wait for one that does something alone, such as building a cache.
    timeout_minutes: Annotated[Positive, FREE] = 30
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
