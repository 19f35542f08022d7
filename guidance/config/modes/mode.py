"""What a training mode is: a row of data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guidance.config.fields import Section
from guidance.models import Backbone, Classifier
from guidance.models.weights import WeightLayout
from guidance.objectives import Classification, Localization, Objective

if TYPE_CHECKING:
    from guidance.config.schema import Config


def own_depths(config: Config, backbone: Backbone) -> tuple[str, tuple[str, ...]]:
    """The name of the net and its depths, where the mode leaves it as it is."""
    return config.model.name, backbone.depths


@dataclass(frozen=True)
class Mode:
    """A row of MODES. Its functions see the whole config, of which its own section has the name of the mode."""

    # config, net, and what it says about classification and guidance -> the list of terms
    objective: Callable[[Config, Classifier, Classification, Localization], Objective]
    section: type[Section] | None = None  # its own settings; all of them need a default
    check: Callable[[Config, Backbone], None] | None = None  # raises ValueError for settings that do not fit together
    # name of the net, where it is explained
    depths: Callable[[Config, Backbone], tuple[str, tuple[str, ...]]] = own_depths
    # config, number of classes -> what builds a classifier around the backbone; and what the weights of such a net look like
    wrapping: Callable[[Config, int], Callable[[Classifier], Classifier]] | None = None
    layout: WeightLayout | None = None
    # config -> the metrics that select checkpoints where pareto.metrics names none; None: those of the section
    selects: Callable[[Config], list[str]] | None = None
    region_weight: str | None = None  # setting of its section that, above 0, needs annotated regions
    # whether the number of epochs decides what happens in an epoch, so that a resumed run must keep it
    epochs_matter: bool = False

    def __post_init__(self) -> None:
        if (self.wrapping is None) != (self.layout is None):
            raise ValueError(
                "a mode that wraps nets says what their weights look like, and no other does: set both or none"
            )
