"""The sections that choose an attribution: the guided one, and the evaluated one where it differs; each with its lens."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from guidance.attribution import ATTRIBUTIONS
from guidance.attribution.lens import INVERSE_TEMPERATURES, find_class_set
from guidance.config.fields import Count, NameIn, Positive, Section, WithOptions
from guidance.models import BACKBONES

NO_LENS = "none"  # as `lens`, or as its `classes`: an evaluation without the lens of the run


def _known_classes(classes: str | list[int]) -> str | list[int]:
    if isinstance(classes, str) and classes != NO_LENS:
        find_class_set(classes)
    return classes


def _says_none(lens: object) -> bool:
    return lens == NO_LENS or (isinstance(lens, dict) and lens.get("classes") == NO_LENS)


AttributionName = Annotated[str, NameIn(ATTRIBUTIONS)]
# Nets of one's own may have others.
DepthName = Annotated[str, NameIn(dict.fromkeys(d for row in BACKBONES.values() for d in row.depths), others=True)]
ClassIndex = Annotated[int, Field(ge=0)]
Competing = Annotated[str | Annotated[list[ClassIndex], Field(min_length=1)], AfterValidator(_known_classes)]
InverseTemperatures = Annotated[list[Positive], Field(min_length=1)]
AboveChance = Annotated[float, Field(ge=0, lt=1)]


class LensSettings(Section):
    """Attribution Lens around the method, see guidance.attribution.lens."""

    classes: Competing = "top2"
    """The classes that compete: top2 or another number, top2_lowest, best_worst, ground_truth, or a list of positions."""
    inverse_temperatures: InverseTemperatures = Field(default=[*INVERSE_TEMPERATURES])
    """The competition is the mean over these."""
    normalize: bool = False
    """Whether maps are divided by their joint largest magnitude before they compete."""
    magnitude: bool = False
    """Whether magnitudes compete."""
    threshold: AboveChance = 0.0
    """How far above chance a class must be."""

    @property
    def description(self) -> str:
        """For people: the classes, and what is not as by default."""
        classes = self.classes if isinstance(self.classes, str) else "classes " + ", ".join(map(str, self.classes))
        usual = LensSettings(classes=self.classes).model_dump()
        return ", ".join([classes, *(f"{k} {v}" for k, v in self.model_dump().items() if v != usual[k])])


class EvaluatedLensSettings(Section):
    """What is left out is as in objective.attribution.lens, if there is one."""

    classes: Competing | None = None
    """The classes that compete: top2 or another number, top2_lowest, best_worst, ground_truth, or a list of positions."""
    inverse_temperatures: InverseTemperatures | None = None
    """The competition is the mean over these."""
    normalize: bool | None = None
    """Whether maps are divided by their joint largest magnitude before they compete."""
    magnitude: bool | None = None
    """Whether magnitudes compete."""
    threshold: AboveChance | None = None
    """How far above chance a class must be."""


NoLens = Literal["none"]
GuidedLens = Annotated[
    LensSettings | None,
    BeforeValidator(lambda v: None if _says_none(v) else v, json_schema_input_type=LensSettings | NoLens | None),
]
EvaluatedLens = Annotated[
    EvaluatedLensSettings | None,
    BeforeValidator(
        lambda v: {"classes": NO_LENS} if v == NO_LENS else v,
        json_schema_input_type=EvaluatedLensSettings | NoLens | None,
    ),
]


class AttributionSettings(WithOptions):
    unstored = ("options", "lens")

    method: AttributionName = "ixg"
    """What makes a map. lrp, feature_ablation, occlusion, shapley, kernel_shap, lime, inflow and t_lrp are for evaluation
    alone; attention_gradcam, rollout, grad_rollout, t_attn, bi_attn, value_gradient, inflow and t_lrp are of ViTs, and look
    at the blocks above the depth."""
    depth: DepthName = "input"
    """Where: the image, or the output of one of four stages of the net; of ViTs the patch tokens there."""
    steps: Count = 20
    """Points of the quadrature of intgrad, t_attn and bi_attn."""
    lens: GuidedLens = None
    """Attribution Lens around the method: classes compete at each cell. null: none."""

    @property
    def title(self) -> str:
        """The method with its lens, for people."""
        return self.method if self.lens is None else f"{self.method} + lens ({self.lens.description})"

    def without_lens(self) -> AttributionSettings:
        return self.model_copy(update={"lens": None})


class EvaluatedAttributionSettings(WithOptions):
    """What is left out is as in objective.attribution, so that another method keeps the depth of the run."""

    unstored = ("options", "lens")

    method: AttributionName | None = None
    """What makes a map. null: as in objective.attribution."""
    depth: DepthName | None = None
    """Where: the image, or the output of one of four stages of the net; of ViTs the patch tokens there."""
    steps: Count | None = None
    """Points of the quadrature of intgrad, t_attn and bi_attn."""
    lens: EvaluatedLens = None
    """Attribution Lens around the method; what is left out is as in training. none: without the lens of the run."""

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
