"""Weights under the names of torchvision's net of the same architecture."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from guidance.inference import Run
from guidance.models.aim import MaskedClassifier
from guidance.models.vit.positions import resized_positions

POSITIONS = "encoder.pos_embedding"


def torchvision_options(run: Run) -> dict[str, Any]:
    """What torchvision.models.get_model takes, beside the name, to build the run's net.

    Raises ValueError where torchvision does not have that net.
    """
    from torchvision.models import list_models  # takes two seconds

    name = run.config.model.name
    if name not in list_models() or isinstance(run.model, MaskedClassifier):
        mode = " with the masks of AIM" if isinstance(run.model, MaskedClassifier) else ""
        raise ValueError(
            f"torchvision has no net {name}{mode}, so there is nothing that its plain weights would fit; take "
            "--to torch.export or --to onnx, which hold the net with its weights"
        )
    size = {"image_size": run.config.data.image_size} if POSITIONS in run.model.net.state_dict() else {}
    return {"num_classes": len(run.classes), **size}


def torchvision_state(run: Run) -> dict[str, Tensor]:
    """The run's weights, on the CPU, as torchvision's net of that name has them.

    Our nets are torchvision's and keep its names; a position embedding is resized to the run's images once, where our ViTs
    do it in each forward pass.
    """
    state = {name: x.detach().cpu().clone() for name, x in run.model.net.state_dict().items()}
    if POSITIONS in state:
        net: Any = run.model.net
        state[POSITIONS] = resized_positions(state[POSITIONS], run.config.data.image_size // net.patch_size)
    return state


def torchvision_net(run: Run, state: dict[str, Tensor]) -> nn.Module:
    """torchvision's own net with these weights, in evaluation mode."""
    from torchvision.models import get_model

    with torch.random.fork_rng(devices=[]):
        net: nn.Module = get_model(run.config.model.name, **torchvision_options(run))
    net.load_state_dict(state, strict=True)
    return net.eval()
