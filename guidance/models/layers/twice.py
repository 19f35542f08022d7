"""What torch cannot differentiate twice, which a loss on attributions needs, and equal forms that it can.

Found by gradgradcheck of all activations, norms, poolings, paddings, resizings, attentions and recurrent layers of torch 2.14
on a CPU: hard sigmoid and fused attention (also inside nn.MultiheadAttention) lack a second derivative there, in torch 2.6 the
hard swish too. That of `normalize` is NaN at vectors of zeros, which Swin V2 makes of the cells by which it pads its windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from guidance.models.layers.fused_attention import fused_attention, self_attention


def hardsigmoid(x: Tensor, inplace: bool = False) -> Tensor:
    """relu6(x + 3) / 6, as torch's, which has no second derivative (torch 2.15)."""
    return functional.relu6(x + 3) / 6


def hardswish(x: Tensor, inplace: bool = False) -> Tensor:
    """x * relu6(x + 3) / 6, as torch's, which has no second derivative in older releases (torch 2.6)."""
    return x * functional.relu6(x + 3) / 6


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Tensor | None = None) -> Tensor:
    """input / max(|input|_p, eps), as torch's, whose second derivative is NaN at zeros; `out` cannot be differentiated."""
    small = input.detach().norm(p, dim, keepdim=True) <= eps
    length = torch.where(small, 1.0, input).norm(p, dim, keepdim=True)  # never of zeros
    return input / torch.where(small, eps, length)


class Hardsigmoid(nn.Module):
    """`hardsigmoid` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return hardsigmoid(x)


class Hardswish(nn.Module):
    """`hardswish` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return hardswish(x)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """torch's, with its arguments: fused where it gets none but the first three, else by its plain formula."""
    if attn_mask is None and not dropout_p and not is_causal and scale is None and not enable_gqa:
        return fused_attention(query, key, value)
    result: Tensor = _plainly(
        functional.scaled_dot_product_attention, query, key, value, attn_mask, dropout_p, is_causal,
        scale=scale, enable_gqa=enable_gqa,
    )  # fmt: skip
    return result


def multi_head_attention_forward(*given: Any, **options: Any) -> Any:
    """torch's, with its arguments, by its plain formula."""
    return _plainly(functional.multi_head_attention_forward, *given, **options)


def _plainly(function: Callable[..., Any], *given: Any, **options: Any) -> Any:
    if not torch.is_grad_enabled():
        return function(*given, **options)
    with sdpa_kernel(SDPBackend.MATH):
        return function(*given, **options)


# What a module calls -> what it calls in place of it, with the same arguments.
FUNCTIONS: Mapping[Callable[..., Any], Callable[..., Any]] = {
    functional.hardsigmoid: hardsigmoid,
    functional.hardswish: hardswish,
    functional.normalize: normalize,
    functional.scaled_dot_product_attention: scaled_dot_product_attention,
    functional.multi_head_attention_forward: multi_head_attention_forward,
}
EQUALS: dict[type[nn.Module], type[nn.Module]] = {nn.Hardsigmoid: Hardsigmoid, nn.Hardswish: Hardswish}


def make_twice_differentiable(net: nn.Module) -> dict[nn.Module, nn.Module]:
    """Replace the layers of `net` that have an equal one in `EQUALS`, in place; none of them has weights.

    Returns old layer -> new one, for who holds the old ones.
    """
    replaced: dict[nn.Module, nn.Module] = {}
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if type(child) in EQUALS:
                setattr(parent, name, replaced.setdefault(child, EQUALS[type(child)]()))
    return replaced


class _Replacing(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return FUNCTIONS.get(func, func)(*args, **(kwargs or {}))


class Noting(TorchFunctionMode):
    """Calls `note` whenever one of `FUNCTIONS` is called inside the block."""

    def __init__(self, note: Callable[[], None]) -> None:
        super().__init__()
        self._note = note

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in FUNCTIONS:
            self._note()
        return func(*args, **(kwargs or {}))


def replace_calls(modules: Iterable[nn.Module]) -> None:
    """Let the forward of each of the modules call, in place of `FUNCTIONS`, their equal ones; done once for each."""
    for module in modules:
        if "forward" not in vars(module):
            attends = type(module) is nn.MultiheadAttention
            module.forward = MethodType(_attention_forward if attends else _replaced_forward, module)


def runs_own_forward(module: nn.Module) -> bool:
    """Whether calling it runs the forward of its class, maybe with calls replaced, and not one that was put in its place."""
    forward = vars(module).get("forward")
    return forward is None or getattr(forward, "__func__", None) is _replaced_forward


def _replaced_forward(module: nn.Module, *given: Any, **options: Any) -> Any:
    with _Replacing():
        return type(module).forward(module, *given, **options)


def _attention_forward(module: nn.MultiheadAttention, *given: Any, **options: Any) -> Any:
    """Self-attention as vision transformers call it is fused; everything else takes the plain formula."""
    alone = len(given) == 3 and given[0] is given[1] is given[2] and given[0].dim() == 3
    asked = {name for name, value in options.items() if value is not None and value is not False}
    plain = not asked and options.get("need_weights") is False and module.batch_first and module.bias_k is None
    whole = module._qkv_same_embed_dim and not module.add_zero_attn and not (module.dropout and module.training)
    if alone and plain and whole and torch.is_grad_enabled():
        return self_attention(module, given[0]), None
    return _replaced_forward(module, *given, **options)
