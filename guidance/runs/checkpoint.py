"""Checkpoints: one file each, of plain types and tensors, written so that a kill at any moment loses nothing.

A file is written beside its final name, flushed to the disk and renamed over the old one, so a reader sees the old or
the new checkpoint and never a part of one. The Pareto front of a run is a folder of such files (`ParetoFolder`).
"""

from __future__ import annotations

import difflib
import errno
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from guidance.runs.pareto import Candidate, ParetoFront

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
_SUFFIX, _TEMPORARY = ".pt", ".tmp"


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
    temporary = path.with_name(path.name + _TEMPORARY)
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
        return _read(path, verify=True)
    except FileNotFoundError:
        raise ValueError(f"no checkpoint at {path}{_suggestion(path)}") from None


def _suggestion(path: Path) -> str:
    """What the user may have meant: checkpoints in the folder, or a run folder of a similar name."""
    found = sorted(p.name for p in path.parent.glob(f"*{_SUFFIX}"))
    if found:
        return f"; the folder {path.parent} has: {', '.join(found)}"
    return similar(path)


def similar(path: Path) -> str:
    """ ". Did you mean ...?" with the folder whose name is closest to the first part of `path` that is not there."""
    missing = next((p for p in (*reversed(path.parents), path) if not p.exists()), path)
    if not missing.parent.is_dir():
        return ""
    names = [p.name for p in missing.parent.iterdir() if p.is_dir()]
    close = difflib.get_close_matches(missing.name, names, n=1)
    return f". Did you mean {missing.parent / close[0]}?" if close and not missing.exists() else ""


def _read(path: Path, *, verify: bool) -> dict[str, Any]:
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
    if path.suffix != _SUFFIX or path.parent.name not in ("checkpoints", "pareto"):
        return "Give the folder of a run, or one of its checkpoints"
    folder = path.parent if path.parent.name != "pareto" else path.parent.parent
    others = [p for p in sorted([*folder.glob(f"*{_SUFFIX}"), *(folder / "pareto").glob(f"*{_SUFFIX}")]) if p != path]
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


class Saved(NamedTuple):
    """A checkpoint on disk, without its weights."""

    path: Path
    candidate: Candidate  # named by the file's stem
    epoch: int
    step: int
    config: Mapping[str, Any]


def read_candidates(folder: str | Path) -> list[Saved]:
    """The checkpoints of a folder (`*.pt`), oldest first, without loading their weights.

    It may run beside a training that writes there: if a file goes away meanwhile, the folder is read again, so that
    the file that made it go is among the result. ValueError for a file that cannot be read, or that has no metrics.
    """
    for _ in range(100):
        with suppress(FileNotFoundError):
            saved = [_read_candidate(path) for path in Path(folder).glob(f"*{_SUFFIX}")]
            return sorted(saved, key=lambda s: (s.epoch, s.step, s.candidate.name))
    raise ValueError(f"{folder} lists a checkpoint that cannot be opened; is there a link to a file that is gone?")


def _read_candidate(path: Path) -> Saved:
    state = _read(path, verify=False)
    if not state["metrics"]:
        raise ValueError(f"{path} has no metrics: it was saved before the first evaluation; take it out of the folder")
    return Saved(path, Candidate(path.stem, state["metrics"]), state["epoch"], state["step"], state["config"])


class ParetoFolder:
    """A folder that holds the non-dominated checkpoints of a run, `<name>.pt` each, and no other `.pt` files.

    The files are the front: each carries its own metrics, and there is no index that could disagree with them. A new
    member is written before those that it dominates are removed, so after a kill at any moment the folder holds the
    front and at most some dominated files; making a `ParetoFolder` removes those. One process may write at a time.
    """

    def __init__(self, folder: str | Path, metrics: Sequence[str], *, resolution: float = 0.005) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        for temporary in self.folder.glob(f"*{_SUFFIX}{_TEMPORARY}"):
            os.unlink(temporary)
        candidates = [saved.candidate for saved in read_candidates(self.folder)]
        self._front = ParetoFront(metrics, resolution=resolution, members=candidates)
        kept = {member.name for member in self._front.members}
        self._remove(candidate.name for candidate in candidates if candidate.name not in kept)

    @property
    def members(self) -> list[Candidate]:
        """The front, oldest first."""
        return self._front.members

    def path(self, name: str) -> Path:
        """File of the member of that name."""
        return self.folder / f"{name}{_SUFFIX}"

    def offer(self, name: str, values: Mapping[str, float], state_fn: Callable[[], Mapping[str, Any]]) -> bool:
        """Keep a checkpoint if no member dominates it; returns whether it was kept.

        `values` go into the file as its metrics (all of them, not only those of the front). `state_fn()` is called only
        for a checkpoint that is kept. If writing fails (as in `save`), the front and its files stay as they were.
        """
        candidate = Candidate(name, {metric: float(value) for metric, value in values.items()})
        front = ParetoFront(self._front.metrics, resolution=self._front.resolution, members=self.members)
        kept, evicted = front.offer(candidate)
        if kept:
            save(self.path(name), {**state_fn(), "metrics": dict(candidate.values)})
        self._front = front
        self._remove(member.name for member in evicted)
        return kept

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            with suppress(FileNotFoundError):
                os.unlink(self.path(name))


def check_config(saved: Mapping[str, Any], current: Mapping[str, Any], *, ignore: Collection[str] = ()) -> None:
    """ValueError that lists the settings in which two nested configs differ, with both values.

    `ignore`: dotted names ("trainer.epochs") or sections ("logs") that may differ. Lists and tuples count as equal.
    """
    before, now = flatten(saved), flatten(current)
    different = [
        f"  {key}: {before.get(key, '(absent)')!s} in the checkpoint, {now.get(key, '(absent)')!s} now"
        for key in sorted(before.keys() | now.keys())
        if before.get(key, "(absent)") != now.get(key, "(absent)")
        and not any(key == name or key.startswith(f"{name}.") for name in ignore)
    ]
    if different:
        raise ValueError(
            "this is the checkpoint of another config; they differ in\n"
            + "\n".join(different)
            + "\nSet these as in the checkpoint to resume, or start a new run in another folder."
        )


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings -> {"trainer.epochs": 50, ...}; tuples become lists."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = _as_lists(value)
    return flat


def _as_lists(value: Any) -> Any:
    return [_as_lists(item) for item in value] if isinstance(value, list | tuple) else value
