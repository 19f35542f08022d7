"""How AIM is built around a backbone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from guidance.models.aim.blocks import Head, TopDownBlock
from guidance.models.aim.masks import MaskEstimator
from guidance.models.aim.nets import BottomUp, MaskedClassifier, Parts, TopDown
from guidance.models.aim.stages import check_stop_stage, estimating_stages, stage_depths
from guidance.models.classifier import Classifier
from guidance.models.layers.noise import Dropout, convert_drop_path

MASKINGS = ("top_down", "bottom_up")


@dataclass(frozen=True)
class AIMForm:
    """What is built. Raises ValueError for unknown choices.

    `masking`: "top_down" is AIM; "bottom_up" masks the features of the backbone itself. `estimators`: "each" stage has one, or
    only the last ("one"), whose mask is enlarged for the others (Sec. D.3). `initialization` of the estimators: "default" or
    "edges" (Sec. D.5). `auxiliary`: whether each stage has a classifier, which only its loss needs. `width` F and `mask_width`
    of the convolutions are those that the paper's parameter counts fit. The backbone's own classifier is dropped (top_down), or
    has drop-out of rate `classifier_dropout` in front (bottom_up), where `skip` adds the connections of Fig. 27.
    """

    masking: str = "top_down"
    estimators: str = "each"
    initialization: str = "default"
    auxiliary: bool = True
    width: int = 256
    mask_width: int = 32
    dropout: float = 0.3
    temperature: float = 1.0
    skip: bool = False
    classifier_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("aim.masking", self.masking, MASKINGS),
            ("aim.estimators", self.estimators, ("each", "one")),
            ("aim.initialization", self.initialization, ("default", "edges")),
        ):
            if value not in known:
                raise ValueError(f"{name} must be {' or '.join(map(repr, known))}, not {value!r}")


def build_aim(
    plain: Classifier,
    channels: Sequence[int],
    *,
    first_stage: int,
    stop_stage: int,
    num_classes: int,
    form: AIMForm | None = None,
) -> MaskedClassifier:
    """AIM around `plain`, whose depths from mid1 on have `channels`; `first_stage` is the paper's index of mid1.

    "Backbone+AIM[stop_stage]" masks the stages from the last down to `stop_stage`. Raises ValueError for a stage that does not
    exist, or at which the net cannot be restarted.
    """
    form = form or AIMForm()
    names = stage_depths(plain.depths, first_stage)
    check_stop_stage(stop_stage, names)
    masked = {f"stage{index}": depth for index, depth in names.items() if index >= stop_stage}
    passed = [depth for depth in masked.values() if depth not in plain.stages]
    if passed:
        raise ValueError(
            f"objective.mode: aim cannot mask {', '.join(passed)} of this net: it is not known that all of it passes "
            "through there, because its graph cannot be traced (torch.fx), or something passes by"
        )
    sizes = {stage: channels[int(stage.removeprefix("stage")) - first_stage] for stage in masked}
    one = form.estimators == "one" and form.masking == "top_down"
    masks: dict[str, nn.Module] = {
        f"stage{index}": MaskEstimator(
            sizes[f"stage{index}"], width=form.mask_width, temperature=form.temperature,
            initialization=form.initialization,
        ) for index in estimating_stages(names, stop_stage, one=one)
    }  # fmt: skip
    if form.masking == "bottom_up":
        # Without a rate there is no layer: every layer that draws has a stream of its own, by its place among them.
        dropout = Dropout(form.classifier_dropout) if form.classifier_dropout else None
        return BottomUp(Parts(convert_drop_path(plain.net), masks, {}, {}, dropout), plain, masked, skip=form.skip)
    for layer in plain.stages["logits"]:
        for name in [layer] if isinstance(layer, str) else getattr(layer, "layers", ()):
            plain.net.set_submodule(name, nn.Identity())
    blocks: dict[str, nn.Module] = {stage: TopDownBlock(sizes[stage], form.width) for stage in masked}
    headed = [*masked, "final"] if form.auxiliary else ["final"]
    heads: dict[str, nn.Module] = {name: Head(form.width, num_classes, form.dropout) for name in headed}
    return TopDown(Parts(convert_drop_path(plain.net), masks, blocks, heads), plain, masked)
