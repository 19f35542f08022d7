"""Nested settings as flat names, and whether those of a checkpoint are the ones of the run that goes on from it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any


def check_config(saved: Mapping[str, Any], current: Mapping[str, Any], *, ignore: Collection[str] = ()) -> None:
    """ValueError that lists the settings in which two nested configs differ, with both values.

    `ignore`: dotted names ("trainer.epochs") or sections ("logs") that may differ. Lists and tuples count as equal.
    """
    different = [
        f"  {key}: {before!s} in the checkpoint, {now!s} now"
        for key, before, now in differences(saved, current, ignore=ignore)
    ]
    if different:
        raise ValueError(
            "this is the checkpoint of another config; they differ in\n"
            + "\n".join(different)
            + "\nSet these as in the checkpoint to resume, or start a new run in another folder."
        )


def differences(
    saved: Mapping[str, Any], current: Mapping[str, Any], *, ignore: Collection[str] = ()
) -> list[tuple[str, Any, Any]]:
    """(dotted name, its saved value, its current one) of each setting that differs; "(absent)" where it is not there.

    `ignore` as in `check_config`.
    """
    before, now = flatten(saved), flatten(current)
    return [
        (key, before.get(key, "(absent)"), now.get(key, "(absent)"))
        for key in sorted(before.keys() | now.keys())
        if before.get(key, "(absent)") != now.get(key, "(absent)")
        and not any(key == name or key.startswith(f"{name}.") for name in ignore)
    ]


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


# Parts of a config that are stored only where they are used.
WHERE_USED = (".options.", ".lens.", "model.input.")


def agree(first: Mapping[str, Any], second: Mapping[str, Any], *, free: Collection[str] = ()) -> bool:
    """Whether two flat configs say the same in all that both of them have, and in `WHERE_USED`; `free`: what may differ.

    They may be of different releases, so that one lacks a setting that the other has. What is stored where it is used says
    that it is not, where it lacks.
    """
    names = {name for name in (*first, *second) if any(part in name for part in WHERE_USED)} | (
        first.keys() & second.keys()
    )
    return all(first.get(name) == second.get(name) for name in names if name not in free)
