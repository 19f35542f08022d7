"""Localisation losses: how far an attribution map is from lying in its mask.

Every loss takes raw signed maps [M, h, w] and bool masks [M, H, W] and returns one value per map [M], unreduced: the
objective reduces by global counts. The order is fixed: what the loss asks for (positive part, division by the largest
magnitude of the map) at the resolution of the map, then bilinear upsampling to the mask, then the loss. All of it
runs in float32 at least, with autocast off. Every value and gradient is finite, whatever the (finite) map and the mask.
A map is without positive energy if its positive part sums to no more than 1e-7 of its magnitudes; only RRR, which is
signed, gives such a map a gradient.

Equations are those of Rao et al. 2023, "Studying How to Efficiently and Effectively Guide Models with Explanations".
As in its published code, the gradient flows through the division by the largest magnitude. To add a loss, write the
function, its slow version in tests/reference/, and a row in LOCALIZATION_LOSSES.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor

from guidance.maps import energy_share, full_precision, positive_energy, safe_denominator, upsample
from guidance.types import check_options, lookup

LocalizationLoss = Callable[[Tensor, Tensor], Tensor]


def energy(attribution: Tensor, mask: Tensor) -> Tensor:
    """1 - EPG [M], in [0, 1]: the share of positive attribution outside the mask (Eq. 6 and 2).

    Invariant to the scale of the map. A map without positive energy gives exactly 1 and no gradient.
    Departures: the paper writes -EPG, its code 1 - EPG. For a sum below 1e-7 that code returns 1 minus the raw sum
    inside the mask; here the limit is 1e-7 of the map's own absolute energy, so that small maps are guided like large
    ones.
    """
    _check(attribution, mask)
    with full_precision(attribution) as raw:
        return 1 - energy_share(upsample(raw, _size(mask)), mask)


def energy_star(attribution: Tensor, mask: Tensor, *, alpha: float = 0.5, area: str = "pixels") -> Tensor:
    """1 - EPG / area ** alpha [M]: Energy that asks less of large masks (Energy*).

    Reproducibility study of Rao et al., Sec. 4.2, where alpha is 0.5. `area`: "pixels" of the union mask, at the size
    of the mask, or their "fraction" of it, in (0, 1]; at least one pixel. With pixels the gradient is area ** alpha
    (100 for a typical mask at 224 x 224) times smaller than that of `energy`.
    Departure: the published code adds up the boxes, so that overlaps count twice, before their dilation, and divides
    by zero for an empty mask.
    """
    _check(attribution, mask)
    if area not in ("pixels", "fraction"):
        raise ValueError(f"area of energy_star must be 'pixels' or 'fraction', not {area!r}")
    with full_precision(attribution) as raw:
        share = energy_share(upsample(raw, _size(mask)), mask)
        pixels = mask.sum((1, 2)).clamp_min(1).to(share.dtype)
        size = pixels if area == "pixels" else pixels / (mask.shape[1] * mask.shape[2])
        return 1 - share / size**alpha


def l1(attribution: Tensor, mask: Tensor) -> Tensor:
    """Mean over all pixels of |A - M| [M], in [0, 1], for the positive part A divided by its largest value (Eq. 3).

    A map without positive energy counts as zero everywhere: the area fraction of the mask, and no gradient.
    """
    _check(attribution, mask)
    with full_precision(attribution) as raw:
        normalised = upsample(_normalise(positive_energy(raw)[0]), _size(mask))
        return (normalised - mask.to(normalised.dtype)).abs().mean((1, 2))


def ppce(attribution: Tensor, mask: Tensor) -> Tensor:
    """Mean over the pixels of the mask of -ln A [M], for the positive part A divided by its largest value (Eq. 4).

    In [0, 13.8]: A is clamped to [1e-6, 1], so pixels below 1e-6, and maps without positive energy, get no gradient. An
    empty mask gives 0.
    Departure: the published code clamps the logarithm at -100, whose gradient reaches 1e12 at A = 0, and is NaN for
    an empty mask and, in the gradient, for a map without a positive value.
    """
    _check(attribution, mask)
    with full_precision(attribution) as raw:
        normalised = upsample(_normalise(positive_energy(raw)[0]), _size(mask))
        surprise = -normalised.clamp(1e-6, 1).log()
        return (surprise * mask).sum((1, 2)) / mask.sum((1, 2)).clamp_min(1)


def rrr(attribution: Tensor, mask: Tensor) -> Tensor:
    """Sum over the pixels outside the mask of A^2 [M], in [0, H * W], A signed and over its largest magnitude (Eq. 5).

    RRR*, the form of "right for the right reasons" for any attribution. A sum, not a mean, as published: its size
    grows with the resolution of the mask. An all-zero map gives 0.
    """
    _check(attribution, mask)
    with full_precision(attribution) as raw:
        normalised = upsample(_normalise(raw), _size(mask))
        return (normalised.square() * ~mask).sum((1, 2))


LOOKS: Mapping[str, str] = {
    "inside": "in the mask", "outside": "around it", "both": "in the mask and around it",
}  # fmt: skip


@dataclass(frozen=True)
class Loss:
    """A localisation loss, and what is true of it.

    `looks`: "outside" where only evidence outside the mask is penalised and the value does not depend on the mask
    otherwise, so that a mask may be everything but the places where evidence must not lie; "inside" where what lies outside
    changes nothing; "both" for every other loss. `options`: what the function takes by name beside maps and masks, with the
    defaults. `signed`: negative attribution counts too, so a map without positive energy has a gradient.
    """

    function: Callable[..., Tensor]  # (attribution [M, h, w], mask [M, H, W] bool, *, options) -> [M]
    looks: Literal["inside", "outside", "both"]
    options: Mapping[str, Any] = field(default_factory=dict)  # name -> default
    signed: bool = False
    # of the options: those that are settings of objective.localization, beside `options` there
    settings: Sequence[str] = ()

    def __post_init__(self) -> None:
        lookup(LOOKS, self.looks, "place where a loss looks")


LOCALIZATION_LOSSES: dict[str, Loss] = {
    "energy": Loss(energy, looks="outside"),
    "l1": Loss(l1, looks="both"),
    "ppce": Loss(ppce, looks="inside"),
    "rrr": Loss(rrr, looks="outside", signed=True),
    # What it asks of a map depends on the size of the mask.
    "energy_star": Loss(
        energy_star, looks="both", options={"alpha": 0.5, "area": "pixels"}, settings=("alpha", "area")
    ),
}


def localization_loss(name: str, options: Mapping[str, Any] = MappingProxyType({})) -> LocalizationLoss:
    """The loss of that name as a function of maps and masks, with `options` in place of its defaults.

    Raises ValueError for an unknown loss, and for an option that it does not take.
    """
    row = lookup(LOCALIZATION_LOSSES, name, "localisation loss")
    check_options(options, row.options, f"the loss {name}")
    return partial(row.function, **{**row.options, **options}) if row.options else row.function


def looking_outside() -> str:
    """The losses of the table that can use what is only known of where evidence must not lie, for messages: "energy or rrr"."""
    return " or ".join(name for name, row in LOCALIZATION_LOSSES.items() if row.looks == "outside")


def _normalise(attribution: Tensor) -> Tensor:
    peak = attribution.abs().amax((1, 2), keepdim=True)
    return attribution / safe_denominator(peak)


def _size(mask: Tensor) -> tuple[int, int]:
    return mask.shape[1], mask.shape[2]


def _check(attribution: Tensor, mask: Tensor) -> None:
    if attribution.dim() != 3 or mask.dim() != 3 or len(attribution) != len(mask):
        raise ValueError(
            f"expected maps [M, h, w] and masks [M, H, W] with the same M, "
            f"but got {list(attribution.shape)} and {list(mask.shape)}"
        )
    if mask.dtype != torch.bool:
        raise ValueError(
            f"masks must be bool (True where evidence may lie), not {mask.dtype}; threshold a soft mask first"
        )
