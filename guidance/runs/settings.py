"""Nested settings as flat names, and whether those of a checkpoint are the ones of the run that goes on from it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any


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
