"""AIM around a backbone: the top-down pathway of the paper, and the bottom-up masking that it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from guidance.models.aim.masks import MaskEstimator
from guidance.models.aim.stages import top_down_depths
from guidance.models.classifier import Classifier, Operation
from guidance.models.layers.noise import keyed
from guidance.types import Forward, lookup


class Parts(nn.Module):
    """A backbone and what AIM adds to it; the dictionaries are by stage, such as "stage2"."""

    def __init__(
        self,
        backbone: nn.Module,
        masks: dict[str, nn.Module],
        blocks: dict[str, nn.Module],
        heads: dict[str, nn.Module],
        dropout: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.dropout = backbone, dropout  # drop-out before the backbone's own classifier (bottom_up)
        self.masks, self.blocks, self.heads = nn.ModuleDict(masks), nn.ModuleDict(blocks), nn.ModuleDict(heads)


class MaskedClassifier(Classifier):
    """What both maskings share: a backbone whose stages `masked` (name -> depth of the backbone) have masks."""

    net: Parts

    def __init__(self, net: Parts, plain: Classifier, masked: Mapping[str, str]) -> None:
        watched = [f"backbone.{name}" for name in plain.watched]
        super().__init__(net, plain.stages_under("backbone."), channels=plain.channels, watched=watched)
        self.masked = dict(masked)

    def _opened(self, depth: str) -> tuple[Operation, ...]:
        """The layers of a stage, with the children of the last one in its place where it is a sequence."""
        *layers, last = self.stages[depth]
        module = self.net.get_submodule(last) if isinstance(last, str) else None
        if module is None or type(module).forward is not nn.Sequential.forward:
            return (*layers, last)
        return (*layers, *(f"{last}.{name}" for name, _ in module.named_children()))

    def forward(self, images: Tensor, keys: Tensor | None = None) -> Forward:
        """As `Classifier.forward`. In training, `keys` [B] (`guidance.models.layers.noise.sample_keys`) decide every draw."""
        with keyed(self.net, keys):
            return self.upper(images, "input")

    def lower(self, images: Tensor, depth: str) -> Tensor:
        """The part of the net below `depth`, with its masks."""
        return lookup(self.upper(images, "input").features, depth, "depth")

    def explainable(self, images: Tensor, depth: str, *, graph: bool = True) -> Forward:
        """As `Classifier.explainable`, with the masks of the whole net, and always with a graph: masks have no pullback."""
        if depth == "input":
            return super().explainable(images, depth)
        with torch.no_grad():
            below = self(images)
            features = lookup(below.features, depth, "depth").detach()
        with torch.enable_grad():
            above = self.upper(features.requires_grad_(), depth)
        return above._replace(masks=below.masks, mask_logits=below.mask_logits, stage_logits=below.stage_logits)

    def layers_above(self, depth: str) -> list[tuple[str, Callable[[Tensor], Tensor]]]:
        raise ValueError(
            "AIM masks the features between the stages of its net, which is no sequence of layers: attributions that go from "
            "layer to layer (lrp) have no rule for it; use another, such as gradcam"
        )

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

    def __init__(self, net: Parts, plain: Classifier, masked: Mapping[str, str]) -> None:
        super().__init__(net, plain, masked)
        self.depths = top_down_depths(self.depths, next(iter(self.masked.values())))

    def upper(self, features: Tensor, depth: str) -> Forward:
        if depth == "final":
            return Forward(self.net.heads["final"](features), {"final": features}, {})
        if depth == "input":
            self._check(features)
        known, x = {depth: features}, features
        with self._watching() as inside:
            for name, layers in list(self.stages.items())[self._position(depth) : -1]:
                x = known[name] = self._run(layers, x)
        return self._top_down(known)._replace(inside=inside)

    def _top_down(self, known: dict[str, Tensor]) -> Forward:
        net = self.net
        masks: dict[str, Tensor] = {}
        mask_logits: dict[str, Tensor] = {}
        stage_logits: dict[str, Tensor] = {}
        fused = mask = None
        for stage, depth in reversed(self.masked.items()):
            size = known[depth].shape[2:]
            if stage in net.masks:
                mask_logits[stage], mask = net.masks[stage](known[depth])
            elif mask is not None:  # one estimator for all stages
                mask = functional.interpolate(mask, size)
            assert mask is not None
            masks[stage] = mask
            sparse = self._run([f"blocks.{stage}"], known[depth])
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
    no skip connection (Fig. 28), the backbone's own classifier.

    `skip` adds the connection of Fig. 27, which turns the sparse maps back into dense ones: mask * output + input. The paper
    sums "the sparse feature maps and the block's input", and does not say how the two fit where a stage begins by downsampling.
    Our reading has no parameters: the skip starts from the first state of the stage that has the shape of its output. In a
    ConvNeXt, the only net that the paper masks bottom-up, that is the output of the downsampling layer; in a layer of a ResNet,
    that of the first residual block (of layer1 in ResNet-18, whose input fits, that input). ValueError if only the output fits.

    `net.dropout`, where there is one, sits directly in front of the last linear layer of the backbone's classifier. Table 4
    gives a rate and D.4 the same setup for this net, neither a place; in the top-down net it is in front of the classifiers.
    """

    def __init__(self, net: Parts, plain: Classifier, masked: Mapping[str, str], *, skip: bool = False) -> None:
        super().__init__(net, plain, masked)
        self.skip = skip
        if skip:
            self.stages |= {depth: self._opened(depth) for depth in self.masked.values()}
        if net.dropout is not None:
            *layers, last = self._opened("logits")
            linear = self.net.get_submodule(last) if isinstance(last, str) else last
            if not isinstance(linear, nn.Linear):
                raise ValueError(
                    f"aim.classifier_dropout: it goes in front of a linear layer, but this net ends in {linear}; set it to 0"
                )
            self.stages["logits"] = (*layers, "dropout", last)

    def upper(self, features: Tensor, depth: str) -> Forward:
        if depth == "input":
            self._check(features)
        stage_at = {at: stage for stage, at in self.masked.items()}
        masks, mask_logits = {}, {}
        known, x = {depth: features}, features
        with self._watching() as inside:
            for name, layers in list(self.stages.items())[self._position(depth) :]:
                if name not in stage_at:
                    known[name] = x = self._run(layers, x)
                    continue
                stage, (x, dense) = stage_at[name], self._stage(layers, x)
                mask_logits[stage], masks[stage] = self.net.masks[stage](x)
                sparse = x * masks[stage].to(x.dtype)
                known[name] = x = sparse if dense is None else sparse + dense
        return Forward(known.pop("logits"), known, masks, mask_logits=mask_logits, inside=inside)

    def _stage(self, layers: Sequence[Operation], x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The output of a masked stage for its input `x`, and where its skip connection starts; None without one."""
        if not self.skip:
            return self._run(layers, x), None
        first = {x.shape: x}  # shape -> the first state that has it
        for layer in layers:
            x = self._run([layer], x)
            first.setdefault(x.shape, x)
        dense = first[x.shape]
        if dense is x:
            raise ValueError(
                f"aim.skip: the stage {', '.join(map(str, layers))} has no state of the shape {list(x.shape)} of its output "
                "before it, so a skip connection would carry the whole output past the mask; set aim.skip: false"
            )
        return x, dense
