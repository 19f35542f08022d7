"""The sections of a config (those of data sets are in data.py), their defaults, and which fields fit together."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from guidance.attribution import ATTRIBUTIONS
from guidance.config.data import Data
from guidance.config.fields import FREE, Count, Fraction, FreeOnResume, NotNegative, Positive, Section, Seed
from guidance.evaluation.metrics import LOWER_IS_BETTER, METRICS, oriented
from guidance.evaluation.scores import ALL_SCORES
from guidance.losses import LOCALIZATION_LOSSES
from guidance.models import BACKBONES, Backbone
from guidance.models.aim.nets import check_stop_stage
from guidance.types import lookup

# What a metric needs of the data set.
NEEDS = {
    "worst_group_accuracy": "groups",
    "worst_group_images": "groups",
    "mean_group_accuracy": "groups",
    "adjusted_accuracy": "groups",
    "seg_epg": "segmentations",
    "x_seg_epg": "segmentations",
}


class Model(Section):
    name: str = "resnet50"
    weights: str = "none"  # none | imagenet | bcos-v2 | xdnn | PATH of a state dict or checkpoint
    batchnorm: Literal["local", "sync", "frozen"] = "local"
    logit_bias: Literal["published", "classes"] = "published"  # of B-cos nets: ln(0.001 / 0.999), or -ln(K - 1)
    drop_path: Fraction | None = None  # of the last residual branch, falling to 0 at the first; None: the net's own


class Localization(Section):
    loss: str = "energy"
    weight: NotNegative = 0.0  # lambda; 0 trains without guidance
    alpha: NotNegative = 0.5  # energy_star: exponent of the box size
    area: Literal["pixels", "fraction"] = "pixels"  # energy_star: unit of the box size


class Attribution(Section):
    method: str = "ixg"
    depth: str = "input"
    steps: Count = 20  # intgrad: points of the quadrature


class EvaluatedAttribution(Section):
    """What is left out is as in objective.attribution, so that another method keeps the depth of the run."""

    method: str | None = None
    depth: str | None = None
    steps: Count | None = None


class Objective(Section):
    mode: Literal["guided", "aim"] = "guided"
    classification: Literal["bce", "cross_entropy"] = "bce"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0  # cross_entropy only
    class_weights: Literal["none", "balanced"] | list[Positive] = "none"  # balanced: 1 / frequency, largest 1
    weighting: Literal["sample", "class"] = "sample"  # what a class weight multiplies: an image's loss, or one output's
    reduction: Literal["sum", "mean"] = "sum"  # of the localisation loss over the annotated images of a batch
    localization: Localization = Localization()
    attribution: Attribution = Attribution()


class AIM(Section):
    """Self-supervised masking (objective.mode: aim)."""

    # The last stage that the top-down pathway reaches: stages are masked from the coarsest down to it.
    stop_stage: int = 2
    masking: Literal["top_down", "bottom_up"] = "top_down"
    estimators: Literal["each", "one"] = "each"  # a mask estimator for each stage, or one for all, at the coarsest
    initialization: Literal["default", "edges"] = "default"  # of the mask estimators: edges emphasises rims of kernels
    auxiliary: bool = True  # a classifier and a loss for each stage
    width: Count = 256
    mask_width: Count = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3  # before each classifier of the top-down pathway
    temperature: Positive = 1.0  # of the straight-through gradient
    # Share of the epochs after which masks are no longer drawn but the most probable ones, as in the code that AIM adapts
    # (Verelst & Tuytelaars 2020). Drawn to the end, cells of probability 0.25 are active in training and never after it.
    noise_until: Fraction = 0.8
    threshold: Annotated[float, Field(gt=0, le=1)] | None = 0.25  # share of active cells; None: no area loss
    anneal_start: Annotated[int, Field(ge=0)] = 0  # epoch at which the threshold leaves 1 ...
    anneal_epochs: Annotated[int, Field(ge=0)] | None = None  # ... and for how many it falls; None: half of all
    area_weight: NotNegative = 6.0  # lambda
    area_ratio: Literal["sample", "batch"] = "sample"  # the share of active cells of each image, or of a batch
    mask_weight: NotNegative = 0.0  # of objective.localization.loss on the soft masks, where there are regions


class OptimizerSettings(Section):
    name: Literal["adam", "adamw", "sgd"] = "adam"
    lr: Positive = 1e-4
    backbone_lr: Positive | None = None  # of all but the classifier, or all but what AIM adds; None: lr
    weight_decay: NotNegative = 0.0
    momentum: Fraction = 0.9  # sgd only


class Schedule(Section):
    name: Literal["constant", "cosine", "step"] = "constant"
    warmup_epochs: NotNegative = 0.0  # linear, from 1 % of the learning rate
    step_epochs: Positive = 30.0  # step: epochs between two reductions
    gamma: Fraction = 0.1  # step: factor of a reduction


class EarlyStop(Section):
    metric: str = "f1"
    minimum: float = 0.0  # stop when the best value so far is lower ...
    epochs: Count = 2  # ... after this many epochs


class TrainerSettings(Section):
    # Their number decides the learning rate of every step, or, in AIM, when annealing and noise end.
    epochs: Annotated[
        Count, FreeOnResume(unless=lambda c: c.schedule.name == "cosine" or c.objective.mode == "aim")
    ] = 50
    batch_size: Count = 64  # of all processes together
    accumulate: Count = 1  # chunks into which each process splits its share of a batch
    clip_norm: Positive | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Annotated[Literal["auto", "cpu", "cuda"], FREE] = "auto"
    checkpoint_every: Annotated[Count | None, FREE] = None  # steps between checkpoints within an epoch
    early_stop: Annotated[EarlyStop | None, FREE] = None


class Evaluation(Section):
    batch_size: Annotated[Count, FREE] = 16  # of each process
    region: Literal["box", "segment", "best"] = "box"  # what EPG and IoU are measured against
    scores: Literal["standard", "all"] = "standard"  # all: also region attribution, and precision and recall of pixels
    pixel_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of the largest value; above it a pixel is active
    blur: Positive = 2.0  # standard deviation in pixels, of region attribution
    attribution: Annotated[EvaluatedAttribution, BeforeValidator(lambda v: {} if v is None else v)] = (
        EvaluatedAttribution()
    )
    crop: Literal["none", "center", "shifted"] = "none"  # of the images of every evaluated split
    shift: Annotated[float, Field(ge=0, lt=0.5)] = 0.25  # shifted: of the centre, as a share of the short side
    iou_threshold: Fraction | Literal["fit"] = 0.5  # fit: best on the validation split, kept in the checkpoint


class Pareto(Section):
    metrics: list[str] = Field(default=["f1", "epg", "iou"], min_length=1)
    resolution: NotNegative = 0.005


class Log(Section):
    every: Count = 10  # steps
    tensorboard: bool = True
    probe_images: Annotated[int, Field(ge=0)] = 8  # validation images whose maps are shown after each epoch


class Config(Section):
    """A complete run."""

    seed: Seed = 0
    data: Data
    model: Model = Model()
    objective: Objective = Objective()
    aim: AIM = AIM()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: Schedule = Schedule()
    trainer: TrainerSettings = TrainerSettings()
    evaluation: Evaluation = Evaluation()
    pareto: Pareto = Pareto()
    log: Annotated[Log, FREE] = Log()

    @property
    def evaluated_attribution(self) -> Attribution:
        """The attribution that evaluation uses: the guided one, with what `evaluation.attribution` says."""
        changed = self.evaluation.attribution.model_dump(exclude_none=True)
        return self.objective.attribution.model_copy(update=changed)

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Config:
        backbone = lookup(BACKBONES, self.model.name, "model.name")
        lookup(LOCALIZATION_LOSSES, self.objective.localization.loss, "objective.localization.loss")
        net, depths = self.model.name, backbone.depths
        if self.objective.mode == "aim":
            self._check_aim(backbone)
            if self.aim.masking == "top_down":
                net, depths = f"{net}+AIM[{self.aim.stop_stage}]", backbone.aim_depths(self.aim.stop_stage)
        elif self.aim != AIM():
            raise ValueError("aim: these settings need objective.mode: aim")
        self._check_attributions(backbone, net, depths)
        if self.objective.classification == "cross_entropy" and not self.data.single_label:
            raise ValueError(
                f"objective.classification: images of {self.data.name} have several labels; use 'bce' instead of cross_entropy"
            )
        if self.objective.label_smoothing and self.objective.classification != "cross_entropy":
            raise ValueError("objective.label_smoothing: it belongs to objective.classification: cross_entropy")
        if max(self.objective.localization.weight, self.aim.mask_weight) > 0 and self.data.annotated_fraction == 0:
            raise ValueError(
                "objective.localization.weight or aim.mask_weight is above 0 but data.annotated_fraction is 0: guidance "
                "needs annotated images"
            )
        if self.data.image_size < backbone.stride:
            raise ValueError(
                f"data.image_size: {self.data.image_size} is smaller than one cell of {self.model.name} ({backbone.stride})"
            )
        self._check_metrics()
        for place, region in (("data", self.data.region), ("evaluation", self.evaluation.region)):
            if region == "segment" and "segmentations" not in self.data.offers:
                raise ValueError(f"{place}.region: {self.data.name} has no segmentations; use 'box'")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_not_used(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A stored config must be readable when the defaults of a section that it does not use have changed.
        content: dict[str, Any] = handler(self)
        if self.objective.mode != "aim":
            content.pop("aim", None)
        return content

    def _check_aim(self, backbone: Backbone) -> None:
        if not backbone.channels:
            masked = ", ".join(name for name, row in BACKBONES.items() if row.channels)
            raise ValueError(
                f"objective.mode: aim cannot mask the stages of {self.model.name}; it can those of {masked}"
            )
        check_stop_stage(self.aim.stop_stage, backbone.stages, self.model.name)
        if self.data.single_label and self.objective.classification == "bce":
            raise ValueError(
                "objective.classification: AIM is trained with cross_entropy where images have one label; set it"
            )
        if self.aim.masking == "bottom_up":
            for name in ("estimators", "auxiliary", "width", "dropout"):
                if getattr(self.aim, name) != AIM.model_fields[name].default:
                    raise ValueError(f"aim.{name}: it belongs to aim.masking: top_down")
        last = self.aim.anneal_start + (self.aim.anneal_epochs or 0)
        if self.aim.threshold is not None and last >= self.trainer.epochs > 1:
            raise ValueError(
                f"aim.anneal_start, aim.anneal_epochs: the threshold would reach {self.aim.threshold:g} in epoch {last + 1} "
                f"of {self.trainer.epochs}; shorten them, or raise trainer.epochs"
            )
        if self.aim.area_ratio == "batch" and self.trainer.accumulate > 1:
            raise ValueError("aim.area_ratio: batch needs trainer.accumulate: 1, because chunks do not see the batch")
        if self.aim.mask_weight > 0 and not self.data.single_label and self.data.classes_per_image == "one":
            raise ValueError(
                "aim.mask_weight: a mask has no class; with several labels set data.classes_per_image: all"
            )

    def _check_attributions(self, backbone: Backbone, net: str, depths: tuple[str, ...]) -> None:
        """Those that are used: a depth that is left over from another net does no harm where nothing is guided."""
        guided, own = self.objective.attribution, self.evaluation.attribution
        lookup(ATTRIBUTIONS, guided.method, "objective.attribution.method")
        evaluated = self.evaluated_attribution
        where = {name: "objective" if getattr(own, name) is None else "evaluation" for name in ("method", "depth")}
        used = [(evaluated, where)]
        if self.objective.localization.weight > 0:
            used.insert(0, (guided, dict.fromkeys(where, "objective")))
        for attribution, place in used:
            lookup(ATTRIBUTIONS, attribution.method, f"{place['method']}.attribution.method")
            if attribution.method in backbone.refuses:
                raise ValueError(
                    f"{place['method']}.attribution.method: {self.model.name} cannot give {attribution.method!r}; "
                    f"it gives {', '.join(name for name in ATTRIBUTIONS if name not in backbone.refuses)}"
                )
            if attribution.depth not in depths:
                raise ValueError(
                    f"{place['depth']}.attribution.depth: {net} has no depth {attribution.depth!r}; it has {', '.join(depths)}"
                )

    def _check_metrics(self) -> None:
        if len(set(self.pareto.metrics)) < len(self.pareto.metrics):
            raise ValueError(f"pareto.metrics: a metric is named twice in {', '.join(self.pareto.metrics)}")
        names = {f"pareto.metrics[{i}]": name for i, name in enumerate(self.pareto.metrics)}
        if self.trainer.early_stop is not None:
            names["trainer.early_stop.metric"] = self.trainer.early_stop.metric
        for place, name in names.items():
            lookup(METRICS, name, f"metric ({place})")
            try:
                oriented(name, 0.0)
            except ValueError as error:
                raise ValueError(f"{place}: {error}") from error
            if name in LOWER_IS_BETTER and place.startswith("trainer"):
                raise ValueError(
                    f"{place}: more {name} is not better, so there is no minimum to reach; use another metric"
                )
            if name in NEEDS and NEEDS[name] not in self.data.offers:
                raise ValueError(f"{place}: {name} needs {NEEDS[name]}, which {self.data.name} does not have")
            if name == "seg_epg" and self.evaluation.region != "box":
                raise ValueError(f"{place}: seg_epg compares segmentations with boxes; set evaluation.region to box")
            if name in ALL_SCORES and self.evaluation.scores != "all":
                raise ValueError(f"{place}: {name} is only computed with evaluation.scores: all")


def check_processes(config: Config, processes: int) -> None:
    """Raise ValueError where the global batch cannot be shared equally by the processes and the accumulated chunks."""
    size, accumulate = config.trainer.batch_size, config.trainer.accumulate
    if size % (processes * accumulate):
        parts = processes * accumulate
        near = [n for n in (size // parts * parts, (size // parts + 1) * parts) if n > 0]
        raise ValueError(
            f"trainer.batch_size: {size} images cannot be shared equally by {processes} process(es) with "
            f"trainer.accumulate {accumulate}; use {' or '.join(map(str, near))}"
        )
