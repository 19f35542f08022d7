"""AIM around a backbone: the top-down pathway of the paper, and the bottom-up masking that it is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from guidance.models.aim.masks import MaskEstimator
from guidance.models.classifier import Classifier
from guidance.models.noise import Dropout, convert_drop_path, keyed
from guidance.types import Forward, lookup

MASKINGS = ("top_down", "bottom_up")


def stage_depths(depths: Sequence[str], first: int) -> dict[int, str]:
    """The paper's index of each stage -> the depth of the backbone that is its output. `first`: the index of mid1.

    ConvNeXt's four stages are 0 to 3; a ResNet's are 1 to 4, because 0 is its stem.
    """
    return dict(enumerate((depth for depth in depths if depth != "input"), start=first))


def top_down_depths(depths: Sequence[str], stop: str) -> tuple[str, ...]:
    """The depths of AIM around a backbone of `depths`, whose pathway stops at `stop`: those that decide its output alone."""
    return (*(depth for depth in depths[: depths.index(stop) + 1] if depth != "final"), "final")


def check_stop_stage(stop_stage: int, stages: Mapping[int, str], net: str = "this net") -> None:
    """Raise ValueError unless `stop_stage` is one of the `stages` (see `stage_depths`) of `net`."""
    if stop_stage not in stages:
        raise ValueError(
            f"aim.stop_stage: {net} has no stage {stop_stage} that can be masked; it has "
            f"{', '.join(map(str, stages))}, of which the last is the coarsest"
        )


class TopDownBlock(nn.Module):
    """Features [B, C, h, w] -> [B, F, h, w]: 1x1 and 3x3 convolution, LayerNorm over channels, GELU (AIM, Sec. 3)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.align = nn.Conv2d(channels, width, 1)
        self.refine = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.LayerNorm(width)
        self.activation = nn.GELU()

    def forward(self, features: Tensor) -> Tensor:
        x = self.refine(self.align(features)).permute(0, 2, 3, 1)
        y: Tensor = self.activation(self.norm(x)).permute(0, 3, 1, 2)
        return y


class Head(nn.Module):
    """Features [B, F, h, w] -> logits [B, K]: mean over all cells (masked ones too), drop-out, linear."""

    def __init__(self, width: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(width, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.dropout(features.mean((2, 3))))
        return logits


class Parts(nn.Module):
    """A backbone and what AIM adds to it; the dictionaries are by stage, such as "stage2"."""

    def __init__(
        self,
        backbone: nn.Module,
        masks: dict[str, nn.Module],
        blocks: dict[str, nn.Module],
        heads: dict[str, nn.Module],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.masks, self.blocks, self.heads = nn.ModuleDict(masks), nn.ModuleDict(blocks), nn.ModuleDict(heads)


class MaskedClassifier(Classifier):
    """What both maskings share: a backbone whose stages `masked` (name -> depth of the backbone) have masks."""

    net: Parts

    def __init__(self, net: Parts, plain: Classifier, masked: Mapping[str, str]) -> None:
        stages = {
            depth: tuple(f"backbone.{layer}" if isinstance(layer, str) else layer for layer in layers)
            for depth, layers in plain.stages.items()
        }
        super().__init__(net, stages, channels=plain.channels)
        self.masked = dict(masked)

    def forward(self, images: Tensor, keys: Tensor | None = None) -> Forward:
        """As `Classifier.forward`. In training, `keys` [B] (`guidance.models.noise.sample_keys`) decide every draw."""
        with keyed(self.net, keys):
            return self.upper(images, "input")

    def lower(self, images: Tensor, depth: str) -> Tensor:
        """The part of the net below `depth`, with its masks."""
        return lookup(self.upper(images, "input").features, depth, "depth")

    def explainable(self, images: Tensor, depth: str) -> Forward:
        """As `Classifier.explainable`, with the masks of the whole net."""
        if depth == "input":
            return super().explainable(images, depth)
        with torch.no_grad():
            below = self(images)
            features = lookup(below.features, depth, "depth").detach()
        with torch.enable_grad():
            above = self.upper(features.requires_grad_(), depth)
        return above._replace(masks=below.masks, mask_logits=below.mask_logits, stage_logits=below.stage_logits)

    def set_noise(self, noisy: bool) -> None:
        """Whether masks are drawn in training, or the most probable ones are taken as in evaluation."""
        for estimator in self.net.masks.values():
            assert isinstance(estimator, MaskEstimator)
            estimator.noisy = noisy


class TopDown(MaskedClassifier):
    """Backbone+AIM: stages are masked and joined from the last to the stop stage (AIM, Sec. 3 and Fig. 2).

    A stage S_l gives O_l = T_l(S_l) * B_l, zero where its mask B_l is; P_l = O_l + enlarged P_(l+1), by nearest
    neighbours to the size of O_l. The logits are those of P at the stop stage; every O_l has a classifier of its own for
    the auxiliary losses. Depth "final" is P; the depths of the backbone up to the stop stage are there as well, and
    those above it are not, because no single one of them decides the output.
    """

    @property
    def depths(self) -> tuple[str, ...]:
        return top_down_depths(super().depths, next(iter(self.masked.values())))

    def upper(self, features: Tensor, depth: str) -> Forward:
        if depth == "final":
            return Forward(self.net.heads["final"](features), {"final": features}, {})
        if depth == "input":
            self._check(features)
        known, x = {depth: features}, features
        for name, layers in list(self.stages.items())[self._position(depth) : -1]:
            x = known[name] = self._run(layers, x)
        return self._top_down(known)

    def _top_down(self, known: dict[str, Tensor]) -> Forward:
        net = self.net
        masks, mask_logits, stage_logits = dict[str, Tensor](), dict[str, Tensor](), dict[str, Tensor]()
        fused = mask = None
        for stage, depth in reversed(self.masked.items()):
            size = known[depth].shape[2:]
            if stage in net.masks:
                mask_logits[stage], mask = net.masks[stage](known[depth])
            elif mask is not None:  # one estimator for all stages
                mask = functional.interpolate(mask, size)
            assert mask is not None
            masks[stage] = mask
            sparse: Tensor = net.blocks[stage](known[depth])
            sparse = sparse * mask.to(sparse.dtype)
            if stage in net.heads:
                stage_logits[stage] = net.heads[stage](sparse)
            fused = sparse if fused is None else sparse + functional.interpolate(fused, size)
        assert fused is not None
        outputs = {name: known[name] for name in self.depths[:-1] if name in known} | {"final": fused}
        # In the order of the stages, as in `masked`, not in that of the pathway.
        masks, mask_logits, stage_logits = (dict(reversed(x.items())) for x in (masks, mask_logits, stage_logits))
        return Forward(net.heads["final"](fused), outputs, masks, mask_logits=mask_logits, stage_logits=stage_logits)


class BottomUp(MaskedClassifier):
    """The ablation of AIM, Sec. 6.1 and D.4: each masked stage hands only its active cells to the next; no top-down pathway,
    no skip connection, the backbone's own classifier."""

    def upper(self, features: Tensor, depth: str) -> Forward:
        if depth == "input":
            self._check(features)
        stage_at = {at: stage for stage, at in self.masked.items()}
        masks, mask_logits = {}, {}
        known, x = {depth: features}, features
        for name, layers in list(self.stages.items())[self._position(depth) :]:
            x = self._run(layers, x)
            if name in stage_at:
                stage = stage_at[name]
                mask_logits[stage], masks[stage] = self.net.masks[stage](x)
                x = x * masks[stage].to(x.dtype)
            known[name] = x
        return Forward(known.pop("logits"), known, masks, mask_logits=mask_logits)


def build_aim(
    plain: Classifier,
    channels: Sequence[int],
    *,
    first_stage: int,
    stop_stage: int,
    num_classes: int,
    masking: str = "top_down",
    estimators: str = "each",
    initialization: str = "default",
    auxiliary: bool = True,
    width: int = 256,
    mask_width: int = 32,
    dropout: float = 0.3,
    temperature: float = 1.0,
) -> MaskedClassifier:
    """AIM around `plain`, whose depths from mid1 on have `channels`; `first_stage` is the paper's index of mid1.

    "Backbone+AIM[stop_stage]" masks the stages from the last down to `stop_stage`. `masking`: "top_down" is AIM;
    "bottom_up" masks the features of the backbone itself. `estimators`: "each" stage has one, or only the last ("one"),
    whose mask is enlarged for the others (Sec. D.3). `initialization` of the estimators: "default" or "edges" (Sec. D.5).
    `auxiliary`: whether each stage has a classifier, which only its loss needs. `width` F and `mask_width` of the
    convolutions are those that the paper's parameter counts fit. The backbone's own classifier is dropped (top_down).
    Raises ValueError for a stage that does not exist and for unknown choices.
    """
    names = stage_depths(plain.depths, first_stage)
    check_stop_stage(stop_stage, names)
    for name, value, known in (
        ("aim.masking", masking, MASKINGS),
        ("aim.estimators", estimators, ("each", "one")),
        ("aim.initialization", initialization, ("default", "edges")),
    ):
        if value not in known:
            raise ValueError(f"{name} must be {' or '.join(map(repr, known))}, not {value!r}")
    masked = {f"stage{index}": depth for index, depth in names.items() if index >= stop_stage}
    sizes = {stage: channels[int(stage.removeprefix("stage")) - first_stage] for stage in masked}
    estimating = list(masked) if estimators == "each" or masking == "bottom_up" else list(masked)[-1:]
    masks: dict[str, nn.Module] = {
        stage: MaskEstimator(
            sizes[stage], width=mask_width, temperature=temperature, initialization=initialization
        ) for stage in estimating
    }  # fmt: skip
    if masking == "bottom_up":
        return BottomUp(Parts(convert_drop_path(plain.net), masks, {}, {}), plain, masked)
    for layer in plain.stages["logits"]:
        if isinstance(layer, str):
            plain.net.set_submodule(layer, nn.Identity())
    blocks: dict[str, nn.Module] = {stage: TopDownBlock(sizes[stage], width) for stage in masked}
    headed = [*masked, "final"] if auxiliary else ["final"]
    heads: dict[str, nn.Module] = {name: Head(width, num_classes, dropout) for name in headed}
    return TopDown(Parts(convert_drop_path(plain.net), masks, blocks, heads), plain, masked)
