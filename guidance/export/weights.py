"""Weights under the names of a library's net of the same architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from guidance.inference import Run
from guidance.models.aim import MaskedClassifier
from guidance.models.sources.torchvision_nets import OPTIONS
from guidance.models.vit.positions import resized_positions

POSITIONS = "encoder.pos_embedding"


@dataclass(frozen=True)
class Library:
    """Where nets come from whose weights keep their names here."""

    known: Callable[[], list[str]]  # names of its nets
    build: Callable[..., nn.Module]  # (name, **options) -> a net of it
    options: Callable[[Run, str], dict[str, Any]]  # (run, name) -> the options that make the run's net
    own: bool = False  # whether nets of our table with a name of it are its, too


def _torchvision_names() -> list[str]:
    from torchvision.models import list_models  # takes two seconds

    return list(list_models())


def _torchvision_net(name: str, **options: Any) -> nn.Module:
    from torchvision.models import get_model

    net: nn.Module = get_model(name, **options)
    return net


def _torchvision_options(run: Run, name: str) -> dict[str, Any]:
    size = {"image_size": run.config.data.image_size} if POSITIONS in run.model.net.state_dict() else {}
    return {"num_classes": len(run.classes), **OPTIONS.get(name, {}), **size}


def _timm_names() -> list[str]:
    import timm  # an extra, which a run of such a net has needed

    return list(timm.list_models())


def _timm_net(name: str, **options: Any) -> nn.Module:
    import timm

    net: nn.Module = timm.create_model(name, **options)
    return net


LIBRARIES: Mapping[str, Library] = {
    "torchvision": Library(_torchvision_names, _torchvision_net, _torchvision_options, own=True),
    "timm": Library(_timm_names, _timm_net, lambda run, name: {"num_classes": len(run.classes)}),
}


def name_in(library: str, run: Run) -> str:
    """What the library calls the run's net. Raises ValueError where it does not have that net."""
    row, name = LIBRARIES[library], run.config.model.name
    source, slash, rest = name.rpartition("/")
    of_it = source == library if slash else row.own
    if not of_it or isinstance(run.model, MaskedClassifier) or rest not in row.known():
        mode = " with the masks of AIM" if isinstance(run.model, MaskedClassifier) else ""
        raise ValueError(
            f"{library} has no net {name}{mode}, so there is nothing that its plain weights would fit; take "
            "--to torch.export or --to onnx, which hold the net with its weights"
        )
    return rest


def library_options(library: str, run: Run) -> dict[str, Any]:
    """What builds the run's net there, beside its name. Raises ValueError where the library does not have it."""
    return LIBRARIES[library].options(run, name_in(library, run))


def library_state(run: Run) -> dict[str, Tensor]:
    """The run's weights, on the CPU, as the library's net of that name has them.

    Our nets are those of the library and keep its names; a position embedding is resized to the run's images once, where our
    ViTs do it in each forward pass.
    """
    state = {name: x.detach().cpu().clone() for name, x in run.model.net.state_dict().items()}
    if POSITIONS in state:
        net: Any = run.model.net
        state[POSITIONS] = resized_positions(state[POSITIONS], run.config.data.image_size // net.patch_size)
    return state


def library_net(library: str, run: Run, state: dict[str, Tensor]) -> nn.Module:
    """The library's own net with these weights, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        net = LIBRARIES[library].build(name_in(library, run), **library_options(library, run))
    net.load_state_dict(state, strict=True)
    return net.eval()
