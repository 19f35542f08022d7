"""Pretrained weights: found on disk or downloaded once when asked for, renamed, checked, loaded."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from guidance import distributed


@dataclass(frozen=True)
class WeightLayout:
    """What the state dict of a net looks like that a training mode has built around a backbone."""

    mode: str  # objective.mode
    prefix: str  # before the names of the backbone's own weights; no other state dict has such names
    heads: str  # what the mode calls its classifiers, where it replaces the backbone's
    hint: str = ""  # what to look at where weights do not fit, as a question

    def holds(self, state: Mapping[str, Tensor]) -> bool:
        """Whether `state` is of such a net."""
        return any(key.startswith(self.prefix) for key in state)

    def head(self, state: Mapping[str, Tensor], head: str) -> str:
        """The name of the classifier in `state`; `head` is that of the backbone."""
        return self.heads if any(key.startswith(f"{self.heads}.") for key in state) else self.prefix + head


LOG = logging.getLogger(__name__)
SHOWN = 5  # keys that do not fit


def fetch(url: str) -> dict[str, Tensor]:
    """The state dict at `url`, from torch's hub folder if it lies there, else downloaded and checked by its hash.

    Raises ValueError that names the file, its address and the folder to put it in where the download fails.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / Path(urlparse(url).path).name

    def download() -> None:
        if path.exists():
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=_hash_prefix(path), progress=True)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    failure = first_here(download)
    if failure:
        raise ValueError(
            f"the weights {path.name} are not at {path} and could not be downloaded ({failure}). "
            f"Download {url} on a machine with a network and put the file there, or set model.weights to its path, "
            "or to 'none' for fresh weights."
        )
    return read(path)


def first_here(download: Callable[[], object]) -> str:
    """Run `download` on one process of each machine, while the others wait; what went wrong anywhere. A collective call."""
    failure = ""
    if distributed.is_local_main():
        try:
            download()
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
    return next((text for text in distributed.gather_objects(failure) if text), "")


def _hash_prefix(path: Path) -> str | None:
    """What the SHA-256 of the file must start with, from its name ("resnet18-f37072fd.pth"), where the name has it."""
    match = re.search(r"-([0-9a-f]{8,})\.", path.name)
    return match.group(1) if match else None


def read(path: Path, names: Sequence[str] = ("imagenet",)) -> dict[str, Tensor]:
    """The state dict in `path`: a plain one, one under "state_dict", or one of this project's checkpoints.

    `names`: of weights that could have been asked for instead, for messages.
    """
    if not path.is_file():
        known = ", ".join(map(repr, names))
        raise ValueError(
            f"model.weights: there is no file {path}. Give the path of a state dict, {f'{known} or ' if known else ''}'none'."
        )
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"model.weights: {path} is not a readable file of weights (truncated, or more than plain tensors inside): {error}"
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(f"model.weights: {path} holds no state dict (a mapping from names to tensors)")
    return content


def strip_prefixes(state: Mapping[str, Tensor], prefixes: tuple[str, ...] = ("module.", "net.")) -> dict[str, Tensor]:
    """Remove wrappers' prefixes that every key carries (DataParallel's, or our Classifier's), in any order.

    And one "0.": B-cos nets were published as the first part of a sequence whose second part has no weights.
    """
    result, left = dict(state), [*prefixes, "0."]
    while any(hits := [p for p in left if result and all(k.startswith(p) for k in result)]):
        result = {key.removeprefix(hits[0]): value for key, value in result.items()}
        if hits[0] == "0.":
            left.remove("0.")
    return result


def load_weights(net: nn.Module, state: Mapping[str, Tensor], *, head: str, source: str, hint: str = "") -> None:
    """Load `state` into `net`; a classifier layer `head` that it lacks, or has for other classes, keeps its fresh weights.

    Raises ValueError that names missing and unexpected keys and other tensors of a wrong shape, the first few of each; `hint`:
    what else it asks there.
    """
    state = strip_prefixes(state)
    own = net.state_dict()
    if not any(key.startswith(head + ".") for key in state):  # as of weights that were learnt without labels
        LOG.info("%s: there is no classifier, so that it starts fresh", source)
        state = {**state, **{key: value for key, value in own.items() if key.startswith(head + ".")}}
    wrong = [key for key in state if key in own and state[key].shape != own[key].shape]
    replaced = [key for key in wrong if key.startswith(head + ".")]
    if replaced:
        LOG.info("%s: the classifier has another number of classes and starts fresh (%s)", source, ", ".join(replaced))
        state = {key: value for key, value in state.items() if not key.startswith(head + ".")}
    kept = {key: value for key, value in own.items() if not (replaced and key.startswith(head + "."))}
    # Released files may be older than these counters, which decide nothing where a norm has a momentum.
    kept = {key: value for key, value in kept.items() if key in state or not key.endswith(".num_batches_tracked")}
    problems = _misfits(kept, state)
    if problems:
        raise ValueError(
            f"the weights of {source} do not fit this net. Keys {problems}. Is model.name the net they belong to"
            f"{f' ({hint})' if hint else ''}?"
        )
    net.load_state_dict({**own, **state})


def restore(module: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Load what `module.state_dict()` gave when a checkpoint was written; all of it must fit. ValueError where it does not."""
    problems = _misfits(module.state_dict(), state)
    if problems:
        raise ValueError(
            f"the weights in {source} do not fit the net of its config. Keys {problems}. Another model.name or objective.mode "
            "is another net: to start a run of it from these weights, give them as model.weights"
        )
    module.load_state_dict(dict(state))


def _misfits(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> str:
    """Which keys of a net and of a state dict do not fit; the first few of each kind."""
    found = {
        "missing": [key for key in own if key not in state],
        "unexpected": [key for key in state if key not in own],
        "of another shape": [
            f"{key} {tuple(value.shape)} instead of {tuple(own[key].shape)}"
            for key, value in state.items()
            if key in own and value.shape != own[key].shape
        ],
        "of another type": [
            f"{key} {value.dtype}"
            for key, value in state.items()
            if key in own and value.is_floating_point() != own[key].is_floating_point()
        ],
        "with values that are not finite": [key for key, value in state.items() if not value.isfinite().all()],
    }
    return "; ".join(f"{what}: {_listed(keys)}" for what, keys in found.items() if keys)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
