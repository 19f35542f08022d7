"""Checkpoints: one file each, of plain types and tensors, written so that a kill at any moment loses nothing.

A file is written beside its final name, flushed to the disk and renamed over the old one, so a reader sees the old or
the new checkpoint and never a part of one. The Pareto front of a run is a folder of such files (`front_folder`).
"""

from __future__ import annotations

import errno
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from guidance.runs.paths import suggest_folder

FORMAT = "guidance checkpoint"
VERSION = 1

_REQUIRED: dict[str, tuple[type, ...]] = {
    "config": (dict,),  # nested, as in config.yaml
    "classes": (list,),  # names
    "model": (dict, OrderedDict),  # state dict
    "metrics": (dict, type(None)),  # name -> float; None before the first evaluation
    "epoch": (int,),
    "step": (int,),
}
_LEAVES = (type(None), bool, int, float, str, bytes, Tensor, nn.Parameter)
SUFFIX, TEMPORARY = ".pt", ".tmp"


def save(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write `state` atomically, with `format` and `version` added; makes the folder.

    `state` holds the keys config, classes, model, metrics, epoch and step, and may hold more. ValueError for a missing key, or
    for a value that is neither a tensor nor of a plain type (named by its place). OSError if the file cannot be
    written, such as on a full disk: then nothing is left behind, and a previous checkpoint of that name is untouched.
    """
    path = Path(path)
    state = {**state, "format": FORMAT, "version": VERSION}
    wrong = _wrong_schema(state)
    if wrong:
        raise ValueError(f"cannot save {path}: {wrong}")
    _check_plain(state, "state")
    existed = path.exists()
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        # torch reports a failed write as a RuntimeError; the cause is in its context.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(error, OSError | RuntimeError) or not isinstance(cause, OSError):
            raise
        before = "The previous checkpoint is untouched" if existed else "No file is left behind"
        reason = f"cannot write {path} ({cause.strerror or cause}). {before}; make room, then resume the run"
        raise OSError(cause.errno or errno.EIO, reason) from error
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    # The file is whole and in place by now; some file systems cannot sync a folder, which is no reason to fail.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _check_plain(value: Any, place: str) -> None:
    # Exact types: a subclass (numpy.float64 is a float) is pickled by its class, which weights_only refuses to load.
    kind = type(value)
    if kind in (dict, OrderedDict):
        for key, item in value.items():
            if type(key) not in (str, int):
                raise ValueError(f"{place} has the key {key!r} of type {type(key).__name__}; keys must be str or int")
            _check_plain(item, f"{place}[{key!r}]")
    elif kind in (list, tuple):
        for i, item in enumerate(value):
            _check_plain(item, f"{place}[{i}]")
    elif kind not in _LEAVES:
        raise ValueError(
            f"{place} is a {kind.__module__}.{kind.__qualname__}; a checkpoint holds only None, bool, int, float, str, "
            "bytes, list, tuple, dict and tensors. Convert it, for example with float(), str(), dict() or .tolist()"
        )


def _wrong_schema(state: Mapping[str, Any]) -> str | None:
    for key, kinds in _REQUIRED.items():
        if key not in state:
            return f"the key {key!r} is missing (a checkpoint needs {', '.join(_REQUIRED)})"
        if type(state[key]) not in kinds:
            return f"the key {key!r} holds a {type(state[key]).__name__}, expected a {kinds[0].__name__}"
    if not _is_weights(state["model"]):
        return "the key 'model' holds something else than tensors by their names"
    if not all(type(name) is str for name in state["classes"]):
        return "the key 'classes' holds something else than names"
    numbers = (state["metrics"] or {}).items()
    if not all(type(name) is str and type(value) in (int, float) for name, value in numbers):
        return "the key 'metrics' holds something else than numbers by their names"
    front = state.get("front", [])
    if type(front) is not list or not all(type(name) is str for name in front):
        return "the key 'front' holds something else than names"
    if min(state["epoch"], state["step"]) < 0:
        return "its epoch or step is below 0"
    return None


def load(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, never unpickling arbitrary objects.

    ValueError, saying which it is and what to do, if the file is missing, truncated or corrupt (its checksums are
    verified), was not written by `save`, or was written by another version of the format.
    """
    path = Path(path)
    try:
        return read(path, verify=True)
    except FileNotFoundError:
        raise ValueError(f"no checkpoint at {path}{_suggestion(path)}") from None


def _suggestion(path: Path) -> str:
    """What the user may have meant: checkpoints in the folder, or a run folder of a similar name."""
    found = sorted(p.name for p in path.parent.glob(f"*{SUFFIX}"))
    if found:
        return f"; the folder {path.parent} has: {', '.join(found)}"
    return suggest_folder(path)


def read(path: Path, *, verify: bool) -> dict[str, Any]:
    """As `load`; without `verify` the weights stay on the disk until they are used. FileNotFoundError if missing."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give one checkpoint file, such as {path / 'last.pt'}")
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no file but a pipe or a device")
    zipped = _is_zip(path)
    try:
        if zipped and verify:
            _verify(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped and not verify)
    except (FileNotFoundError, PermissionError, MemoryError):
        raise
    except Exception as error:
        if zipped and isinstance(error, pickle.UnpicklingError):
            raise ValueError(f"{_foreign(path)}: it holds Python objects, which may run code when loaded") from error
        reason = str(error) if isinstance(error, _DamagedError) else f"reading it ends in a {type(error).__name__}"
        reason = reason if zipped else "it does not end as such a file does"
        raise ValueError(
            f"{path} is truncated or corrupt, or no checkpoint at all: {reason}. {_advice(path)}"
        ) from error
    return _check_loaded(path, state)


def _is_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # what it says of a damaged directory
        return False


class _DamagedError(Exception):
    """Says what is wrong with a file."""


def _verify(path: Path) -> None:
    """Compare the checksums that torch writes and does not look at."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise _DamagedError(f"the checksum of its part {damaged} is wrong")


def _advice(path: Path) -> str:
    """What helps where a checkpoint is corrupt: the others of its run that are whole."""
    if path.suffix != SUFFIX or path.parent.name not in ("checkpoints", "pareto"):
        return "Give the folder of a run, or one of its checkpoints"
    folder = path.parent if path.parent.name != "pareto" else path.parent.parent
    others = [p for p in sorted([*folder.glob(f"*{SUFFIX}"), *(folder / "pareto").glob(f"*{SUFFIX}")]) if p != path]
    whole = [str(p) for p in others if p.is_file() and _is_zip(p)]
    if not whole:
        return "Delete it; the run has no other checkpoint, and must start from the beginning"
    return (
        f"Delete it. Beside it there {'is' if len(whole) == 1 else 'are'} {', '.join(whole)}, to evaluate or to start a new "
        "run from (model.weights)"
    )


def _foreign(path: Path) -> str:
    return f"{path} is not a checkpoint of guidance"


def _check_loaded(path: Path, state: Any) -> dict[str, Any]:
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        hint = ""
        if isinstance(state, dict) and (_is_weights(state) or _is_weights(state.get("state_dict"))):
            hint = f". It looks like plain weights: to start from them, set `model.weights: {path}`"
        raise ValueError(f"{_foreign(path)}: it lacks `format: {FORMAT}`{hint}")
    if state.get("version") != VERSION:
        raise ValueError(
            f"{path} has version {state.get('version')} of the checkpoint format, but version {VERSION} is expected: "
            "use the release of guidance that wrote it"
        )
    wrong = _wrong_schema(state)
    if wrong:
        raise ValueError(f"{path} is not a complete checkpoint: {wrong}")
    return state


def _is_weights(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and len(value) > 0
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in value.items())
    )
