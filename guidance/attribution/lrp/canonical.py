"""A CNN in the form that the rules of LRP need: norms merged into linear layers, sums as layers of their own.

It is built beside the net from new layers, which share or hold changed weights: the net itself gets no hook and no other
weight, so there is nothing to undo. It computes what the net computes in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.densenet import _DenseBlock, _DenseLayer
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import StochasticDepth

from guidance.models.layers.normalization import FrozenBatchNorm2d, SyncBatchNorm2d

Named = tuple[str, object]  # a layer with its name, for messages
SHOWN = 3  # layers that are named


class SumOfBranches(nn.Module):
    """The sum of a residual block: main(x) + shortcut(x), by the layer `total`, which sums over a new last dimension."""

    def __init__(self, main: nn.Module, shortcut: nn.Module, total: nn.Module) -> None:
        super().__init__()
        self.main, self.shortcut, self.total = main, shortcut, total

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.total(torch.stack((self.shortcut(x), self.main(x)), dim=-1))
        return y


class Concatenation(nn.Module):
    """The input, and after it along the channels what a branch makes of it (DenseNet)."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.branch(x)), dim=1)


class ChannelThreshold(nn.Module):
    """ReLU of which every channel has a level of its own: max(x, level) where `upward`, else min(x, level)."""

    level: Tensor  # [C, 1, 1]
    upward: Tensor  # [C, 1, 1] bool

    def __init__(self, level: Tensor, upward: Tensor) -> None:
        super().__init__()
        self.register_buffer("level", level[:, None, None])
        self.register_buffer("upward", upward[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(self.upward, torch.maximum(x, self.level), torch.minimum(x, self.level))


def canonical(layers: Iterable[Named], *, total: Callable[[], nn.Module]) -> nn.Sequential:
    """Layers that run one after the other, in canonical form, in the order of their forward.

    A batch norm behind a linear layer is merged into it, with its running statistics. One in front of a ReLU and a linear
    layer (DenseNet) becomes a threshold of its own for each channel, and the linear layer takes its scale and shift
    (Guillemot et al. 2020; Pahde et al. 2023, Sec. 3.1): relu(a x + b) = a max(x, -b / a) + b for a > 0. `total` makes
    the layer of a residual sum. Raises ValueError for layers without a rule, the first few by name.
    """
    unknown: list[str] = []
    steps = [step for name, layer in layers for step in _steps(layer, name, total, unknown)]
    if unknown:
        more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
        raise ValueError(
            f"LRP has no rule for {', '.join(unknown[:SHOWN])}{more}; it explains nets of convolutions, batch norms and ReLUs "
            "(ResNet, DenseNet, X-DNN). Use another attribution, such as ixg or intgrad"
        )
    return nn.Sequential(*_merged(steps))


def _steps(layer: Any, name: str, total: Callable[[], nn.Module], unknown: list[str]) -> list[nn.Module]:
    """What a layer consists of; where it has no rule, its name joins `unknown`."""

    def branch(*names: str) -> nn.Sequential:
        steps = [step for part in names for step in _steps(getattr(layer, part), f"{name}.{part}", total, unknown)]
        return nn.Sequential(*([] if unknown else _merged(steps)))

    if _is_one_of(layer, (BasicBlock, Bottleneck)):
        third = ("relu", "conv3", "bn3") if isinstance(layer, Bottleneck) else ()
        main = branch("conv1", "bn1", "relu", "conv2", "bn2", *third)
        shortcut = branch(*(() if layer.downsample is None else ("downsample",)))
        return [SumOfBranches(main, shortcut, total()), nn.ReLU()]
    if _is_one_of(layer, (_DenseLayer,)):
        return [Concatenation(branch("norm1", "relu1", "conv1", "norm2", "relu2", "conv2"))]
    if _is_one_of(layer, (_DenseBlock, nn.Sequential)):
        children = layer.named_children()
        return [step for part, child in children for step in _steps(child, f"{name}.{part}", total, unknown)]
    if isinstance(layer, DROPPED):
        return []
    build = next((make for kind, make in LAYERS.items() if _is_one_of(layer, (kind,))), None)
    if build is None:
        unknown.append(f"{name} ({type(layer).__name__})")
        return []
    return [build(layer)]


def _is_one_of(layer: object, kinds: tuple[type[nn.Module], ...]) -> bool:
    """Whether it is a layer of one of the kinds, and not of a subclass with a forward of its own, whose rule is unknown."""
    return any(isinstance(layer, kind) and type(layer).forward is kind.forward for kind in kinds)


def _merged(layers: Sequence[nn.Module]) -> list[nn.Module]:
    done: list[nn.Module] = []
    scale = shift = None  # of a norm in front of a ReLU, for the next linear layer
    for i, layer in enumerate(layers):
        if isinstance(layer, nn.BatchNorm2d):
            following = layers[i + 1] if i + 1 < len(layers) else None
            if done and isinstance(done[-1], nn.Conv2d | nn.Linear):
                done[-1] = _behind(done[-1], *_affine(layer))
            elif isinstance(following, nn.ReLU) and scale is None:
                scale, shift, threshold = _thresholded(*_affine(layer))
                done.append(threshold)
            else:
                raise _no_form("a batch norm stands neither behind a linear layer nor in front of a ReLU")
        elif isinstance(layer, nn.ReLU) and done and isinstance(done[-1], ChannelThreshold):
            continue
        elif scale is None or shift is None:
            done.append(layer)
        elif isinstance(layer, nn.Conv2d | nn.Linear):
            done.append(_in_front(layer, scale, shift))
            scale = shift = None
        elif isinstance(layer, nn.AdaptiveAvgPool2d | nn.Flatten) or _pools_alone(layer):
            done.append(layer)  # means of one channel: the scale and shift may as well come after them
        else:
            raise _no_form(f"a {type(layer).__name__} stands between a norm with its ReLU and the next linear layer")
    if scale is not None:
        raise _no_form("no linear layer follows on a norm and its ReLU")
    return done


def _no_form(reason: str) -> ValueError:
    return ValueError(f"LRP cannot merge a batch norm of this net: {reason}. Use another attribution, such as ixg")


def _pools_alone(layer: nn.Module) -> bool:
    return isinstance(layer, nn.AvgPool2d) and layer.padding in (0, (0, 0)) and layer.divisor_override is None


def _affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and shift [C] of a norm with running statistics."""
    if norm.running_mean is None or norm.running_var is None:
        raise _no_form("it has no running statistics")
    scale = torch.rsqrt(norm.running_var + norm.eps)
    scale = scale if norm.weight is None else scale * norm.weight.detach()
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias.detach()


def _thresholded(scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, ChannelThreshold]:
    """relu(a x + b) = a threshold(x) + b; where a is zero, or as good as that, 0 threshold(x) + relu(b)."""
    level = -shift / scale
    constant = ~level.isfinite()
    scale, level = torch.where(constant, 0.0, scale), torch.where(constant, 0.0, level)
    return scale, torch.where(constant, shift.relu(), shift), ChannelThreshold(level, scale > 0)


def _behind(linear: nn.Conv2d | nn.Linear, scale: Tensor, shift: Tensor) -> nn.Module:
    """linear, then a x + b for each of its outputs."""
    weight = linear.weight * scale.view(-1, *[1] * (linear.weight.dim() - 1))
    return _linear(linear, weight, shift if linear.bias is None else linear.bias * scale + shift)


def _in_front(linear: nn.Conv2d | nn.Linear, scale: Tensor, shift: Tensor) -> nn.Module:
    """a x + b for each channel, then linear."""
    if isinstance(linear, nn.Conv2d) and (linear.padding not in (0, (0, 0)) or linear.groups > 1):
        raise _no_form(
            "the convolution behind a norm and its ReLU is padded or grouped, so the shift has no constant effect"
        )
    cells = linear.weight.shape[1] // len(scale)  # flattened features have several entries of each channel
    scale, shift = (x.repeat_interleave(cells).view(-1, *[1] * (linear.weight.dim() - 2)) for x in (scale, shift))
    bias = (linear.weight * shift).flatten(1).sum(1)
    return _linear(linear, linear.weight * scale, bias if linear.bias is None else linear.bias + bias)


def _linear(layer: nn.Conv2d | nn.Linear, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """A new layer like `layer`, with these weights."""
    new: nn.Conv2d | nn.Linear
    if isinstance(layer, nn.Conv2d):
        new = nn.Conv2d(
            layer.in_channels, layer.out_channels, layer.kernel_size,  # type: ignore[arg-type]
            layer.stride, layer.padding, layer.dilation, layer.groups,  # type: ignore[arg-type]
            bias is not None, layer.padding_mode, device="meta",
        )  # fmt: skip
    else:
        new = nn.Linear(layer.in_features, layer.out_features, bias is not None, device="meta")
    new.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        new.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return new


DROPPED = (nn.Identity, nn.Dropout, nn.Dropout2d, StochasticDepth)  # the identity in evaluation mode

# Kind of layer -> a new one like it, without its hooks; norms, which are merged, are kept. Others have no rule.
LAYERS: Mapping[type[nn.Module], Callable[[Any], nn.Module]] = {
    nn.Conv2d: lambda layer: _linear(layer, layer.weight, layer.bias),
    nn.Linear: lambda layer: _linear(layer, layer.weight, layer.bias),
    nn.BatchNorm2d: lambda layer: layer,
    FrozenBatchNorm2d: lambda layer: layer,
    SyncBatchNorm2d: lambda layer: layer,
    nn.ReLU: lambda layer: nn.ReLU(),
    nn.MaxPool2d: lambda layer: nn.MaxPool2d(
        layer.kernel_size, layer.stride, layer.padding, layer.dilation, ceil_mode=layer.ceil_mode
    ),
    nn.AvgPool2d: lambda layer: nn.AvgPool2d(
        layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode, layer.count_include_pad, layer.divisor_override
    ),
    nn.AdaptiveAvgPool2d: lambda layer: nn.AdaptiveAvgPool2d(layer.output_size),
    nn.Flatten: lambda layer: nn.Flatten(layer.start_dim, layer.end_dim),
}
