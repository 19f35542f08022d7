"""Structures, texts and bytes with something changed, somewhere."""

from __future__ import annotations

from contextlib import suppress
from random import Random
from typing import Any

NASTY: list[Any] = [
    None, True, False, 0, 1, -1, 3, 2**31, 2**63, 10**30, 10**400, 0.5, -0.5, 1e308, -1e308, float("nan"), float("inf"), 1e-320,
    "", " ", "x", "nan", "1_0", "1e3", "é", "\0", "a/b", "../..", "/", "null", "true", [], [[]], {}, [1, 2], ["a"], {"a": 1},
    [[[]]], "x" * 5000,
]  # fmt: skip
WORDS = [
    "nan",
    "inf",
    "-1",
    "0",
    "1e999",
    "1_0",
    "",
    "x",
    "999999999999999999999",
    "1e9",
    "-0",
    "٣",
    "\0",
    ",",
    '"',
    "<",
    "[" * 3000,
]


class BrokenPromiseError(RuntimeError):
    """What was said to be fine was not."""


def mutate(tree: Any, random: Random) -> Any:
    """`tree` of dicts and lists with one thing changed, somewhere."""
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in items:
            places.append((node, key))
            walk(value)

    walk(tree)
    if not places:
        return random.choice(NASTY)
    node, key = random.choice(places)
    kind = random.choice(("delete", "replace", "replace", "tweak", "tweak", "rename", "nest", "swap", "double"))
    if kind == "tweak" and isinstance(node[key], int | float):
        node[key] = node[key] * random.choice((2, 0.5, 10, 0)) + random.choice((0, 1))
        return tree
    if kind == "delete":
        del node[key]
    elif kind in ("replace", "tweak"):
        node[key] = random.choice(NASTY)
    elif kind == "rename" and isinstance(node, dict):
        node[f"{key}{random.choice('sx_')}" if isinstance(key, str) else 77] = node.pop(key)
    elif kind == "nest":
        node[key] = random.choice(([node[key]], {"a": node[key]}))
    elif kind == "swap":
        other, place = random.choice(places)
        with suppress(KeyError, IndexError):
            node[key], other[place] = other[place], node[key]
        if _is_cyclic(tree):
            node[key] = None
    elif isinstance(node, list):
        node.append(node[key])
    return tree


def _is_cyclic(tree: Any, above: tuple[int, ...] = ()) -> bool:
    if not isinstance(tree, dict | list):
        return False
    values = tree.values() if isinstance(tree, dict) else tree
    return id(tree) in above or any(_is_cyclic(value, (*above, id(tree))) for value in values)


def flip_bytes(content: bytes, random: Random) -> bytes:
    """Some bytes changed, or the end missing, or something in front."""
    kind = random.choice(("flip", "flip", "cut", "empty", "front", "middle"))
    if kind == "flip" and content:
        changed = bytearray(content)
        for _ in range(random.randint(1, 20)):
            changed[random.randrange(len(changed))] = random.randrange(256)
        return bytes(changed)
    if kind == "middle" and content:
        at = random.randrange(len(content))
        return content[:at] + content[at + random.randint(1, 50) :]
    return {"empty": b"", "front": b"\xef\xbb\xbf" + content}.get(kind, content[: random.randrange(len(content) + 1)])
